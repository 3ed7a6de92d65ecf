package image

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"riparo/replication"
)

const (
	// maxChangedLine is far more than a line with two numbers needs.
	maxChangedLine = 4096
	// maxChanged bounds the extents held in memory: 16 MiB. A list with more of
	// them, that do not touch, is better sent as a resynchronization.
	maxChanged = 1 << 20
)

// ReadChanged reads changed extents of a disk of size bytes, as JSON lines:
//
//	{"offset":1048576,"length":65536}
//
// Empty lines are passed over. The extents may come in any order and overlap; the
// result is sorted and joined. An error names the line; it is a problem with the
// code "changed.invalid".
func ReadChanged(r io.Reader, size int64) ([]replication.Extent, error) {
	return readChanged(r, size, maxChanged)
}

func readChanged(r io.Reader, size int64, limit int) ([]replication.Extent, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxChangedLine), maxChangedLine)
	var extents []replication.Extent
	number := 0
	for lines.Scan() {
		number++
		text := lines.Bytes()
		if number == 1 {
			text = bytes.TrimPrefix(text, []byte("\ufeff")) // Some editors begin a file so.
		}
		if text = bytes.TrimSpace(text); len(text) == 0 {
			continue
		}
		e, err := parseChanged(text, size)
		if err != nil {
			return nil, changedProblem(number, err)
		}
		if extents = append(extents, e); len(extents) < 2*limit {
			continue
		}
		if extents = replication.Union(extents); len(extents) > limit {
			return nil, changedProblem(number, fmt.Errorf("more than %d extents that do not touch", limit))
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, changedProblem(number+1, fmt.Errorf("more than %d bytes", maxChangedLine))
	case err != nil:
		return nil, fmt.Errorf("read the changed extents after line %d: %w", number, err)
	}
	if extents = replication.Union(extents); len(extents) > limit {
		return nil, changedProblem(number, fmt.Errorf("more than %d extents that do not touch", limit))
	}
	return extents, nil
}

func parseChanged(text []byte, size int64) (replication.Extent, error) {
	var line struct{ Offset, Length *int64 }
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&line); err != nil {
		return replication.Extent{}, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return replication.Extent{}, errors.New("something follows the object")
	}
	if line.Offset == nil || line.Length == nil {
		return replication.Extent{}, errors.New("offset or length is missing")
	}
	e := replication.Extent{Offset: *line.Offset, Length: *line.Length}
	return e, e.Within(size)
}

func changedProblem(line int, err error) error {
	return &replication.Problem{
		Code: "changed.invalid", Cause: fmt.Sprintf("the list of changed extents, line %d: %v", line, err), Effect: "nothing was replicated",
		Action: `write one {"offset":N,"length":N} on each line, in bytes and inside of the disk, or leave the list out and differences are found by checksum`, Remedy: replication.Stop, Err: err,
	}
}
