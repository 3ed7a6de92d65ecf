// Package noise tells from the make-up of recovery points that a disk is turning to
// noise, as it does when somebody encrypts it.
//
// # The signal
//
// What an encryption does to a disk is that bytes which compressed become bytes which
// do not, in place, or that new noise appears while what compressed goes away. Both
// are known of every point without reading a byte: the vault remembers how long each
// block is stored. A database, a log, an update, a copy of films do something else:
// they write what compresses, or noise where nothing was.
//
//	loss     = turned + min(fresh, vanished)
//	purity   = loss / all noise that was written: near 1 for an encryption, the share of
//	           reused space for a copy of films
//	counted  = loss × (0 up to a purity of 0.5, rising to 1 at 0.9)
//
// # The judgment
//
// The counted loss is summed up, less what is usual for the disk and a small allowance
// (a CUSUM test: the quickest there is for a change of unknown onset). The alarm is
// raised when the sum passes a threshold that grows with the disk. When the sum last
// stood near zero is the onset: the newest point up to it is the last clean one.
//
// # What it does not see
//
// Encrypting what does not compress anyway (films, archives) turns nothing to noise: of
// a disk that holds mostly such files, an encryption is not seen, nor is one that hides
// among as much other noise. One that is slower than the allowance, a threshold in six
// hours, is taken for the usual. Encrypting into new files shows when
// the old ones are trimmed or overwritten, not before. Noise copied over space that
// held text and was deleted without being trimmed looks as an encryption does: that
// is the false alarm to expect, and a person dismisses it.
package noise
