package audit

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"riparo/store"
)

// Report is what a verification found.
type Report = store.AuditReport

// maxFindings bounds what is reported of a log that was rewritten.
const maxFindings = 100

func find(r *Report, format string, args ...any) {
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, fmt.Sprintf(format, args...))
	}
}

// page is how many lines are read in one transaction.
const page = 1000

// Verify reads the whole log and reports every line that is not as it was written,
// and every one that is missing.
func (l *Log) Verify(ctx context.Context) (Report, error) {
	r := Report{Findings: []string{}}
	// One transaction: what is added or gives way meanwhile is not seen by halves.
	err := l.store.View(func(tx *store.Tx) error {
		var head, anchor mark
		hasHead, err := tx.Setting(headSetting, &head)
		if err != nil {
			return err
		}
		if _, err := tx.Setting(anchorSetting, &anchor); err != nil {
			return err
		}
		l.checkMark(&r, "end", headSetting, head)
		l.checkMark(&r, "beginning", anchorSetting, anchor)
		previous := store.AuditLine{Sequence: anchor.Sequence, MAC: anchor.MAC}
		for line, err := range tx.Audit().All() {
			if err := errors.Join(err, ctx.Err()); err != nil {
				return err
			}
			if err := l.verifyLine(&r, previous, line); err != nil {
				return err
			}
			if line.Sequence == head.Sequence && !hmac.Equal(line.MAC, head.MAC) {
				find(&r, "line %d is not the one that the log ended with", line.Sequence)
			}
			previous = line
		}
		r.Last = previous.Sequence
		switch {
		case !hasHead && r.Lines > 0:
			find(&r, "the signed end of the log is missing")
		case r.Last < head.Sequence:
			find(&r, "lines %d to %d, the newest, are missing", r.Last+1, head.Sequence)
		case hasHead && r.Last > head.Sequence:
			find(&r, "lines %d to %d stand behind the signed end of the log", head.Sequence+1, r.Last)
		}
		return nil
	})
	r.Sound = len(r.Findings) == 0
	return r, err
}

func (l *Log) verifyLine(r *Report, previous, line store.AuditLine) error {
	if r.Lines++; r.Lines == 1 {
		r.First = line.Sequence
	}
	if line.Sequence != previous.Sequence+1 {
		if line.Sequence > previous.Sequence+1 {
			find(r, "lines %d to %d are missing", previous.Sequence+1, line.Sequence-1)
		} else {
			find(r, "line %d was let go of and stands here again", line.Sequence)
		}
		return nil // its MAC is over a line that is not here; the next one is over its own
	}
	if line.Key != l.name {
		find(r, "line %d was signed with the key %s, not with the one of this appliance, %s", line.Sequence, line.Key, l.name)
		return nil
	}
	mac, err := l.mac(previous.MAC, line)
	if err == nil && !hmac.Equal(mac, line.MAC) {
		find(r, "line %d is not as it was written, or not where it was written", line.Sequence)
	}
	return err
}

func (l *Log) checkMark(r *Report, what, place string, m mark) {
	if m.Sequence == 0 {
		return
	}
	if m.Key != l.name {
		find(r, "the signed %s of the log carries the key %s, not the one of this appliance, %s", what, m.Key, l.name)
		return
	}
	if !hmac.Equal(l.seal(place, m), m.Seal) {
		find(r, "the signed %s of the log is not as it was written", what)
	}
}

// walk yields all lines, oldest first, a page per transaction.
func (l *Log) walk(ctx context.Context, yield func(store.AuditLine) error) error {
	for after := ""; ; {
		var lines []store.AuditLine
		err := l.store.View(func(tx *store.Tx) (err error) {
			lines, err = tx.Audit().Page(after, page, false)
			return err
		})
		if err != nil {
			return fmt.Errorf("read the audit log: %w", err)
		}
		for _, line := range lines {
			if err := yield(line); err != nil {
				return err
			}
			after = store.AuditKey(line.Sequence)
		}
		if len(lines) < page {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// Export writes all lines as JSON, one a line, oldest first.
func (l *Log) Export(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriter(w)
	encoder := json.NewEncoder(out)
	err := l.walk(ctx, func(line store.AuditLine) error { return encoder.Encode(line) })
	return errors.Join(err, out.Flush())
}

// Compare holds an export that was kept elsewhere against another, later one of the
// same log: every line of the first that the log still reaches back to must be the
// same in the second. It finds what was rewritten by somebody with the key, and an
// older state that was put back. It needs no key.
func Compare(kept, now io.Reader) (Report, error) {
	r := Report{Findings: []string{}}
	lines := map[uint64][sha256.Size]byte{}
	first, last := uint64(0), uint64(0)
	err := read(now, func(line store.AuditLine, sum [sha256.Size]byte) {
		if first == 0 {
			first = line.Sequence
		}
		lines[line.Sequence], last = sum, line.Sequence
	})
	if err != nil {
		return r, err
	}
	err = read(kept, func(line store.AuditLine, sum [sha256.Size]byte) {
		if r.Lines == 0 {
			r.First = line.Sequence
		}
		r.Lines++
		r.Last = line.Sequence
		same, there := lines[line.Sequence]
		switch {
		case !there && (line.Sequence > last || line.Sequence >= first):
			find(&r, "line %d of the export is not in the log", line.Sequence)
		case there && same != sum:
			find(&r, "line %d of the export is another one in the log", line.Sequence)
		}
	})
	r.Sound = len(r.Findings) == 0
	return r, err
}

// read gives the lines of an export, each with a hash of all that it says.
func read(from io.Reader, yield func(store.AuditLine, [sha256.Size]byte)) error {
	decoder := json.NewDecoder(from)
	for n := 1; ; n++ {
		var line store.AuditLine
		err := decoder.Decode(&line)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("line %d of the export: %w", n, err)
		}
		text, err := json.Marshal(line)
		if err != nil {
			return err
		}
		yield(line, sha256.Sum256(text))
	}
}
