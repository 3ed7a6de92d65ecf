package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"strings"
	"unicode/utf8"

	bolt "go.etcd.io/bbolt"
)

// Limits of one record. They keep a mistake from filling the file.
const (
	maxKeyBytes    = 512     // names and IDs; longer ones are somebody's mistake
	maxRecordBytes = 1 << 20 // a job with all its evidence stays far below
	// MaxPage is the most that [Range.Page] gives at once.
	MaxPage = 1000
)

// Table is all records of one kind, in the order of their keys.
type Table[T any] struct{ Range[T] }

// Range is the records of a table, or those of one value of an index, in the
// order of their keys.
type Range[T any] struct {
	tx    *Tx
	kind  *Kind[T]
	index *index[T] // nil: the whole table
	value string
}

// Get gives the record of this key, or ErrNotFound.
func (t Table[T]) Get(key string) (T, error) {
	v, found, err := t.read(t.kind.fold(key))
	if err == nil && !found {
		err = fmt.Errorf("%s %s: %w", t.kind.name, key, ErrNotFound)
	}
	return v, err
}

// Has reports whether there is a record of this key, without reading it.
func (t Table[T]) Has(key string) (bool, error) {
	text, err := t.text(t.kind.fold(key))
	return text != nil, err
}

// Put writes v under its key. It replaces what was there.
func (t Table[T]) Put(v T) (err error) {
	key := t.kind.keyOf(&v)
	if key == "" || !storable(key) {
		return fmt.Errorf("%s: the key %q: want 1 to %d bytes of UTF-8 without NUL", t.kind.name, key, maxKeyBytes)
	}
	for i := range t.kind.indexes {
		if value, _ := t.kind.indexes[i].value(&v); !storable(value) {
			return fmt.Errorf("%s %s: %q cannot be indexed: want at most %d bytes of UTF-8 without NUL", t.kind.name, key, value, maxKeyBytes)
		}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s %s: %w", t.kind.name, key, err)
	}
	if len(text) > maxRecordBytes {
		return fmt.Errorf("%s %s takes %d bytes: limit %d", t.kind.name, key, len(text), maxRecordBytes)
	}
	old, found, err := t.read(key)
	if err != nil {
		return err
	}
	if err := t.write(key, seal(key, text), &old, &v, found); err != nil {
		return fmt.Errorf("%s %s: %w", t.kind.name, key, problem(t.tx.path, err))
	}
	t.tx.note(t.kind.changed(key))
	if !found {
		return t.trim()
	}
	return nil
}

// storable reports whether a text can be part of a key.
func storable(text string) bool {
	return len(text) <= maxKeyBytes && strings.IndexByte(text, 0) < 0 && utf8.ValidString(text)
}

// Delete removes the record of this key. Removing what is not there is harmless.
func (t Table[T]) Delete(key string) error {
	key = t.kind.fold(key)
	old, found, err := t.read(key)
	if err != nil || !found {
		return err
	}
	if err := t.write(key, nil, &old, nil, true); err != nil {
		return fmt.Errorf("%s %s: %w", t.kind.name, key, problem(t.tx.path, err))
	}
	t.tx.note(t.kind.changed(key))
	return nil
}

// Count is the number of records. It does not read them.
func (r Range[T]) Count() (n int, err error) {
	defer func() { err = problem(r.tx.path, err) }()
	defer catch(&err)
	if r.index == nil {
		return int(r.bucket().Sequence()), nil
	}
	prefix := []byte(r.value + "\x00")
	c := r.tx.bolt.Bucket([]byte(r.index.name)).Cursor()
	for key, _ := c.Seek(prefix); key != nil && bytes.HasPrefix(key, prefix); key, _ = c.Next() {
		n++
	}
	return n, nil
}

// Size is the number of bytes of the records of a table as they are kept. It does not
// read them, and counts one more for each: a line of text has its end.
func (t Table[T]) Size() (n int64, err error) {
	defer func() { err = problem(t.tx.path, err) }()
	defer catch(&err)
	c := t.bucket().Cursor()
	for key, sealed := c.First(); key != nil; key, sealed = c.Next() {
		n += int64(len(sealed) - sealBytes + 1)
	}
	return n, nil
}

// All yields the records. It ends after the first error. The table may be changed
// meanwhile; what is put behind the current record is met, what is deleted there
// is not.
func (r Range[T]) All() iter.Seq2[T, error] { return r.walk("", false) }

// Page gives up to limit records after the key after, or from the beginning when
// it is empty; in reverse from the end, and those before it. Fewer than limit
// means that there are no more.
func (r Range[T]) Page(after string, limit int, reverse bool) ([]T, error) {
	limit = min(max(limit, 0), MaxPage)
	page := make([]T, 0, limit)
	if limit == 0 {
		return page, nil
	}
	for v, err := range r.walk(r.kind.fold(after), reverse) {
		if err != nil {
			return page, err
		}
		if page = append(page, v); len(page) == limit {
			break
		}
	}
	return page, nil
}

