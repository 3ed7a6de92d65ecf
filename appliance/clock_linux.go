package appliance

import "golang.org/x/sys/unix"

// modesTell: rights of files say who may read them.
const modesTell = true

// kernelClock reports whether the operating system keeps the clock by a time server.
func kernelClock() (synchronized, known bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, err == nil
}
