// Package audit is the record of who did what, from where, and with which outcome:
// an append-only chain of lines in the store.
//
// # What is promised
//
//   - What somebody asks for is durable here before it is done; when it cannot be
//     written, it is not done.
//   - A line that was edited, dropped, moved or added without the key is found by
//     [Log.Verify], as is a log that was cut off at either end.
//   - The log is bounded: beyond [MaxLines] the oldest thousand lines give way,
//     and where the log now begins is signed.
//
// # What is not
//
// Each line carries the HMAC-SHA-256 of itself and of the MAC before it. Whoever has
// the key, a file beside the state, can write a new chain; whoever puts back an
// older copy of the whole state has an older chain that is sound in itself. An
// export that is kept elsewhere finds both: see [Compare].
package audit
