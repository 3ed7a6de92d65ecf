package backup

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"riparo/replication"
)

// Suffix ends the names of backups.
const Suffix = ".riparo-backup"

// Kept is a backup in its folder.
type Kept struct {
	Header
	Name    string
	Bytes   int64
	Problem *replication.Problem // why it cannot be restored, as far as its header tells
}

// List gives the backups of a folder, newest first. A folder that does not exist has
// none.
func List(folder string) ([]Kept, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the backups: %w", err)
	}
	var list []Kept
	for _, e := range entries {
		if !e.Type().IsRegular() || !strings.HasSuffix(e.Name(), Suffix) || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		k, err := look(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b Kept) int { return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.Name, a.Name)) })
	return list, nil
}

func look(path string) (Kept, error) {
	k := Kept{Name: filepath.Base(path)}
	f, err := os.Open(path)
	if err != nil {
		return k, fmt.Errorf("look at a backup: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return k, err
	}
	k.Bytes = info.Size()
	if k.Header, err = ReadHeader(bufio.NewReader(f)); err != nil {
		k.Problem = replication.AsProblem(err)
	}
	if k.Created.IsZero() {
		k.Created = info.ModTime()
	}
	return k, nil
}

// Save writes a backup into a folder under a name of its own. The file is whole or is
// not there.
func Save(ctx context.Context, folder string, s Source) (name string, size int64, sum string, err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", 0, "", fmt.Errorf("make the folder of backups: %w", err)
	}
	name = plain(s.Appliance) + "-" + s.Now.UTC().Format("20060102T150405Z") + Suffix
	f, err := os.CreateTemp(folder, ".unfinished-*")
	if err != nil {
		return "", 0, "", fmt.Errorf("begin a backup: %w", err)
	}
	defer os.Remove(f.Name()) // does nothing once it has its name
	hash := sha256.New()
	buffered := bufio.NewWriterSize(io.MultiWriter(f, hash), 256<<10)
	err = Write(ctx, buffered, s)
	if err == nil {
		err = errors.Join(buffered.Flush(), f.Sync())
	}
	info, statErr := f.Stat()
	if err := errors.Join(err, statErr, f.Close()); err != nil {
		return "", 0, "", fmt.Errorf("write the backup: %w", err)
	}
	if err := os.Rename(f.Name(), filepath.Join(folder, name)); err != nil {
		return "", 0, "", fmt.Errorf("name the backup: %w", err)
	}
	return name, info.Size(), hex.EncodeToString(hash.Sum(nil)), syncDir(folder)
}

// plain is a name as part of a file name.
func plain(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r == ' ', r == '.', r == '_':
			return '-'
		}
		return -1
	}, name)
	return cmp.Or(strings.Trim(name[:min(len(name), 40)], "-"), "riparo")
}

// Own tells which backups in a folder are an appliance's own, and which of them stay.
type Own struct {
	Appliance string
	Keys      [][]byte // what keyMark gives of each key that it seals with, or did
	Newest    string   // the name of the one just written; it stays whatever the clock said
	Keep      int
	Now       time.Time
}

// keyMark tells keys of backups apart. It is no secret.
func keyMark(identity []byte) []byte {
	sum := sha256.Sum256(identity)
	return sum[:]
}

// has reports whether a backup is one of the appliance's.
func (o Own) has(k Kept) bool {
	mark := keyMark(k.Identity)
	return slices.ContainsFunc(o.Keys, func(own []byte) bool { return bytes.Equal(own, mark) })
}

// rank orders backups before their age does. Those that are of a time to come were made
// when the clock was ahead: how old they are nobody knows, and they go first.
func (o Own) rank(k Kept) int {
	switch {
	case k.Name == o.Newest:
		return 0
	case k.Created.After(o.Now):
		return 2
	}
	return 1
}

// Prune removes the oldest backups of an appliance beyond those that it keeps. Those of
// others in the same folder, and what it cannot read, it leaves alone; left are those of
// its name that another key seals: another appliance may be called the same.
func Prune(folder string, o Own) (removed, left int, err error) {
	list, err := List(folder)
	if err != nil || o.Keep <= 0 {
		return 0, 0, err
	}
	var own []Kept
	for _, k := range list {
		switch {
		case k.Problem != nil || k.Appliance != o.Appliance:
		case o.has(k):
			own = append(own, k)
		default:
			left++
		}
	}
	slices.SortStableFunc(own, func(a, b Kept) int { return cmp.Compare(o.rank(a), o.rank(b)) })
	for _, k := range own[min(o.Keep, len(own)):] {
		if err := os.Remove(filepath.Join(folder, k.Name)); err != nil {
			return removed, left, fmt.Errorf("remove an old backup: %w", err)
		}
		removed++
	}
	return removed, left, nil
}

// Sweep removes what crashes left of backups that were being written.
func Sweep(folder string) {
	left, _ := filepath.Glob(filepath.Join(folder, ".unfinished-*"))
	for _, name := range left {
		os.Remove(name) // what cannot be removed is in nobody's way
	}
}
