package main

// work is something that we and others do.
type work struct {
	key, name, note string
	old, image      string // names of the images before and after, in the folder of the run
	changed         string // name of the list of changes between them
	cold            bool   // the page cache is emptied before each command
	share           int    // of the time of the run, about, in percent
	setup           string // not measured, once
	contestants     []contestant
}

// contestant is one way to do a work. The commands are for bash; in them $IMG is the
// image, $OLD the image before it changed, $CHANGED the list of changes, $VAULT the
// vault, $BASE a vault that holds $OLD, $OUT where a result goes, and $SAID, in bytes,
// what the command printed.
type contestant struct {
	name    string
	ours    bool
	needs   string // programs; without them the contestant is left out
	setup   string // not measured, once
	prepare string // not measured, each time
	command string
	finish  string // not measured, after command and in its shell
	bytes   string // prints how many bytes were stored or sent
	limit   bool   // not a peer: what the machine can do at most
	check   string // has to succeed afterwards; not measured
}

const (
	warm      = `cat "$IMG" > /dev/null`
	freshOut  = `rm -rf "$OUT"`
	sameOut   = `cmp "$OUT" "$IMG"`
	newVault  = `rm -rf "$VAULT"`
	baseVault = `rm -rf "$BASE"; "$RIPARO" disk replicate "$OLD" --vault "$BASE" --disk d --json`
	copyVault = `rm -rf "$VAULT"; cp -a "$BASE" "$VAULT"; sync`
	replicate = `"$RIPARO" disk replicate "$IMG" --vault "$VAULT" --disk d --json`
	withMinLZ = ` --compression minlz`
	known     = ` --changed "$CHANGED"`
	export    = `"$RIPARO" disk export --vault "$BASE" --disk d --json "$OUT"`
	withZstd  = ` --compression zstd`
	// What the vault holds is exported and compared with the image.
	sameVault   = `rm -f "$OUT"; "$RIPARO" disk export --vault "$VAULT" --disk d --json "$OUT" && cmp "$OUT" "$IMG" && rm -f "$OUT"`
	storedBytes = `sed -n 's/.*"stored_bytes": *\([0-9]*\).*/\1/p' <<< $SAID`
	sizeOfOut   = `du -sb "$OUT" | cut -f1`
	sentBytes   = `sed -n 's/Total bytes sent: *\([0-9,]*\).*/\1/p' <<< $SAID | tr -d ,`
	copyOld     = `[ -f copy.img ] || cp --sparse=always "$OLD" copy.img; rsync --inplace --no-whole-file -q "$OLD" copy.img; cat copy.img > /dev/null`
	// A backup program finds its file under one name, whatever the image.
	named      = `mkdir -p img; ln -f "$IMG" img/disk.raw`
	namedOld   = `mkdir -p img; ln -f "$OLD" img/disk.raw`
	resticInit = `rm -rf restic restic-cache; restic -q -r restic init --repository-version 2`
	resticRun  = `restic -q -r restic backup img/disk.raw && sync -f restic`
	borgInit   = `rm -rf borg borg-base; borg init -e repokey-blake2 borg`
	borgRun    = `borg create -C lz4 "borg::a$RANDOM" img/disk.raw && sync -f borg`
	borgFixed  = `borg create -C lz4 --sparse --chunker-params=fixed,4194304 "borg::a$RANDOM" img/disk.raw && sync -f borg`
	resticGrew = `echo $(($(du -sb restic | cut -f1) - $(cat restic.size)))`
	borgGrew   = `echo $(($(du -sb borg | cut -f1) - $(cat borg.size)))`
)

