package web

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// keyHeader lets a program send the same call twice and have it done once: draft
// ietf-httpapi-idempotency-key-header.
const keyHeader = "Idempotency-Key"

const (
	// keyLife: who repeats a call does it within a day.
	keyLife = 24 * time.Hour
	// maxKey is for a UUID and a name before it.
	maxKey = 200
	// maxKept bounds the answers of a day: at 1 KB each some 20 MB.
	maxKept = 20_000
	// sweepKeys is how often what is older than keyLife is removed.
	sweepKeys = 10 * time.Minute
)

// secretAnswers are calls whose answer holds a secret: it is not kept, and cannot be
// given again.
var secretAnswers = map[string]bool{"POST /api/v1/tokens": true, "POST /api/v1/setup": true}

// keys are the idempotency keys of the API. What was answered is in the store; a key
// whose call was under way when the daemon ended is told by its run.
type keys struct {
	run string

	mu    sync.Mutex // guards what follows
	swept time.Time
	kept  int
}

func newKeys() *keys { return &keys{run: rand.Text()} }

// once serves a call that carries a key once, and gives its answer again to who repeats
// it. Only what was done is kept: a call that was refused has done nothing, and is tried
// anew.
func (k *Console) once(w http.ResponseWriter, r *http.Request, pattern string, caller api.Caller, serve http.HandlerFunc) {
	key := r.Header.Get(keyHeader)
	if r.Method != http.MethodPost || key == "" || caller.Name == "" {
		serve(w, r)
		return
	}
	refuse := func(status int, p *replication.Problem) { api.WriteProblem(w, status, p) }
	if len(key) > maxKey || strings.ContainsFunc(key, func(c rune) bool { return c < '!' || c > '~' }) {
		refuse(http.StatusBadRequest, &replication.Problem{Code: "key.invalid", Cause: fmt.Sprintf("an idempotency key has 1 to %d visible ASCII characters", maxKey), Effect: "nothing was done",
			Action: "send a UUID, for example", Remedy: replication.Stop})
		return
	}
	content, err := io.ReadAll(r.Body) // bounded by maxBody
	if err != nil {
		refuse(http.StatusBadRequest, &replication.Problem{Code: "request.cut", Cause: "the request could not be read", Effect: "nothing was done", Action: "send it again", Remedy: replication.Stop})
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(content))
	request := sha256.New()
	fmt.Fprintf(request, "%s\n%s\n", r.Method, r.URL.RequestURI())
	request.Write(content)
	id := sha256.Sum256([]byte(caller.Name + "\n" + caller.Person + "\n" + key))
	mine := store.Answered{ID: hex.EncodeToString(id[:]), Request: request.Sum(nil), Run: k.keys.run, Began: k.Now()}
	known, err := k.takeKey(mine)
	switch p, told := errors.AsType[*replication.Problem](err); {
	case told:
		refuse(http.StatusServiceUnavailable, p)
	case err != nil:
		k.Logger.Error("an idempotency key cannot be kept", "error", err)
		refuse(http.StatusInternalServerError, replication.AsProblem(err))
	case known != nil:
		k.again(w, *known, mine)
	default:
		answer := &heldAnswer{ResponseWriter: w}
		finished := false
		defer func() {
			if err := k.keepAnswer(mine, answer, finished, secretAnswers[pattern]); err != nil {
				k.Logger.Error("the answer to a call with an idempotency key was not kept", "error", err)
			}
			if finished {
				answer.send()
			}
		}()
		serve(answer, r)
		finished = true
	}
}

// takeKey notes that a call is under way, or gives what is known of its key.
func (k *Console) takeKey(mine store.Answered) (known *store.Answered, err error) {
	k.keys.mu.Lock()
	defer k.keys.mu.Unlock()
	sweep := mine.Began.Sub(k.keys.swept) >= sweepKeys
	kept := k.keys.kept
	err = k.Store.Update(func(tx *store.Tx) error {
		known = nil
		if sweep {
			var err error
			if kept, err = sweepOld(tx, mine.Began.Add(-keyLife)); err != nil {
				return err
			}
		}
		old, err := tx.Requests().Get(mine.ID)
		switch {
		case err == nil && mine.Began.Sub(old.Began) < keyLife:
			known = &old
			return nil
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return err
		case kept >= maxKept:
			return &replication.Problem{Code: "key.many", Cause: fmt.Sprintf("%d calls carried an idempotency key within 24 h, and more are not kept", kept), Effect: "nothing was done",
				Action: "send fewer, or send it without a key", Remedy: replication.Retry}
		}
		kept++
		return tx.Requests().Put(mine)
	})
	if err == nil {
		if k.keys.kept = kept; sweep {
			k.keys.swept = mine.Began
		}
	}
	return known, err
}

// sweepOld removes what began before a time, and counts what is left.
func sweepOld(tx *store.Tx, before time.Time) (left int, err error) {
	var old []string
	for a, err := range tx.Requests().All() {
		if err != nil {
			return 0, err
		}
		if left++; a.Began.Before(before) {
			old = append(old, a.ID)
		}
	}
	for _, id := range old {
		if err := tx.Requests().Delete(id); err != nil {
			return 0, err
		}
	}
	return left - len(old), nil
}

// keepAnswer keeps what was answered, or forgets the key of a call that did nothing.
func (k *Console) keepAnswer(mine store.Answered, answer *heldAnswer, finished, secret bool) error {
	if !finished || answer.status >= 500 {
		return nil // what it did is not known: see again
	}
	return k.Store.Update(func(tx *store.Tx) error {
		if answer.status >= 400 {
			return tx.Requests().Delete(mine.ID)
		}
		mine.Status, mine.Type, mine.Secret = answer.status, answer.Header().Get("Content-Type"), secret
		if !secret {
			mine.Content = bytes.Clone(answer.body.Bytes())
		}
		return tx.Requests().Put(mine)
	})
}

// again answers a call whose key is known.
func (k *Console) again(w http.ResponseWriter, known, mine store.Answered) {
	problem := func(status int, code, cause, effect, action string) {
		api.WriteProblem(w, status, &replication.Problem{Code: code, Cause: cause, Effect: effect, Action: action, Remedy: replication.Stop})
	}
	switch {
	case !bytes.Equal(known.Request, mine.Request):
		problem(http.StatusUnprocessableEntity, "key.reused", "this idempotency key came with another request before", "nothing was done", "use a new key for each thing that is to be done")
	case known.Status == 0 && known.Run == mine.Run && mine.Began.Sub(known.Began) < requestTime:
		problem(http.StatusConflict, "key.running", "a request with this idempotency key is under way", "nothing was done twice", "send it again when it has ended")
	case known.Status == 0:
		problem(http.StatusConflict, "key.unknown", "the request with this idempotency key came to no clean end", "whether it did what was asked is not known", "look at the jobs and events, and use a new key if it has to be done")
	case known.Secret:
		problem(http.StatusConflict, "key.secret", "the request with this idempotency key was done, and its answer held a secret that is not shown again", "nothing was done twice", "revoke what was made and make another with a new key")
	default:
		w.Header().Set("Content-Type", known.Type)
		w.Header().Set("Idempotency-Replayed", "true")
		w.WriteHeader(known.Status)
		w.Write(known.Content)
	}
}
