// Package identity knows who may use the appliance: people with a password and a
// session, programs with a token, and, until there is anybody, whoever holds the
// setup token.
//
// # What is kept
//
// Of a password its argon2id hash, of a token, a session cookie and the setup
// token only a SHA-256: those are long random numbers, which need no slow hash.
// None of them is shown again after it was made.
//
// # What is promised
//
//   - There is no default password. The first administrator is made with the setup
//     token, once; from then on the token is good for nothing.
//   - A wrong password costs as much time as a right one, whether the account
//     exists or not, and after a few of them the account is closed to that address
//     for a while.
//   - At most two passwords are hashed at a time: a hash takes 19 MiB.
//   - A session ends after 30 minutes without use, after 12 hours at the latest,
//     with the sign-out, and with a change of the password. Signing in gives it a
//     new name, so that a planted cookie is worth nothing.
//   - What is changed or ended stays so, whatever requests were under way, and guesses
//     that come at once are worth no more than guesses that follow each other.
//   - A token may no more than the person who made it may now, and nothing once that
//     account is closed or gone.
package identity