// initial is the first replication.
func initial() []contestant {
	return []contestant{
		{name: "riparo", ours: true, prepare: newVault, command: replicate, bytes: storedBytes, check: sameVault},
		{name: "riparo, MinLZ", ours: true, prepare: newVault, command: replicate + withMinLZ, bytes: storedBytes, check: sameVault},
		{name: "riparo, zstd", ours: true, prepare: newVault, command: replicate + withZstd, bytes: storedBytes, check: sameVault},
		{name: "restic", needs: "restic", prepare: named + "; " + resticInit, command: resticRun, bytes: `du -sb restic | cut -f1`},
		{name: "borg, lz4, fixed chunks of 4 MiB", needs: "borg", prepare: named + "; " + borgInit, command: borgFixed, bytes: `du -sb borg | cut -f1`},
		{name: "lz4 -1, one file", needs: "lz4", prepare: freshOut, command: `lz4 -q -1 "$IMG" "$OUT" && sync "$OUT"`, bytes: sizeOfOut},
		{name: "zstd -1 -T0, one file", needs: "zstd", prepare: freshOut, command: `zstd -q -1 -T0 "$IMG" -o "$OUT" && sync "$OUT"`, bytes: sizeOfOut},
		{name: "cp --sparse=always, raw", prepare: freshOut, command: `cp --sparse=always "$IMG" "$OUT" && sync "$OUT"`, bytes: allocated, check: sameOut},
		{name: "qemu-img convert, raw", needs: "qemu-img", prepare: freshOut, command: `qemu-img convert -f raw -O raw "$IMG" "$OUT" && sync "$OUT"`, bytes: allocated, check: sameOut},
		{name: "qemu-img convert, raw, direct", needs: "qemu-img", prepare: freshOut, command: `qemu-img convert -m 16 -W -t none -T none -f raw -O raw "$IMG" "$OUT" && sync "$OUT"`, bytes: allocated},
		{name: "nbdcopy between two qemu-nbd, raw", needs: "nbdcopy qemu-nbd", prepare: freshOut + `; truncate -s "$(stat -c %s "$IMG")" "$OUT"`, command: `nbdcopy --flush --destination-is-zero -- [ qemu-nbd -r -f raw "$IMG" ] [ qemu-nbd -f raw --cache=none --aio=native "$OUT" ]`, bytes: allocated},
		{name: "limit: write about as much once, directly", limit: true, prepare: freshOut, command: writeOnce, bytes: allocated},
	}
}

// writeOnce writes six tenths of the image's data, in pieces of 4 MiB, and makes them
// durable: what a store does at least that appends.
const writeOnce = `dd if="$IMG" of="$OUT" bs=4M count=$(($(stat -c %b "$IMG") * 512 * 6 / 10 / 4194304)) iflag=fullblock oflag=direct conv=fdatasync status=none`

const allocated = `echo $(($(stat -c %b "$OUT") * 512))`

// resync is the second replication, when nobody knows what changed.
func resync() []contestant {
	return []contestant{
		{name: "riparo", ours: true, setup: baseVault, prepare: copyVault, command: replicate, bytes: storedBytes, check: sameVault},
		{name: "riparo, MinLZ", ours: true, prepare: copyVault, command: replicate + withMinLZ, bytes: storedBytes, check: sameVault},
		{name: "riparo, zstd", ours: true, prepare: copyVault, command: replicate + withZstd, bytes: storedBytes, check: sameVault},
		{name: "rsync --inplace --no-whole-file", needs: "rsync", prepare: copyOld, command: `rsync --inplace --no-whole-file --fsync --stats "$IMG" copy.img`, bytes: sentBytes, check: `cmp copy.img "$IMG"`},
		{name: "the same, zstd", needs: "rsync", prepare: copyOld, command: `rsync --inplace --no-whole-file --fsync --stats -z --zc=zstd --zl=1 "$IMG" copy.img`, bytes: sentBytes, check: `cmp copy.img "$IMG"`},
		{name: "restic", needs: "restic", setup: namedOld + "; " + resticInit + "; " + resticRun + "; du -sb restic | cut -f1 > restic.size; mv restic restic.first", prepare: `rm -rf restic; cp -al restic.first restic; ` + named, command: resticRun, bytes: resticGrew},
		{name: "borg, lz4", needs: "borg", setup: namedOld + "; " + borgInit + "; " + borgRun + "; du -sb borg | cut -f1 > borg.size; mv borg borg.first; mv borg-base borg-base.first", prepare: `rm -rf borg borg-base; cp -al borg.first borg; cp -a borg-base.first borg-base; ` + named, command: borgRun, bytes: borgGrew},
	}
}

