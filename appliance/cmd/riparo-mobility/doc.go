// Riparo-mobility is the agent that runs inside a protected machine where no
// hypervisor can read its disks: on physical servers and on cloud instances.
//
// What it does today:
//
//	riparo-mobility inventory [--json]   this machine's disks and file systems, its boot, and
//	                                     which change tracking could be used here
//	riparo-mobility version
//
// What comes later, and is not in it yet: registering with a configuration server,
// tracking changed blocks, reading disks at a recovery point and sending them. A
// machine is protected by its hypervisor until then.
//
// The agent is one small static program. It never meets a database, a web server or
// the console; the house test holds that.
package main
