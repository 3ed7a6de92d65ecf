// Package vault keeps protected disks and their recovery points on local storage.
//
// A [Vault] is a folder. Every disk has a log of its own in it: append-only
// segments of records, each with checksums and chained to the one before it.
// Nothing that was acknowledged is ever written over. The log is the database: all
// else is derived from it and is made anew when it is missing or damaged.
//
// The vault is a [replication.Sink], and a [View], any point as a disk, is a
// [replication.Source].
//
// # Promises
//
//   - A batch or mark that was acknowledged survives a power cut at any moment,
//     also while the vault recovers from one. What was not acknowledged may be
//     there, in order and whole, or not.
//   - A point gives back its disk bit for bit, or an error that says where it is
//     damaged. No damage of one place is silent.
//   - A failed fsync is final: the disk takes nothing more until the vault is opened
//     again, and then what was in doubt is written once more, not merely synced.
//   - A full disk loses nothing. Writing goes on when there is space again, also to a
//     disk that was opened while there was none. Until then such a disk shows what a
//     crash left in doubt, without a promise, and takes nothing; views of it that are
//     open have to be closed first.
//   - Opening reads no data: the catalog, the maps' headers, and of the log only
//     what came after them.
//   - A locked point is there until its time, whoever asks and whatever a clock says:
//     the time of locks is the vault's own, see [Vault.TrustedTime]. Who works the clock
//     at every restart gains a day and a 24th part of the time.
//   - Writes are slowed down and refused before the file system is full, if
//     [Limits] say so; points can be closed, read and let go even then.
//   - What a disk contains cannot be read without the master key, and not even with it
//     once the disk was erased; see Encryption.
//
// It does not promise to survive damage of several places at once, nor to notice
// that a whole older copy of the folder was put in its place.
//
// # Layout of the folder (format versions 1 to 6)
//
//	vault                          identity and session counter; derived but for the identity
//	scrub                          where the scrub is; derived
//	keys, keys.copy                keys of the vault, wrapped by master keys
//	lock                           advisory lock, with a line about who has it
//	clock                          the trusted time
//	reserve                        noise, to be given up when there is no room
//	disks/disk-ID.d/keys, keys.copy    keys of disk ID, wrapped by keys of the vault
//	disks/disk-ID.d/00000001.segment   the log of disk ID
//	disks/disk-ID.d/00000001.map       parts of its map; derived
//	disks/disk-ID.d/catalog            what the log adds up to; derived
//	disks/disk-ID.d/erased             says that the rest of the folder is garbage
//
// All numbers are little-endian and unsigned. Checksums are CRC32C. A program that
// finds a higher version in the vault file, in a file of keys or in the header of a
// segment refuses to open the vault and changes nothing.
//
// Version 1 is a vault without encryption: there are no files of keys, no block is
// sealed, and all else is the same. It is opened as it is and stays as it is. Version 2
// is one with. Either becomes 3 or 4, for good, when it is first opened with S2 or zstd
// as compression, and 5 or 6 with MinLZ: an older program knows no blocks of that kind.
//
// The vault file has 64 bytes: magic "RIPAROVT", version (4), 4 bytes unused,
// identity of the vault (16), session (8), unused, CRC (4). The session is raised
// and made durable at each opening for writing, before anything is appended.
//
// A file of keys begins with magic "RIPAROKY", version (4), 4 bytes unused, length (8)
// and CRC (4) of the rest, and CRC of these (4). Then come the identity of the vault,
// the name of the disk, which is empty for keys of the vault, the generation of the
// file and its keys: number, session in which it was made, name of the key that wraps
// it, and the wrapped key. There are two copies, replaced one after the other; of two
// that differ the one of the higher generation counts, and the next opening for
// writing makes them equal.
//
// # Segments
//
// A segment belongs to one disk and is sealed near 64 MiB. It begins with a header
// of 4096 bytes:
//
//	  0  8  magic "RIPAROSG"
//	  8  4  version
//	 12  4  length of the header
//	 16 16  identity of the vault
//	 32  4  number of the segment
//	 36  4  sum of the record before its first one
//	 40  8  serial of its first record
//	 48  8  session
//	 56  8  time of its creation, Unix nanoseconds
//	 64  4  number of the segment before
//	 72  8  where the records of that one end
//	 80  8  last serial that it repeats from behind that end, or 0
//	128  1  length of the disk's name, and the name
//	4092 4  CRC
//
// What lies in the segment before behind the given end, and any segment numbered in
// between, is not part of the log: it is what a power cut left. A segment that
// repeats records counts only if it has all of them.
//
// Records follow. Each append, of one record or many, begins at a multiple of 4096
// and is padded with zeroes up to the next, so that no sector with acknowledged data
// is written a second time. Appends to one log never overlap in time: the next one comes
// together in memory meanwhile (stage.go), and is written after the fsync of the one before
// it has returned.
//
// A sealed segment ends in a footer, which repeats for each record its position (8
// bytes) and then header, table and body as they are in the record (a body of more
// than 4096 bytes is left out), and a trailer of 64 bytes:
//
//	 0  8  magic "RIPAROFT"
//	 8  8  position of the footer: the records end here
//	16  8  length of the footer
//	24  8  serial of the first record
//	32  8  serial of the last record
//	40  4  sum of the last record
//	44  4  CRC of the footer
//	48  4  number of the segment
//	52  4  tag of the disk
//	60  4  CRC
//
// # Records
//
// A record is a header of 96 bytes, a table of rows, a body, the payload, padding:
//
//	 0  4  magic "RREC"
//	 4  1  kind
//	 5  1  cipher: 0 none; 1 blocks are sealed with AES-256-GCM
//	 6  2  length of a row
//	 8  4  number of rows
//	12  4  length of the body
//	16  4  length of the payload
//	20  4  length of the padding
//	24  8  serial: numbers all records of the disk 1, 2, 3, …
//	32  8  sequence of the sender, 0 for the vault's own records
//	40  8  epoch of the owner
//	48  8  session
//	56  8  settled: the last serial that was durable when this record was written
//	64  8  time, Unix nanoseconds
//	72  4  chain: sum of the record before
//	76  4  tag of the disk: CRC of the vault's identity and the disk's name
//	80  4  number of the newest data key that a block is sealed with, 0 if none is
//	88  4  CRC of table and body
//	92  4  sum: CRC of the header so far
//
// Settled tells damage from the end of the log: a record that cannot be read, and
// whose serial a later record or the catalog calls settled, was durable once.
//
// A row of the table is one block of at most 64 KiB, or an extent without data of any
// length:
//
//	 0  8  offset on the disk
//	 8  8  length
//	16  4  length of the stored bytes in the payload; blocks follow each other
//	20  4  CRC of the stored bytes
//	24  8  CRC32C and CRC32 (IEEE) of the content; of a sealed block, a keyed hash of it
//	32  1  codec: 0 no data, all zero; 1 raw; 2 one LZ4 block; 3 one S2 block; 4 one
//	       zstd frame; 5 one MinLZ block
//	36  4  number of the data key that the block is sealed with; 0: it is not
//
// Kinds of records and their bodies (numbers are varints, texts have their length
// before them):
//
//	1 batch      the changes of one batch; with sequence 0, of the vault itself
//	2 mark       closes a point: its name, time, consistency, size, members, tag
//	3 disk       name, machine, size of the disk, and its owner in the header; rows
//	             without data where it was cut
//	4 rewind     name and serial of the mark to go back to
//	5 drop       the serials of the marks of points that are let go
//	6 inventory  a snapshot of all that the log says without its blocks: only the
//	             segments that it lists, and later ones, are needed from here on
//	7 release    a disk that was erased, and the marks of points that do without it
//	8 move       rows that take the place of other blocks, or of parts of them, all
//	             parts of one block in one record; for each row segment (4
//	             bytes) and position (4 bytes) of the block, and the serial (8 bytes)
//	             of the record that brought it first. Extents without data have the
//	             position 0, and those of one segment are in one record
//	9 mend       the head was compared with its source after records were lost
//	10 lock      until when points are locked, the trusted time, the serials of their
//	             marks
//	11 pin       1 or 0 for pinned or not any more, the serials of the marks
//
// # Encryption
//
// An encrypted vault has a key of its own, and every disk has data keys. All are drawn
// at random, 256 bits long. The data keys are wrapped by the vault's key, that one by a
// master key which the vault is handed as [Keys] and never sees. Wrapping is
// AES-256-GCM with a random nonce; bound to it are the identity of the vault, the name
// of the disk and the number of the key.
//
// What is sealed is the stored block, after compression, so that a random read opens
// one block and no more. A sealed block is stored as an envelope of 24 bytes, the
// sealed bytes, and a tag of 16:
//
//	 0  8  session of the opening in which it was sealed
//	 8  8  salt: a random number of that opening
//	16  8  number of the block among those that the opening sealed: 1, 2, 3, …
//
// It is sealed with a sub-key, HKDF-SHA-256 of the data key for "riparo blocks of an
// opening", session and salt. The nonce is four zero bytes and the number, big-endian.
// Bound to it are offset (8), length (4) and codec (4), big-endian; vault and disk are
// bound by the data key, which is theirs alone. Thus a block that was moved to another
// place, disk or vault does not open.
//
// No nonce is ever used twice with one key:
//
//   - Within one opening, all blocks of all disks take their number from one counter
//     in memory, by an atomic addition, at the moment they are sealed. It begins at 0
//     and is not set back while the vault is open. A block that is sealed and then not
//     written, or written and torn, has used up its number. The counter does not wrap:
//     2^64 blocks are more than any machine seals.
//   - Two openings differ in their session, which goes into the sub-key: it is raised
//     and durable before anything is sealed, and the lock admits one writer. If the
//     vault file is lost, the session goes on well above all that the segments tell.
//   - Where this fails because the folder itself went back in time, or was copied and
//     both copies are written to, the salts differ: 64 random bits for each opening,
//     so that two openings of the same session meet with probability 2^-64.
//   - A block that is copied to another place by healing or compaction is the same
//     message under the same nonce, which tells nothing new. If its data key is not the
//     newest one, it is opened and sealed again under a number of its own.
//
// A plain checksum of the content would tell anybody who has a copy of some file
// whether the disk has it too. The one in the row is therefore a keyed hash of content
// and offset: the tag of AES-256-GCM over the content, with the offset as nonce, under
// HKDF of the data key for "riparo block hashes"; that as one block of AES under HKDF
// for "riparo block sums"; of the result the first 64 bits. It also is what a
// resynchronization compares by: no guest can make two contents that look equal.
// What remains to be seen is when a block is written again with the very content that
// it had. The CRC of the stored bytes is one of sealed bytes, and tells nothing.
//
// Without any key can be read: names and sizes of disks, their points with time and
// tag, which extents were written when, which of them are zero, and how well the others
// were compressed. Contents cannot. The seal protects each block against being changed
// or moved. It does not protect the log as a whole against somebody who can write to
// the storage: he can put back an older state of it, or an older block of the same
// extent, and make the checksums fit.
//
// Keys are changed from the top down. With a new master key, the vault's key is wrapped
// anew, when it is told to. With a new key of the vault, the data keys are, and the old one goes when that
// is done. A new data key seals what is written from then on; the old one stays until
// no segment has a block of it.
//
// Erasing a disk destroys its wrapped keys before anything else: they are written over,
// then removed. A copy of the segments alone is then worth nothing, with any master
// key. A copy of the disk's file of keys, in a backup of the folder, or in what flash
// and copying file systems keep of bytes that were written over, still opens with the
// vault's key and the master key.
//
// # Maps
//
// A map says for the extents of a disk where their blocks are. One layer is the map
// of what changed between two points; a point's disk is the stack of layers up to it.
// The youngest layers are in memory, at most 32,768 entries; the others are in map
// files that follow each other, the tiles. A tile has a layer for each point inside
// it and, if these are several, all of them merged once more. Folds repeat eight
// neighboring tiles, or folds, as one, so that a view looks into few files whatever
// the number of points. Tiles are rewritten when points inside them were dropped and
// where their boundary is no point; that is how entries that nobody needs, and at
// last their segments, become dead.
//
// A map file has a header page, pages of 73 entries of 56 bytes, each with a sum of its
// file and number and a CRC at its end, and a tail: the layers, how many entries refer to
// which segment, and the first offset of each page. It is written once, synced, and then
// named by the catalog, with the session that made it and its count among those of the
// session: a number may be used again. Of its pages the one that was read last stays in
// memory.
//
// The catalog is the snapshot of an inventory with the names of the map files, the
// serial up to which they go, and place, serial and sum of the last record; and whether
// the segment of that one is sealed, and all before it. It is replaced by rename after
// each change of the maps and at Close. Close first writes memory to a map and seals the
// segment if much would have to be read otherwise; then the next opening reads nothing
// of the log but the header and the trailer of that segment, if they fit the catalog.
//
// # Compaction
//
// A segment dies when no map refers to it. Where too much of the segments is not
// needed, the blocks that are needed of some are appended once more by records of kind
// 8, the maps that name the old places are written anew, and the old segments are dead
// like others: an inventory does without them, the catalog is written, and then they
// are removed. What waits for new maps to be written is a move; maps are read through
// the moves, and these are part of inventory and catalog. A block that is damaged is
// not moved, and its segment stays.
//
// It begins when the segments are 1.242 times as large as what the maps need of them,
// with the rows of the blocks, which moving makes no fewer, and ends at 1.184. Before it
// moves anything, it writes maps anew that may hide what is dead, for an entry takes a
// hundredth of its block; and memory, where a restart would need segments for that alone. It
// takes the segments first of which least is needed.
//
// What that costs is measured by TestChurn: a disk of 64 MiB, of which a quarter is
// written each day, with the default retention and points made shorter and fewer, as it
// says there; half of the bytes are pages of 8 KiB whose frequency follows Zipf's law, a
// quarter is a log that goes round, a quarter files that are written anew. Space is all
// files over what points need; write is all that is written, with maps, catalogs,
// padding and moves, over the stored bytes of the sender's blocks. Both are means over
// the last of three and a half times the longest rule; between two compactions space
// rises to 1.36.
//
//	                             begins  ends   space  write
//	database                      1.242  1.184  1.289  1.465
//	database                      1.255  1.193  1.305  1.459
//	pages anywhere, all alike     1.242  1.184  1.332  1.557
//
// Of the write of the first, moves are 0.27, maps 0.10, padding to 4096 bytes 0.06. The
// last is hostile: no block tells how long it will live. It misses the goals of 1.3 and
// 1.5.
//
// Read without its catalog, the log gives the same maps: what a record of kind 8 moved
// is laid where the serial says that it came first.
//
// # Recovery
//
// Opening a disk reads the catalog and the records that its tiles do not know; or,
// without a catalog that fits, the footers of all segments. Of the last segment, the
// records that nothing proves to be durable are checked with their payload and then
// written once more into a new segment. A record whose serial the catalog knows with another
// sum is none of the log: an append that failed left it, and what was written over it and
// acknowledged has not arrived.
//
// Errors of fsync are final: the disk stops acknowledging, and what is true is found out
// by opening it again and reading it. What is read then need not be on the medium, for
// after an fsync that failed the system may show what it will never write, and the next
// fsync says nothing about that. So:
//
//   - Content counts when something proves that its fsync succeeded: a record, when a
//     later one or the catalog calls it settled; a footer, when the session that wrote
//     the last record went on in the next segment; a file that has its name by a rename,
//     always. All else is written once more, not merely synced.
//   - Names count after an fsync of their folder by this opening, which comes first.
//   - Nothing is removed, cut or written over before what replaces it counts. What an
//     opening cannot write for want of room is no witness, and lets nothing go.
//   - Maps and catalogs that could not be written are written anew from memory; nothing
//     is removed meanwhile.
package vault
