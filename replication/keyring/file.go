package keyring

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"riparo/replication"
)

const (
	fileHeader = "riparo master keys 1"
	// maxFileBytes: a key takes about 90 bytes.
	maxFileBytes = 256 << 10
)

// Load reads a key file. Problems: vault.key.missing, vault.key.exposed,
// vault.key.file.
func Load(path string) (*Ring, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, missingProblem(path, err)
	}
	if err != nil {
		return nil, unreadableProblem(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, unreadableProblem(path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, unreadableProblem(path, errors.New("it is not a file"))
	}
	if err := private(info); err != nil {
		return nil, exposedProblem(path, err)
	}
	p, err := io.ReadAll(io.LimitReader(f, maxFileBytes))
	if err != nil {
		return nil, unreadableProblem(path, err)
	}
	r, err := parseFile(p)
	if err != nil {
		if spoilt(p) {
			err = unusableError{err}
		}
		return nil, unreadableProblem(path, err)
	}
	return r, nil
}

// spoilt reports whether what does not open was a key file of this version: not one of a
// newer version, nor a file that is something else.
func spoilt(p []byte) bool {
	header, _, ok := bytes.Cut(p, []byte("\n"))
	protection, known := strings.CutPrefix(strings.TrimSpace(string(header)), fileHeader)
	protection = strings.TrimSpace(protection)
	return ok && known && (protection == "" || protection == "dpapi")
}

// unusableError is what is wrong with the content of a key file.
type unusableError struct{ error }

func (e unusableError) Unwrap() error { return e.error }

// Unusable reports whether an error of Load says that the file was a key file, and is
// damaged or was sealed for another computer: nobody can use it here as it is.
func Unusable(err error) bool {
	_, unusable := errors.AsType[unusableError](err)
	return unusable
}

// Replace puts the ring in the place of a key file that is Unusable, and keeps that beside
// it under another name.
func (r *Ring) Replace(path string, now time.Time) (aside string, err error) {
	aside = path + ".unusable-" + now.UTC().Format("20060102T150405.000Z")
	if err := os.Rename(path, aside); err != nil {
		return "", unwritableProblem(path, err)
	}
	if err := r.Save(path); err != nil {
		return "", errors.Join(err, os.Rename(aside, path))
	}
	return aside, nil
}

// LoadOrMake reads a key file, or makes one with a new key. made reports that it did:
// whoever made it should be told to keep an escrow.
func LoadOrMake(path string, now time.Time) (r *Ring, made bool, err error) {
	r, err = Load(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return r, false, err
	}
	if r, err = New(now); err != nil {
		return nil, false, err
	}
	if err := r.create(path); errors.Is(err, fs.ErrExist) {
		r, err = Load(path) // somebody else was quicker: theirs is the key
		return r, false, err
	} else if err != nil {
		return nil, false, err
	}
	return r, true, nil
}

// create writes the ring to a file that must not exist, durably.
func (r *Ring) create(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return unwritableProblem(path, err)
	}
	temporary, err := r.writeBeside(path)
	if err != nil {
		return unwritableProblem(path, err)
	}
	defer os.Remove(temporary) // nothing to do if it was renamed
	if err := takeName(temporary, path); errors.Is(err, fs.ErrExist) {
		return err
	} else if err != nil {
		return unwritableProblem(path, err)
	}
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return unwritableProblem(path, err)
	}
	return nil
}

// Save puts the ring in the place of a key file, durably: after a crash there is the
// old one or the new one.
func (r *Ring) Save(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return unwritableProblem(path, err)
	}
	temporary, err := r.writeBeside(path)
	if err == nil {
		if err = os.Rename(temporary, path); err == nil {
			err = syncFolder(filepath.Dir(path))
		} else {
			err = errors.Join(err, os.Remove(temporary))
		}
	}
	if err != nil {
		return unwritableProblem(path, err)
	}
	return nil
}

// writeBeside writes the ring to a new file in the folder of path, durably.
func (r *Ring) writeBeside(path string) (name string, err error) {
	p, err := r.file()
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".master-*") // mode 0600
	if err != nil {
		return "", err
	}
	err = restrict(f.Name())
	if err == nil {
		_, err = f.Write(p)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// file is the content of the key file.
func (r *Ring) file() ([]byte, error) {
	body, protection, err := protect(r.text())
	if err != nil {
		return nil, err
	}
	header := fileHeader
	if protection != "" {
		header += " " + protection
	}
	return append([]byte(header+"\n"), body...), nil
}

func parseFile(p []byte) (*Ring, error) {
	header, body, ok := bytes.Cut(p, []byte("\n"))
	protection, known := strings.CutPrefix(strings.TrimSpace(string(header)), fileHeader)
	if !ok || !known {
		return nil, fmt.Errorf("it does not begin with %q", fileHeader)
	}
	body, err := unprotect(body, strings.TrimSpace(protection))
	if err != nil {
		return nil, err
	}
	return parseText(body)
}

func missingProblem(path string, err error) error {
	return &replication.Problem{
		Code: "vault.key.missing", Cause: fmt.Sprintf("there is no key file %s", path), Effect: "nothing was done",
		Action: "give the file with the master key, or restore it from the escrow: riparo keys import --key " + path + " FILE", Remedy: replication.Stop, Err: err,
	}
}

func exposedProblem(path string, err error) error {
	return &replication.Problem{
		Code: "vault.key.exposed", Cause: fmt.Sprintf("the key file %s is not private: %v", path, err), Effect: "it is not used",
		Action: "take the rights of others away (chmod 600), and ask who may have read it: riparo keys rotate makes a new key", Remedy: replication.Stop, Err: err,
	}
}

func unreadableProblem(path string, err error) error {
	return &replication.Problem{
		Code: "vault.key.file", Cause: fmt.Sprintf("the key file %s cannot be read: %v", path, err), Effect: "nothing was done",
		Action: "restore it from the escrow: riparo keys import --key " + path + " FILE", Remedy: replication.Stop, Err: err,
	}
}

func unwritableProblem(path string, err error) error {
	return &replication.Problem{
		Code: "vault.key.file", Cause: fmt.Sprintf("the key file %s cannot be written: %v", path, err), Effect: "the master keys are as they were",
		Action: "choose another place for it, or make room and give this user the right to write there", Remedy: replication.Stop, Err: err,
	}
}
