package main

import (
	"fmt"
	"math/rand/v2"
	"os"
)

// day makes a day of work on a copy of the disk, about 5 % of its data: database
// pages updated at random, logs that grew, files that were saved anew with something
// inserted, packages that were updated, new media, and entries in the tables.
func (d *disk) day(path string, seed uint64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	d.file, d.random, d.edits = f, randomOf(seed, "day"), nil
	part := d.budget / 1000
	d.touchDatabases(0.03)
	d.grow("log", 6*part)
	d.saveAgain("sources", 10*part)
	d.saveAgain("programs", 10*part)
	for _, n := range []int64{3 * part, 3 * part} {
		p := make([]byte, n)
		noise(d.random, p)
		d.putNew(p)
	}
	d.copyAway("sources", 6*part)
	d.touchTables()
	if d.err != nil {
		return d.err
	}
	return f.Sync()
}

func (d *disk) read(e placed) []byte {
	p := make([]byte, e.length)
	if d.err == nil {
		_, d.err = d.file.ReadAt(p, e.offset)
	}
	return p
}

func (d *disk) touchDatabases(fraction float64) {
	for _, e := range d.placed {
		if e.kind != "database" {
			continue
		}
		pages := int(e.length / pageBytes)
		for _, k := range d.random.Perm(pages)[:int(float64(pages)*fraction)] {
			page := d.read(placed{offset: e.offset + int64(k)*pageBytes, length: pageBytes})
			touchPage(d.random, page, uint64(k))
			d.edit(page, e.offset+int64(k)*pageBytes)
		}
	}
}

// grow appends to files of a kind: their new part lies in free space.
func (d *disk) grow(kind string, budget int64) {
	for _, n := range []int64{budget / 3, budget / 3, budget / 3} {
		p := make([]byte, n)
		if kind == "log" {
			logText(d.random, p)
		}
		d.putNew(p)
	}
}

// free finds room in the free space of a group that nothing was placed in.
func (d *disk) free(length int64) int64 {
	length = (length + fileGrain - 1) / fileGrain * fileGrain
	groups := d.size / groupBytes
	group := d.random.Int64N(groups)
	room := max(d.gap-length, fileGrain)
	return (group+1)*groupBytes - d.gap + d.random.Int64N(room)/fileGrain*fileGrain
}

func (d *disk) putNew(p []byte) {
	for len(p) > 0 {
		n := min(int64(len(p)), d.gap/2)
		d.edit(p[:n], d.free(n))
		p = p[n:]
	}
}

// some calls do with files of a kind in a random order until their length is spent.
func (d *disk) some(kind string, budget int64, do func(placed)) {
	for _, i := range d.random.Perm(len(d.placed)) {
		e := d.placed[i]
		if e.kind != kind || e.length > 4<<20 {
			continue
		}
		if budget -= e.length; budget < 0 {
			return
		}
		do(e)
	}
}

// saveAgain writes files anew elsewhere, as editors and package managers do, with
// something inserted in the middle that shifts the rest.
func (d *disk) saveAgain(kind string, budget int64) {
	d.some(kind, budget, func(e placed) {
		old := d.read(e)
		at := d.random.IntN(len(old) + 1)
		inserted := fmt.Appendf(nil, "\n// %s %s %d\n", word(d.random), word(d.random), d.random.IntN(1e9))
		d.putNew(append(append(append([]byte{}, old[:at]...), inserted...), old[at:]...))
	})
}

// copyAway copies known content to another place.
func (d *disk) copyAway(kind string, budget int64) {
	d.some(kind, budget, func(e placed) { d.putNew(d.read(e)) })
}

// touchTables changes some entries of every group's table.
func (d *disk) touchTables() {
	for group := int64(0); group < d.size; group += groupBytes {
		if group >= d.at {
			return
		}
		for range 8 {
			p := make([]byte, 256)
			noise(d.random, p[:32])
			d.edit(p, group+d.random.Int64N(tableBytes/512)*256)
		}
	}
}

// makeDatabase makes W3: a file that is nothing but a database.
func makeDatabase(path string, size int64, seed uint64) error {
	return made(path, size, randomOf(seed, "database"), database)
}

// made writes a file of generated content.
func made(path string, size int64, r *rand.Rand, fill func(*rand.Rand, []byte)) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	p := make([]byte, 4<<20)
	for at := int64(0); at < size; at += int64(len(p)) {
		p = p[:min(int64(len(p)), size-at)]
		fill(r, p)
		if _, err := f.WriteAt(p, at); err != nil {
			return err
		}
	}
	return f.Sync()
}

// touchDatabase changes a fraction of the pages of a database, at random, and
// writes the list of them.
func touchDatabase(path, list string, fraction float64, seed uint64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	d := &disk{file: f, random: randomOf(seed, "touch"), size: info.Size(), placed: []placed{{"database", 0, info.Size()}}}
	d.touchDatabases(fraction)
	if d.err != nil {
		return d.err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return writeList(list, d.edits)
}
