// Riparo is the appliance and its command line in one program. One file per verb or,
// for the verbs that go through the API of an appliance, per noun; [newRoot] lists
// them all.
//
// What every verb keeps:
//
//   - The result goes to stdout: words and tables for people, or with
//     --output json (or --json) exactly one JSON document; only what is followed
//     without end is a document on each line. Everything else goes to stderr:
//     progress, remarks, errors.
//   - An error says what happened, what that means and what to do.
//   - Exit status 0: done. 1: it failed. 2: wrong usage, also an unknown command.
//   - Ctrl-C or SIGTERM ends a verb cleanly; a second one at once. Either way
//     nothing acknowledged is lost, and the same command goes on.
package main
