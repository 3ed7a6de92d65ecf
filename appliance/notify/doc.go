// Package notify tells people what is not as it should be: it compares the state of
// things with a few rules, keeps an alert for each breach until it ends, and sends
// mail and signed web requests.
//
// # Promises
//
//   - An alert and the messages about it are written in one transaction. A message
//     that was written goes out, also after a crash; after [giveUp] of trying it is
//     given up, and that is an alert of its own.
//   - A message can arrive twice (the crash came between sending and noting it), and
//     carries an ID by which that is seen. It never goes missing.
//   - Alerts end by themselves when what they tell of is over, and stay as history.
//   - A storm is one message per recipient: what happens within the gathering time
//     goes together, and a blip that ends within it is not told at all.
//
// # Caveats
//
//   - The rules are looked at every ten seconds: nothing here is a heartbeat.
//   - Secrets (the mail password, the key of a web hook) are sealed with a key in the
//     folder pki. Who can read the data folder can open them.
package notify