// delta is the second replication, when the changes are known.
func delta() []contestant {
	const overlay = `rm -f overlay.qcow2; qemu-img create -q -f qcow2 -b "$IMG" -F raw overlay.qcow2; qemu-img rebase -b "$OLD" -F raw overlay.qcow2`
	return []contestant{
		{name: "riparo", ours: true, setup: baseVault, prepare: copyVault, command: replicate + known, bytes: storedBytes, check: sameVault},
		{name: "riparo, MinLZ", ours: true, prepare: copyVault, command: replicate + known + withMinLZ, bytes: storedBytes, check: sameVault},
		{name: "qemu-img convert of an overlay", needs: "qemu-img", setup: overlay, prepare: freshOut, command: `qemu-img convert -O qcow2 -B "$OLD" -F raw overlay.qcow2 "$OUT" && sync "$OUT"`, bytes: sizeOfOut},
		{name: "the same, zstd", needs: "qemu-img", prepare: freshOut, command: `qemu-img convert -c -o compression_type=zstd -O qcow2 -B "$OLD" -F raw overlay.qcow2 "$OUT" && sync "$OUT"`, bytes: sizeOfOut},
	}
}

// restore is the way back of a whole image.
func restore() []contestant {
	return []contestant{
		{name: "riparo", ours: true, setup: baseVault, prepare: freshOut, command: export, check: sameOut},
		{name: "restic restore", needs: "restic", setup: named + "; " + resticInit + "; " + resticRun, prepare: freshOut, command: `restic -q -r restic restore latest --target "$OUT" && sync -f "$OUT"`, check: `cmp "$(find "$OUT" -name disk.raw)" "$IMG"; rm -rf "$OUT"`},
		{name: "borg extract --sparse", needs: "borg", setup: named + "; " + borgInit + `; borg create -C lz4 borg::a1 img/disk.raw`, prepare: freshOut + `; mkdir "$OUT"`, command: `cd "$OUT" && borg extract --sparse "$DIR/borg::a1" && sync -f .`, check: `cmp "$OUT/img/disk.raw" "$IMG"; rm -rf "$OUT"`},
		{name: "zstd -d", needs: "zstd", setup: `zstd -q -1 -T0 -f "$IMG" -o all.zst`, prepare: freshOut, command: `zstd -q -d all.zst -o "$OUT" && sync "$OUT"`, check: sameOut},
		{name: "qemu-img convert of a zstd qcow2", needs: "qemu-img", setup: zstdImage, prepare: freshOut, command: `qemu-img convert -O raw all.qcow2 "$OUT" && sync "$OUT"`, check: sameOut},
	}
}

const zstdImage = `[ -f all.qcow2 ] || qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd "$IMG" all.qcow2`

// serveOurs and serveTheirs offer a disk, run a client, and end the server.
const (
	serveOurs   = `coproc "$RIPARO" disk serve --vault "$BASE" --disk d --socket "$DIR/s"; read -r _ <&"${COPROC[0]}"; p=$COPROC_PID; `
	serveTheirs = `qemu-nbd --fork --shared=8 -r --pid-file "$DIR/pid" -k "$DIR/s" `
	endTheirs   = `p=$(cat "$DIR/pid"); kill $p; for i in {1..300}; do kill -0 $p 2> /dev/null || break; sleep 0.01; done; rm -f "$DIR/s" "$DIR/pid"`
	readAll     = `nbdcopy "nbd+unix:///?socket=$DIR/s" null:`
	readFirst   = `qemu-io -r -f raw -c "read 1G 4k" "nbd+unix:///?socket=$DIR/s"`
	endOurs     = `kill $p; wait $p || true`
)

