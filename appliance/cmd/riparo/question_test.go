//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"riparo/web/api"
)

// pseudoTerminal gives both ends of a terminal that nobody sits at.
func pseudoTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("the pseudo terminal cannot be unlocked: %v", err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("the pseudo terminal cannot be opened: %v", err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// asStdin lets a test type what the program reads.
func asStdin(t *testing.T, f *os.File) {
	t.Helper()
	before := os.Stdin
	os.Stdin = f
	t.Cleanup(func() { os.Stdin = before })
}

const endOfInput = "\x04" // Ctrl-D

var strangers = map[string]api.Peer{
	"an SSH host":  {Host: "kvm2:22", Kind: "ssh-ed25519", Fingerprint: "SHA256:f1ngerpr1nt"},
	"a TLS daemon": {Host: "kvm2:16514", Kind: "tls", Subject: "CN=kvm2", Issuer: "CN=a data center", Doubt: "authority", Fingerprint: "A1:B2:C3"},
}

// TestOnlyAWholeYesConfirmsAHost: anything less, and the end of what is typed before
// the line is complete, is no.
func TestOnlyAWholeYesConfirmsAHost(t *testing.T) {
	for what, stranger := range strangers {
		for _, c := range []struct {
			typed string
			want  bool
		}{
			{"yes\n", true}, {" YES \n", true},
			{"no\n", false}, {"y\n", false}, {"\n", false}, {"yes please\n", false},
			{endOfInput, false}, {"yes" + endOfInput + endOfInput, false}, {"no" + endOfInput + endOfInput, false},
		} {
			t.Run(fmt.Sprintf("%s, %q", what, c.typed), func(t *testing.T) {
				person, program := pseudoTerminal(t)
				asStdin(t, program)
				if _, err := io.WriteString(person, c.typed); err != nil {
					t.Fatal(err)
				}
				var said strings.Builder
				answer := make(chan bool, 1)
				go func() { answer <- (&terminal{out: io.Discard, err: &said}).confirmed(stranger) }()
				select {
				case got := <-answer:
					if got != c.want {
						t.Errorf("confirmed: %v, want %v\n%s", got, c.want, said.String())
					}
				case <-time.After(time.Minute):
					t.Fatal("the question was not answered by what was typed")
				}
				for _, want := range []string{stranger.Host, strings.TrimPrefix(stranger.Fingerprint, "SHA256:"), "[yes/no]"} {
					if !strings.Contains(said.String(), want) {
						t.Errorf("the question does not show %q:\n%s", want, said.String())
					}
				}
			})
		}
	}
}

// TestWithoutATerminalNobodyIsAsked: a script that feeds yes to everything confirms
// nothing; it has to give the fingerprint.
func TestWithoutATerminalNobodyIsAsked(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	if _, err := io.WriteString(write, "yes\n"); err != nil {
		t.Fatal(err)
	}
	write.Close()
	asStdin(t, read)
	var said strings.Builder
	if (&terminal{out: io.Discard, err: &said}).confirmed(strangers["an SSH host"]) {
		t.Error("a yes from a pipe confirms a host")
	}
	if said.Len() > 0 {
		t.Errorf("a question was put to nobody: %s", said.String())
	}
	if left, err := io.ReadAll(read); string(left) != "yes\n" || err != nil {
		t.Errorf("what was not meant for the question was read: %q, %v are left", left, err)
	}
}
