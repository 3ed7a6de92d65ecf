// Package backup saves what an appliance knows, and brings it back: the state file,
// the certificates and the keys, in one sealed file.
//
// A backup is a line "riparo backup 1", a line of JSON that anybody may read ([Header]),
// and a tar archive, compressed and sealed by age for the key of the appliance's
// backups. That key is itself sealed with a passphrase (scrypt), and travels in the
// header: who has the file and the passphrase has everything, and the appliance, which
// writes a backup every night, does not keep the passphrase.
//
// # Promises
//
//   - A backup is whole or is not there: it gets its name when all of it is durable.
//   - What it holds is the state at one instant; work goes on meanwhile.
//   - [Stage] changes nothing that is in use until the whole backup was opened, its
//     checksums compared and its state file read; [Apply] can be cut off anywhere and
//     goes on.
//
// # Caveats
//
//   - Recovery points are not part of it: they are in the vault.
//   - Who can read the data folder can read all of it; the seal protects the copy.
package backup