// view reads a point through NBD.
func view(read string) []contestant {
	return []contestant{
		{name: "riparo disk serve", ours: true, needs: "nbdcopy qemu-io", setup: baseVault, command: serveOurs + read, finish: endOurs},
		{name: "qemu-nbd, raw", needs: "nbdcopy qemu-nbd qemu-io", command: serveTheirs + `-f raw "$IMG"; ` + read, finish: endTheirs},
		{name: "qemu-nbd, zstd qcow2", needs: "nbdcopy qemu-nbd qemu-io", setup: zstdImage, command: serveTheirs + `-f qcow2 all.qcow2; ` + read, finish: endTheirs},
	}
}

// works is the list of what is measured.
func (b *bench) works() []work {
	disk := func(w work) work { w.old, w.image, w.changed = "disk.raw", "day.raw", "day.changed"; return w }
	first := func(w work) work { w.old, w.image, w.changed = "disk.raw", "disk.raw", "day.changed"; return w }
	pages := func(w work, name string) work {
		w.old, w.image, w.changed = "base.raw", name+".raw", name+".changed"
		return w
	}
	return []work{
		first(work{key: "initial", share: 36, name: "Initial replication, source in memory (W1)", contestants: initial()}),
		first(work{key: "initial-cold", share: 8, name: "Initial replication, source on disk (W1)", cold: true, contestants: only(initial(), "riparo", "riparo, MinLZ", "cp --sparse=always, raw", "qemu-img convert, raw, direct")}),
		disk(work{key: "resync", share: 22, name: "A day of changes, not known which (W2)", contestants: resync()}),
		disk(work{key: "resync-cold", share: 6, name: "A day of changes, not known which, source on disk (W2)", cold: true, contestants: append(only(resync(), "riparo", "rsync --inplace --no-whole-file"),
			contestant{name: "limit: read the source once", limit: true, command: `cat "$IMG" > /dev/null`})}),
		disk(work{key: "delta", share: 4, name: "A day of changes, known (W2)", contestants: delta()}),
		pages(work{key: "pages-1", share: 3, name: "1 % of the pages of a database, not known which (W3a)", contestants: resync()}, "pages1"),
		pages(work{key: "pages-5", share: 3, name: "5 % of the pages of a database, not known which (W3b)", contestants: resync()}, "pages5"),
		pages(work{key: "pages-1-delta", share: 1, name: "1 % of the pages of a database, known (W3a)", contestants: delta()}, "pages1"),
		pages(work{key: "pages-5-delta", share: 2, name: "5 % of the pages of a database, known (W3b)", contestants: delta()}, "pages5"),
		first(work{key: "restore", share: 7, name: "A whole image back (W1)", contestants: restore()}),
		first(work{key: "view", share: 2, name: "A recovery point read through NBD from its beginning to its end (W1)", contestants: view(readAll)}),
		first(work{key: "first-byte", share: 1, name: "The first 4 KiB of a recovery point through NBD, opening included (W1)", contestants: view(readFirst)}),
		first(work{key: "verify", share: 4, name: "Verification of all that is stored (W1)", contestants: []contestant{
			{name: "riparo disk verify", ours: true, setup: baseVault, command: `"$RIPARO" disk verify --vault "$BASE" --json`, bytes: `du -sb "$BASE" | cut -f1`},
			{name: "restic check --read-data", needs: "restic", setup: named + "; " + resticInit + "; " + resticRun, command: `restic -q -r restic check --read-data`, bytes: `du -sb restic | cut -f1`},
			{name: "borg check --verify-data", needs: "borg", setup: named + "; " + borgInit + "; " + borgRun, command: `borg check --verify-data borg`, bytes: `du -sb borg | cut -f1`},
			{name: "limit: read the vault once", limit: true, command: `find "$BASE" -type f -exec cat {} + > /dev/null`},
		}}),
	}
}

// only picks contestants by name.
func only(all []contestant, names ...string) []contestant {
	var out []contestant
	for _, c := range all {
		for _, name := range names {
			if c.name == name {
				out = append(out, c)
			}
		}
	}
	return out
}
