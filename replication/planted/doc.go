// Package planted shows that tests can fail. It plants mistakes in a copy of the real
// code, one at a time, and runs the tests that must find them.
//
// A [Bug] is one place of the code and what somebody might have written there instead.
// All bugs of a list are compiled into one test binary: the function that a bug lies in
// gets a twin with the bug in it, and a switch at its beginning that calls the twin when
// this bug is asked for. The copy reaches the compiler as an overlay, so the code itself
// is never touched, and no product binary knows of any of it.
//
// A test that lets a seed decide tells which seed found the bug, in the words
// "seed 17". [Tries] tells it how many seeds it has.
package planted
