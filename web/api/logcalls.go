package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

func (f LogFilter) query() url.Values {
	instant := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.Format(time.RFC3339Nano)
	}
	return queryOf("level", f.Level, "component", f.Component, "machine", f.Machine, "job", f.Job, "q", f.Text, "since", instant(f.Since), "until", instant(f.Until))
}

// Logs gives the newest lines before a place; an empty one is the end of the log.
func (c *Client) Logs(ctx context.Context, f LogFilter, before string, limit int) (LogPage, error) {
	q := f.query()
	if before != "" {
		q.Set("before", before)
	}
	if limit > 0 {
		q.Set("limit", number(limit))
	}
	return get[LogPage](ctx, c, "/api/v1/logs", q)
}

// FollowLogs calls got with each line that is written from a place on, until ctx
// ends, got returns an error, or the connection breaks.
func (c *Client) FollowLogs(ctx context.Context, f LogFilter, after string, got func(LogLine) error) error {
	q := f.query()
	if after != "" {
		q.Set("after", after)
	}
	response, err := c.send(ctx, http.MethodGet, "/api/v1/logs/stream", q, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	err = eachNews(response.Body, func(kind, value string) error {
		if kind != "line" {
			return nil
		}
		var line LogLine
		if err := json.Unmarshal([]byte(value), &line); err != nil {
			return fmt.Errorf("read the log stream: %w", err)
		}
		return got(line)
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if broken, ok := errors.AsType[*streamBroken](err); ok {
		return c.unreachable(ctx, broken.err)
	}
	return err
}

// LogLevel says from which level on the log is written.
func (c *Client) LogLevel(ctx context.Context) (string, error) {
	l, err := get[LogLevel](ctx, c, "/api/v1/logs/level", nil)
	return l.Level, err
}

// SetLogLevel changes that, until the daemon starts again.
func (c *Client) SetLogLevel(ctx context.Context, level string) error {
	return c.call(ctx, http.MethodPut, "/api/v1/logs/level", nil, LogLevel{level}, nil)
}
