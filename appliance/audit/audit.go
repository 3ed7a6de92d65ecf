package audit

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"riparo/replication"
	"riparo/store"
)

// Bounds of the log.
const (
	// MaxLines: at 500 bytes each some 100 MB, and years of people's work.
	MaxLines = 200_000
	// dropAtOnce is how many give way together, so that it is rarely done.
	dropAtOnce = 1000
	// maxText bounds each text of a line.
	maxText = 2000
)

// keyBytes is the length of the key: that of the hash.
const keyBytes = sha256.Size

// Log is the audit log. It is safe from several goroutines.
type Log struct {
	store    *store.Store
	log      *slog.Logger
	now      func() time.Time
	key      []byte
	name     string // of the key
	maxLines int

	mu sync.Mutex // held while a line is added: one follows the other
}

// Options are what Open needs besides the store.
type Options struct {
	// KeyFile holds the key; it is made when it is missing.
	KeyFile string
	Logger  *slog.Logger     // nil: nowhere
	Now     func() time.Time // nil: time.Now
}

// Open gives the audit log of a store.
func Open(st *store.Store, o Options) (*Log, error) {
	l := &Log{store: st, log: o.Logger, now: o.Now, maxLines: MaxLines}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	var err error
	if l.key, err = loadKey(o.KeyFile); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(l.key)
	l.name = hex.EncodeToString(sum[:4])
	return l, nil
}

func loadKey(file string) ([]byte, error) {
	key, err := os.ReadFile(file)
	if err == nil && len(key) != keyBytes {
		err = fmt.Errorf("it has %d bytes: want %d", len(key), keyBytes)
	}
	if err == nil {
		return key, nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, &replication.Problem{Code: "audit.key", Cause: fmt.Sprintf("the key of the audit log %s cannot be read: %v", file, err), Effect: "the appliance does not start",
			Action: "put the file back from a backup; or remove it: the log then goes on with a new key, and older lines can no longer be verified", Remedy: replication.Stop, Err: err}
	}
	key = make([]byte, keyBytes)
	rand.Read(key)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("keep the key of the audit log: %w", err)
	}
	if err := os.WriteFile(file, key, 0o600); err != nil {
		return nil, fmt.Errorf("keep the key of the audit log: %w", err)
	}
	return key, nil
}

// mark is a place in the chain that is signed by itself: where it ends, or where it
// begins after the oldest lines gave way.
type mark struct {
	Sequence uint64 `json:"sequence"`
	MAC      []byte `json:"mac"`
	Key      string `json:"key"`
	Seal     []byte `json:"seal"`
}

// The settings that hold the marks.
const (
	headSetting   = "audit.head"
	anchorSetting = "audit.anchor"
)

func (l *Log) seal(place string, m mark) []byte {
	h := hmac.New(sha256.New, l.key)
	h.Write([]byte(place + "\x00"))
	h.Write(binary.BigEndian.AppendUint64(nil, m.Sequence))
	h.Write(m.MAC)
	return h.Sum(nil)
}

func (l *Log) setMark(tx *store.Tx, place string, line store.AuditLine) error {
	m := mark{Sequence: line.Sequence, MAC: line.MAC, Key: l.name}
	m.Seal = l.seal(place, m)
	return tx.SetSetting(place, m)
}

// mac is the MAC of a line that follows the one with the MAC previous.
func (l *Log) mac(previous []byte, line store.AuditLine) ([]byte, error) {
	line.MAC = nil
	text, err := json.Marshal(line)
	if err != nil {
		return nil, fmt.Errorf("audit line %d: %w", line.Sequence, err)
	}
	h := hmac.New(sha256.New, l.key)
	h.Write(previous)
	h.Write(text)
	return h.Sum(nil), nil
}

// Append adds a line and gives it as it was written. It fills in the sequence, the
// time and the MAC. When it returns nil the line survives a crash.
func (l *Log) Append(line store.AuditLine) (store.AuditLine, error) {
	for _, text := range []*string{&line.Actor, &line.Address, &line.Action, &line.Object, &line.Detail, &line.Before, &line.After} {
		*text = short(*text)
	}
	line.Time, line.Key = l.now().UTC(), l.name
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.store.Update(func(tx *store.Tx) error {
		last, err := l.last(tx)
		if err != nil {
			return err
		}
		line.Sequence = last.Sequence + 1
		if line.MAC, err = l.mac(last.MAC, line); err != nil {
			return err
		}
		if err := errors.Join(tx.Audit().Put(line), l.setMark(tx, headSetting, line)); err != nil {
			return err
		}
		return l.drop(tx)
	})
	if err != nil {
		return line, fmt.Errorf("write the audit log: %w", err)
	}
	// The log of the appliance is a second copy, which often leaves this machine.
	l.log.Info("audit", "sequence", line.Sequence, "of", line.Of, "actor", line.Actor, "address", line.Address, "action", line.Action,
		"object", line.Object, "outcome", line.Outcome, "mac", hex.EncodeToString(line.MAC[:8]))
	return line, nil
}

// last is the line that the next one follows. When the log does not end as it was
// signed, the next line leaves a gap behind it: what happened to the end stays to
// be seen.
func (l *Log) last(tx *store.Tx) (store.AuditLine, error) {
	var last store.AuditLine
	page, err := tx.Audit().Page("", 1, true)
	if err != nil {
		return last, err
	}
	if len(page) == 1 {
		last = page[0]
	}
	var head, anchor mark
	hasHead, err := tx.Setting(headSetting, &head)
	if err != nil {
		return last, err
	}
	if _, err := tx.Setting(anchorSetting, &anchor); err != nil {
		return last, err
	}
	fresh := last.Sequence == 0 && !hasHead
	if sound := head.Sequence == last.Sequence && hmac.Equal(head.MAC, last.MAC) && hmac.Equal(l.seal(headSetting, head), head.Seal); !fresh && !sound {
		l.log.Error("the audit log does not end as it was signed", "last", last.Sequence, "signed", head.Sequence)
		last = store.AuditLine{Sequence: max(last.Sequence, head.Sequence, anchor.Sequence) + 1}
	}
	return last, nil
}

// drop lets the oldest lines give way and signs where the log begins.
func (l *Log) drop(tx *store.Tx) error {
	n, err := tx.Audit().Count()
	if err != nil || n <= l.maxLines {
		return err
	}
	old, err := tx.Audit().Page("", min(dropAtOnce, l.maxLines/2), false)
	if err != nil {
		return err
	}
	for _, line := range old {
		if err := tx.Audit().Delete(store.AuditKey(line.Sequence)); err != nil {
			return err
		}
	}
	return l.setMark(tx, anchorSetting, old[len(old)-1])
}

func short(text string) string {
	if runes := []rune(text); len(runes) > maxText {
		return string(runes[:maxText]) + "…"
	}
	return text
}

// Page gives up to limit lines before the one of this sequence, newest first; 0
// begins at the end.
func (l *Log) Page(before uint64, limit int) ([]store.AuditLine, error) {
	var lines []store.AuditLine
	after := ""
	if before > 0 {
		after = store.AuditKey(before)
	}
	err := l.store.View(func(tx *store.Tx) (err error) {
		lines, err = tx.Audit().Page(after, limit, true)
		return err
	})
	return lines, err
}
