package replication

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestAProblemReadsAsSentences(t *testing.T) {
	p := &Problem{Cause: "the file /srv/a.raw cannot be opened", Effect: "nothing was replicated", Action: "change its owner"}
	if got, want := p.Error(), "the file /srv/a.raw cannot be opened; nothing was replicated; change its owner"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := (&Problem{Cause: "it rained"}).Error(); got != "it rained" {
		t.Errorf("%q", got)
	}
}

func TestAProblemIsFoundInWhatIsWrappedAroundIt(t *testing.T) {
	inner := &Problem{Code: "vault.full", Cause: "no space left", Action: "free some", Remedy: Retry, Err: fs.ErrPermission}
	wrapped := fmt.Errorf("replicate web01: %w", fmt.Errorf("disk vda: %w", inner))
	got := AsProblem(wrapped)
	if got.Code != "vault.full" || got.Cause != "replicate web01: disk vda: no space left" || got.Action != "free some" {
		t.Errorf("%+v", got)
	}
	if !errors.Is(got, fs.ErrPermission) {
		t.Error("the error below is lost")
	}
	if inner.Cause != "no space left" {
		t.Errorf("the problem itself was changed: %q", inner.Cause)
	}
	if AsProblem(inner) != inner {
		t.Error("a bare problem becomes another one")
	}
	if AsProblem(nil) != nil {
		t.Error("nothing becomes a problem")
	}
}

func TestEveryErrorHasARemedy(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Remedy
	}{
		{errors.New("connection refused"), Retry},
		{fmt.Errorf("write: %w", ErrStaleEpoch), Stop},
		{&Problem{Remedy: Resync}, Resync},
		{fmt.Errorf("web01: %w", &Problem{Remedy: Stop}), Stop},
		{Stopf("login", "update the account", "vCenter refused %s", "dr-svc"), Stop},
	} {
		if got := RemedyFor(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
	for r, want := range map[Remedy]string{Retry: "retry", Resync: "resynchronize", Stop: "stop"} {
		if r.String() != want {
			t.Errorf("%q, want %q", r, want)
		}
	}
}

func TestStopfKeepsWhatItWraps(t *testing.T) {
	err := Stopf("file.denied", "run as another user", "open %s: %w", "a.raw", fs.ErrPermission)
	p := AsProblem(err)
	if p.Code != "file.denied" || p.Cause != "open a.raw: permission denied" || p.Action != "run as another user" || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%+v", p)
	}
}
