//go:build !linux

package appliance

import "runtime"

// modesTell: rights of files say who may read them.
var modesTell = runtime.GOOS != "windows"

// kernelClock: whether the operating system keeps the clock cannot be asked here.
func kernelClock() (synchronized, known bool) { return false, false }
