package logs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/DeRuina/timberjack"

	"riparo/store/redact"
)

// Bounds on what the log takes. Files that are not written to any more are
// compressed, to a tenth or less.
const (
	// FileMiB, Files and Days: the log never takes more than 51 MiB for the file that
	// is written to and 20 older ones, 1 GiB before they are compressed, and nothing
	// is kept for longer than 30 days.
	FileMiB = 50
	Files   = 20
	Days    = 30
	// MostBytes is what all of that takes at most.
	MostBytes = (Files + 1) * FileMiB << 20
)

// Options say where the log is and how much of it is kept.
type Options struct {
	Dir   string // made if missing
	Level slog.Level
	// FileMiB, Files and Days default to the constants of the same names.
	FileMiB, Files, Days int
}

// Log is the log that is written to.
type Log struct {
	*slog.Logger
	// Level may be changed at any time; it takes effect at once.
	Level *slog.LevelVar

	file *timberjack.Logger

	mu    sync.Mutex // guards nudge
	nudge map[chan struct{}]bool
}

// Open opens the log for writing.
func Open(o Options) (*Log, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the log folder: %w", err)
	}
	path := filepath.Join(o.Dir, active)
	if err := mend(path); err != nil {
		return nil, err
	}
	or := func(n, standard int) int {
		if n > 0 {
			return n
		}
		return standard
	}
	l := &Log{Level: new(slog.LevelVar), nudge: map[chan struct{}]bool{},
		file: &timberjack.Logger{Filename: path, MaxSize: or(o.FileMiB, FileMiB), MaxBackups: or(o.Files, Files), MaxAge: or(o.Days, Days),
			Compression: "gzip", FileMode: 0o600}}
	l.Level.Set(o.Level)
	l.Logger = slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: l.Level, ReplaceAttr: written}))
	return l, nil
}

// mend ends a last line that a crash tore, so that the next one begins on its own.
func mend(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer f.Close()
	last := make([]byte, 1)
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil && end > 0 {
		if _, err = f.ReadAt(last, end-1); err == nil && last[0] != '\n' {
			_, err = f.Write([]byte("\n"))
		}
	}
	if err != nil {
		return fmt.Errorf("end the last line of the log: %w", err)
	}
	return nil
}

// written makes an attribute what is written: without secrets, times in UTC, spans
// with their unit.
func written(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
		return slog.Time(a.Key, a.Value.Time().UTC())
	}
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		if redact.Name(a.Key) && v.String() != "" {
			return slog.String(a.Key, redact.Mark)
		}
		return slog.String(a.Key, redact.Text(v.String()))
	case slog.KindDuration:
		return slog.String(a.Key, v.Duration().Round(time.Microsecond).String())
	case slog.KindAny:
		switch any := v.Any().(type) {
		case nil, slog.Level, *slog.Source:
			return a
		case error:
			return slog.String(a.Key, redact.Text(any.Error()))
		case fmt.Stringer:
			return slog.String(a.Key, redact.Text(any.String()))
		default:
			if redact.Name(a.Key) {
				return slog.String(a.Key, redact.Mark)
			}
			return slog.String(a.Key, redact.Text(fmt.Sprint(any)))
		}
	}
	return a
}

// Write takes a line and tells those who follow the log that there is one.
func (l *Log) Write(line []byte) (int, error) {
	n, err := l.file.Write(line)
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.nudge {
		select {
		case c <- struct{}{}:
		default: // it knows already
		}
	}
	return n, err
}

// Subscribe gives a channel of one slot that is nudged when a line was written.
// Writing never waits for who reads.
func (l *Log) Subscribe() (nudge <-chan struct{}, cancel func()) {
	c := make(chan struct{}, 1)
	l.mu.Lock()
	l.nudge[c] = true
	l.mu.Unlock()
	return c, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.nudge, c)
	}
}

// Close closes the file. What is logged afterwards opens it again.
func (l *Log) Close() error { return l.file.Close() }
