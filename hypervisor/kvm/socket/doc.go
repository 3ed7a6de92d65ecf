// Package socket connects to the Unix sockets that a QEMU listens on: its monitors, and the
// channel of the guest agent.
package socket
