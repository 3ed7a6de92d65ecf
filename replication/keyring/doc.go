// Package keyring keeps the master keys of vaults: in a file that only its owner may
// read, and in an escrow that a passphrase opens.
//
// A [Ring] holds one key or several. The newest one wraps the keys of vaults; older
// ones open what they wrapped, until every vault was told to take the newest.
//
// # The key file
//
// The file has lines of text. The first is "riparo master keys 1", with the word
// "dpapi" behind it if the rest is sealed by Windows. Each other line but the last is a
// key: its name, the time it was made (RFC 3339), and its 32 bytes in base64. The name
// is the beginning of the SHA-256 of the key, and tells nothing of the key. The lowest of
// them is the newest key. The last line is "sum" and the beginning of the SHA-256 of the
// keys' lines, so that any damage to the file is found.
//
// On Linux and other systems the file has mode 0600, and one that others may read is
// refused: who has it reads every vault. On Windows the keys are sealed by DPAPI for the
// machine, and the file admits its owner, administrators and the system only; a copy of
// it on another machine is worth nothing.
//
// # The escrow
//
// Without the master key a vault is lost, and so is every recovery point in it. The
// escrow is a copy of the keys as an age file (age-encryption.org/v1), sealed with a
// passphrase by scrypt, in its armored form: it can be printed. It opens on every
// machine, also with the tool age. Keep it apart from the vault.
package keyring
