package backup

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"filippo.io/age"
)

// Bounds of what is taken from a backup, so that a file from somewhere else cannot
// fill the disk.
const (
	maxStateBytes = 4 << 30 // four times what a state file may grow to
	maxFileBytes  = 1 << 20 // a certificate or key
	maxFiles      = 10_000
)

// extract opens a backup into dir, which is empty. What it gives back has been
// compared with the manifest.
func extract(ctx context.Context, r io.Reader, passphrase, dir string) (Header, error) {
	buffered := bufio.NewReaderSize(r, 64<<10)
	h, err := ReadHeader(buffered)
	if err != nil {
		return h, err
	}
	identity, err := (Key{Identity: h.Identity}).open(passphrase)
	if err != nil {
		return h, err
	}
	opened, err := age.Decrypt(&reader{ctx, buffered}, identity)
	if err != nil {
		return h, damaged(err)
	}
	plain, err := gzip.NewReader(opened)
	if err != nil {
		return h, damaged(err)
	}
	found, kept, err := unpack(tar.NewReader(plain), dir)
	if err != nil {
		return h, err
	}
	// The end of the stream proves that nothing was cut off or added.
	if n, err := io.Copy(io.Discard, io.LimitReader(plain, maxFileBytes)); err != nil || n == maxFileBytes {
		return h, damaged(errors.Join(err, errors.New("its end is not that of an archive")))
	}
	if n, err := io.Copy(io.Discard, opened); err != nil || n > 0 {
		return h, damaged(errors.Join(err, errors.New("something follows its archive")))
	}
	return kept.Header, errors.Join(kept.check(), compare(kept.Files, found))
}

func unpack(archive *tar.Reader, dir string) (found []file, kept manifest, err error) {
	for {
		entry, err := archive.Next()
		switch {
		case errors.Is(err, io.EOF):
			return found, kept, damaged(errors.New("it has no manifest"))
		case err != nil:
			return found, kept, damaged(err)
		case entry.Name == manifestName:
			if err := json.NewDecoder(io.LimitReader(archive, maxFiles*256)).Decode(&kept); err != nil {
				return found, kept, damaged(fmt.Errorf("its manifest cannot be read: %w", err))
			}
			return found, kept, nil
		case entry.Typeflag != tar.TypeReg || !belongs(entry.Name) || len(found) == maxFiles:
			return found, kept, damaged(fmt.Errorf("it holds %q, which does not belong there", entry.Name))
		}
		f, err := keep(archive, entry, dir)
		if err != nil {
			return found, kept, err
		}
		found = append(found, f)
	}
}

// belongs reports whether a name is one that Write gives.
func belongs(name string) bool {
	if name == stateName {
		return true
	}
	return path.Clean(name) == name && strings.HasPrefix(name, pkiName+"/") && filepath.IsLocal(filepath.FromSlash(name)) && !strings.ContainsAny(name, "\\:")
}

func keep(archive io.Reader, entry *tar.Header, dir string) (_ file, err error) {
	limit := int64(maxFileBytes)
	if entry.Name == stateName {
		limit = maxStateBytes
	}
	if entry.Size > limit {
		return file{}, damaged(fmt.Errorf("%s has %d bytes: at most %d", entry.Name, entry.Size, limit))
	}
	if err := enough(dir, entry.Size); err != nil {
		return file{}, err
	}
	target := filepath.Join(dir, filepath.FromSlash(entry.Name))
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return file{}, unwritable(err)
	}
	f, err := os.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return file{}, unwritable(err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := sha256.New()
	from := &watched{r: archive}
	n, err := io.Copy(io.MultiWriter(f, sum), from)
	if from.err != nil {
		return file{}, damaged(from.err)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return file{}, unwritable(err)
	}
	return file{Name: entry.Name, Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// watched remembers an error of reading, to tell it from one of writing.
type watched struct {
	r   io.Reader
	err error
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

func compare(want, got []file) error {
	if len(want) != len(got) {
		return damaged(fmt.Errorf("its manifest lists %d files, it holds %d", len(want), len(got)))
	}
	state := false
	for i, w := range want {
		if got[i] != w {
			return damaged(fmt.Errorf("%s is not what its manifest says", w.Name))
		}
		state = state || w.Name == stateName
	}
	if !state {
		return damaged(errors.New("it holds no state file"))
	}
	return nil
}
