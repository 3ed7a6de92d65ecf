// Package licenses holds the license texts of everything third-party that is linked
// into the programs of Riparo, on whatever system, as the modules carry them. Who hands
// on the programs hands on these texts with them.
//
// The file is made by .tools/licenses; build.sh check compares.
package licenses
