package keyring

import (
	"bytes"
	"testing"
	"time"

	"riparo/replication/vault"
)

var _ vault.Keys = (*Ring)(nil)

var day = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func newRing(t *testing.T) *Ring {
	t.Helper()
	r, err := New(day)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func with(t *testing.T, r *Ring) *Ring {
	t.Helper()
	r, err := r.With(day.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestARingOpensWhatItWrapped(t *testing.T) {
	old := newRing(t)
	key, label := bytes.Repeat([]byte{7}, 32), []byte("vault 1")
	wrapped, err := old.Wrap(key, label)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := old.Wrap(key, label); err != nil || bytes.Equal(again, wrapped) {
		t.Errorf("a key is wrapped the same way twice, %v", err)
	}
	both := with(t, old)
	if got, err := both.Unwrap(old.Master(), wrapped, label); err != nil || !bytes.Equal(got, key) {
		t.Errorf("the ring with a new key: %x, %v", got, err)
	}
	if both.Master() == old.Master() || !both.Holds(old.Master()) || old.Holds(both.Master()) {
		t.Errorf("the new key is %s, the old one %s: want both held, and the new one to wrap", both.Master(), old.Master())
	}
	bad := bytes.Clone(wrapped)
	bad[len(bad)-1] ^= 1
	for name, try := range map[string]struct {
		ring           *Ring
		wrapped, label []byte
	}{
		"another label":       {old, wrapped, []byte("vault 2")},
		"changed":             {old, bad, label},
		"cut off":             {old, wrapped[:5], label},
		"empty":               {old, nil, label},
		"the old key is gone": {both.Newest(), wrapped, label},
	} {
		if got, err := try.ring.Unwrap(old.Master(), try.wrapped, try.label); err == nil {
			t.Errorf("%s: opened to %x", name, got)
		}
	}
	if _, err := both.Unwrap(both.Master(), wrapped, label); err == nil {
		t.Error("the new key opens what the old one wrapped")
	}
}

func TestJoiningRingsKeepsTheKeyThatWraps(t *testing.T) {
	a, b := newRing(t), with(t, newRing(t))
	j := a.Joined(b)
	if j.Master() != a.Master() || len(j.Keys()) != 3 || !j.Holds(b.Master()) {
		t.Errorf("%+v: want the keys of both, and %s last", j.Keys(), a.Master())
	}
	if again := j.Joined(b); len(again.Keys()) != 3 {
		t.Errorf("joined twice there are %d keys, want 3", len(again.Keys()))
	}
}

func TestEveryDamageToAKeyIsFound(t *testing.T) {
	text := with(t, newRing(t)).text()
	r, err := parseText(text)
	if err != nil || !bytes.Equal(r.text(), text) {
		t.Fatalf("read back: %v", err)
	}
	for i := range text {
		for bit := range 8 {
			p := bytes.Clone(text)
			p[i] ^= 1 << bit
			got, err := parseText(p)
			if err != nil {
				continue
			}
			t.Fatalf("bit %d of byte %d: %d keys were read all the same", bit, i, len(got.keys))
		}
	}
	for name, p := range map[string][]byte{"nothing": nil, "a sum of nothing": sumLine(nil), "cut off": text[:len(text)-1], "twice the same": append(bytes.Clone(text), text...)} {
		if _, err := parseText(p); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func FuzzKeyFile(f *testing.F) {
	r, err := New(day)
	if err != nil {
		f.Fatal(err)
	}
	p, err := r.file()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parseFile(p)
		if err != nil {
			return
		}
		for _, k := range r.keys {
			if nameOf(k.secret) != k.name {
				t.Fatalf("key %s does not fit its name", k.name)
			}
		}
	})
}
