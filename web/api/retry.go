package api

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"riparo/replication"
)

// TooMany reports whether an error is the refusal of somebody who tried too often. It
// is answered with 429 and, by [RetryAfter], with how long to wait.
func TooMany(err error) bool { return replication.AsProblem(err).Code == "login.locked" }

// RetryAfter writes into the header of an answer how many seconds another try is of no
// use, rounded up, when the error knows it (RFC 9110, 10.2.3).
func RetryAfter(h http.Header, err error) {
	waits, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err)
	if !ok {
		return
	}
	seconds := int64((waits.RetryAfter() + time.Second - 1) / time.Second)
	h.Set("Retry-After", strconv.FormatInt(max(seconds, 1), 10))
}
