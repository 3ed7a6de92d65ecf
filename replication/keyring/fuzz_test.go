package keyring

import (
	"bytes"
	"testing"
)

// FuzzKeyText reads what an escrow holds once it is open.
func FuzzKeyText(f *testing.F) {
	r, err := New(day)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.text())
	f.Add(append([]byte("k 2026-11-26T12:00:00Z AAAA\n"), sumLine([]byte("k 2026-11-26T12:00:00Z AAAA\n"))...))
	f.Add([]byte("k 2026-11-26T12:00:00Z AAAA\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parseText(p)
		if err != nil {
			return
		}
		again, err := parseText(r.text())
		if err != nil || len(again.keys) != len(r.keys) || !bytes.Equal(again.text(), r.text()) {
			t.Fatalf("written and read again: %v", err)
		}
	})
}

// FuzzEscrow opens what somebody says is an escrow. Whoever made it chose its cost, and
// must not make the one who opens it pay more than ours costs.
func FuzzEscrow(f *testing.F) {
	old := scryptCost
	scryptCost = 2
	defer func() { scryptCost = old }()
	const passphrase = "correct horse battery staple"
	r, err := New(day)
	if err != nil {
		f.Fatal(err)
	}
	p, err := r.Export(passphrase)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Add([]byte("age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 62\nAAAA\n--- AAAA\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if bytes.Contains(p, []byte("scrypt")) {
			return // its cost may be as high as ours, a second for each try
		}
		// Each process of the fuzzer makes a ring of its own, so only the form is judged.
		if got, err := Import(p, passphrase); err == nil && len(got.keys) == 0 {
			t.Fatal("an escrow without keys is taken")
		}
	})
}
