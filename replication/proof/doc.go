// Package proof tells the tests that prove something how often they are to try, and for
// how long. By themselves they are short, for everybody who runs the tests of a package;
// the long proof asks for more with the environment variables that each of them names.
//
// A value that cannot be read fails the test. Taken for the short form, it would print a
// figure that nobody has asked for.
package proof
