// Package qmp speaks the QEMU Machine Protocol: JSON commands to a running QEMU
// and its events, over a socket.
//
// QEMU serves one client per socket at a time. A second one connects, but gets no
// greeting until the first has gone; [Dial] then waits until its ctx ends. That is
// why the provider gives every QEMU several sockets and keeps none of them longer
// than an operation takes.
//
// QEMU's monitor thread greets a client, and its main thread tells events: until
// the greeting is written, events (and the reply to a command whose client has
// gone) still go out as in the session before, to the new client. They are passed
// over. Replies come in the order of the commands, so an old one that comes later
// is never taken for a new one, though both count from 1.
//
// Replies are matched to commands by id, so that one Conn serves several
// goroutines. Events that nobody takes are dropped: they are hints to look again,
// never the only bearer of a fact.
package qmp
