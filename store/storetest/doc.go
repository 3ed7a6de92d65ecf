// Package storetest opens stores for tests of other packages: a real file in a
// folder of the test, checked when the test ends.
package storetest
