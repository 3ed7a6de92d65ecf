// Package appliance is the composition root: it puts the rooms together into one
// daemon that is configuration server, process server and master target at once.
//
//	a, err := appliance.Open(ctx, appliance.Config{Data: dir, Listen: "127.0.0.1:9443"})
//	…
//	err = a.Run(ctx)   // until ctx ends
//	err = a.Close()
//
// Tests start it with port 0 exactly as the command line does. Closing goes in the
// order opposite to opening: first what takes requests, then what works, then what
// remembers.
package appliance