func (r Range[T]) walk(after string, reverse bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for key := after; ; {
			next, err := r.step(key, reverse)
			if err != nil {
				yield(*new(T), err)
				return
			}
			if next == "" {
				return
			}
			v, found, err := r.read(next)
			if err == nil && !found {
				err = problem(r.tx.path, &damage{what: fmt.Sprintf("%s %s is in the index %s but not there", r.kind.name, next, r.index.name)})
			}
			if !yield(v, err) || err != nil {
				return
			}
			key = next
		}
	}
}

// step gives the key after key, or "" at the end. A fresh cursor each time costs
// a few page lookups and makes changing the table meanwhile harmless.
func (r Range[T]) step(key string, reverse bool) (next string, err error) {
	defer func() { err = problem(r.tx.path, err) }()
	defer catch(&err)
	prefix := ""
	c := r.bucket().Cursor()
	if r.index != nil {
		prefix = r.value + "\x00"
		c = r.tx.bolt.Bucket([]byte(r.index.name)).Cursor()
	}
	var found []byte
	switch {
	case !reverse && key == "":
		found, _ = c.Seek([]byte(prefix))
	case !reverse:
		found, _ = c.Seek([]byte(prefix + key + "\x00")) // keys hold no NUL: this is just behind key
	default:
		end := prefix + key
		if key == "" {
			end = prefix + "\xff\xff" // no key begins so: they are UTF-8
		}
		if found, _ = c.Seek([]byte(end)); found == nil {
			found, _ = c.Last()
		} else {
			found, _ = c.Prev()
		}
	}
	rest, inside := bytes.CutPrefix(found, []byte(prefix))
	if found == nil || !inside {
		return "", nil
	}
	return string(rest), nil
}

func (r Range[T]) read(key string) (v T, found bool, err error) {
	text, err := r.text(key)
	if err != nil || text == nil {
		return v, false, err
	}
	if err := json.Unmarshal(text, &v); err != nil {
		return v, false, problem(r.tx.path, &damage{what: fmt.Sprintf("%s %s: %v", r.kind.name, key, err)})
	}
	return v, true, nil
}

func (r Range[T]) text(key string) (text []byte, err error) {
	defer func() { err = problem(r.tx.path, err) }()
	defer catch(&err)
	sealed := r.bucket().Get([]byte(key))
	if sealed == nil {
		return nil, nil
	}
	if text, err = unseal(key, sealed); err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.kind.name, key, err)
	}
	return text, nil
}

// write replaces old by v in the table and its indexes; sealed is v as stored,
// nil to delete.
func (t Table[T]) write(key string, sealed []byte, old, v *T, found bool) (err error) {
	defer catch(&err)
	b := t.bucket()
	for i := range t.kind.indexes {
		ix := &t.kind.indexes[i]
		entries := t.tx.bolt.Bucket([]byte(ix.name))
		before, after := "", ""
		if found {
			before = ix.entry(old, key)
		}
		if sealed != nil {
			after = ix.entry(v, key)
		}
		if before == after {
			continue
		}
		if before != "" {
			if err := remove(entries, before); err != nil {
				return err
			}
		}
		if after != "" {
			if err := add(entries, after, seal(after, nil)); err != nil {
				return err
			}
		}
	}
	switch {
	case sealed == nil:
		return remove(b, key)
	case found:
		return b.Put([]byte(key), sealed)
	}
	return add(b, key, sealed)
}

// add puts what was not there, and counts it in the bucket's sequence.
func add(b *bolt.Bucket, key string, sealed []byte) error {
	return errors.Join(b.Put([]byte(key), sealed), b.SetSequence(b.Sequence()+1))
}

func remove(b *bolt.Bucket, key string) error {
	return errors.Join(b.Delete([]byte(key)), b.SetSequence(b.Sequence()-1))
}

// trim removes the oldest records above the bound of their kind.
func (t Table[T]) trim() error {
	if t.kind.limit == 0 {
		return nil
	}
	for key := ""; int(t.bucket().Sequence()) > t.kind.limit; {
		next, err := t.step(key, false)
		if err != nil || next == "" {
			return err
		}
		key = next
		if t.kind.spare != nil {
			v, _, err := t.read(key)
			if err != nil {
				return err
			}
			if t.kind.spare(&v) {
				continue
			}
		}
		if err := t.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// bucket is the kind's bucket; its sequence holds the number of records.
func (r Range[T]) bucket() *bolt.Bucket { return r.tx.bolt.Bucket([]byte(r.kind.name)) }

// A value is the CRC32C of its key and its text, big endian, and its text; that of
// an index entry has no text. bbolt has no checksum over its data pages. What is
// lost as a whole is found by the count that each bucket has in its sequence.
const sealBytes = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(key string, text []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, text)
}

func seal(key string, text []byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, sealBytes+len(text)), checksum(key, text)), text...)
}

func unseal(key string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealBytes {
		return nil, &damage{what: fmt.Sprintf("the value of %q has %d bytes", key, len(sealed))}
	}
	text := sealed[sealBytes:]
	if binary.BigEndian.Uint32(sealed) != checksum(key, text) {
		return nil, &damage{what: fmt.Sprintf("the value of %q does not match its checksum", key)}
	}
	return text, nil
}
