package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"riparo/store"
)

// News is one message of the stream: exactly one of the three is set.
type News struct {
	Event  *store.Event
	Change *Change
	Beat   *Beat
}

// maxNews bounds one message of the stream.
const maxNews = 1 << 20

// Follow calls got with each message of the event stream until ctx ends, got
// returns an error, or the connection breaks. after, if not empty, is the ID of
// the last event that is known already.
func (c *Client) Follow(ctx context.Context, after string, got func(News) error) error {
	response, err := c.send(ctx, http.MethodGet, "/api/v1/events", queryOf("after", after), nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	err = eachNews(response.Body, func(kind, value string) error {
		news, err := readNews(kind, value)
		if err != nil {
			return err
		}
		return got(news)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if broken, ok := errors.AsType[*streamBroken](err); ok {
		return c.unreachable(ctx, broken.err)
	}
	return err
}

func readNews(kind, value string) (News, error) {
	var n News
	var into any
	switch kind {
	case "event":
		n.Event = new(store.Event)
		into = n.Event
	case "change":
		n.Change = new(Change)
		into = n.Change
	case "beat":
		n.Beat = new(Beat)
		into = n.Beat
	default: // of a newer appliance
		return n, nil
	}
	if err := json.Unmarshal([]byte(value), into); err != nil {
		return n, fmt.Errorf("read the event stream: %w", err)
	}
	return n, nil
}

// streamBroken is the end of a stream that nobody asked to end.
type streamBroken struct{ err error }

func (e *streamBroken) Error() string { return e.err.Error() }

// eachNews calls got with each message of a stream of server-sent events. It returns
// got's error, or a streamBroken.
func eachNews(stream io.Reader, got func(kind, value string) error) error {
	lines := bufio.NewScanner(stream)
	lines.Buffer(make([]byte, 0, 64<<10), maxNews)
	kind := ""
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			kind = value
		case "data":
			if err := got(kind, value); err != nil {
				return err
			}
		case "":
			kind = ""
		}
	}
	if err := lines.Err(); err != nil {
		return &streamBroken{err}
	}
	return &streamBroken{io.ErrUnexpectedEOF}
}
