package blockcut

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The place of "acknowledge before fsync", as the list of the vault's planted bugs has it.
const (
	bugFile = "../../replication/vault/log.go"
	bugCode = `	if err := w.file.Sync(); err != nil {
		return &finalError{fmt.Errorf("sync segment %s: %w", segmentName(w.number), err)}
	}
	if fresh {`
	bugText = `	if fresh {`
)

// program builds riparo, with the bug or as it is.
func program(t *testing.T, bug bool) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"build", "-o", filepath.Join(dir, "riparo")}
	if bug {
		path, err := filepath.Abs(bugFile)
		if err != nil {
			t.Fatal(err)
		}
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(source), bugCode); n != 1 {
			t.Fatalf("the place of the planted bug occurs %d times in %s, want once", n, bugFile)
		}
		twin := filepath.Join(dir, "log.go")
		list, err := json.Marshal(map[string]any{"Replace": map[string]string{path: twin}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(twin, []byte(strings.Replace(string(source), bugCode, bugText, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "overlay.json"), list, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-overlay", filepath.Join(dir, "overlay.json"))
	}
	c := exec.Command("go", append(args, "./appliance/cmd/riparo")...)
	c.Dir = "../.."
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build riparo: %v\n%s", err, out)
	}
	return filepath.Join(dir, "riparo")
}

// riparo runs the program, which has to succeed, and gives what it printed.
func riparo(binary string, args ...string) ([]byte, error) {
	c := exec.Command(binary, args...)
	var errs strings.Builder
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		return out, fmt.Errorf("riparo %s: %w: %s%s", strings.Join(args, " "), err, errs.String(), out)
	}
	return out, nil
}

// daemon is riparo serve, on loopback only.
type daemon struct {
	binary          string
	process         *exec.Cmd
	url, ca, secret string
	ended           chan struct{}
	says            io.Closer
}

func startDaemon(binary, data, scratch string) (_ *daemon, err error) {
	d := &daemon{binary: binary, process: exec.Command(binary, "serve", "--data", data, "--listen", "127.0.0.1:0"), ended: make(chan struct{})}
	d.process.Env = append(os.Environ(), "HOME="+scratch)
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	d.says, d.process.Stdout, d.process.Stderr = from, to, to
	if err := d.process.Start(); err != nil {
		return nil, err
	}
	to.Close()
	token, ready := "", make(chan error, 1)
	go func() {
		defer close(d.ended)
		lines := bufio.NewScanner(from)
		for lines.Scan() {
			words := strings.Fields(lines.Text())
			switch {
			case len(words) == 3 && words[0] == "certificate":
				d.ca = words[2]
			case len(words) == 3 && words[0] == "setup":
				token = words[2]
			case len(words) == 2 && words[0] == "ready":
				d.url = words[1]
				ready <- nil
			}
		}
		select {
		case ready <- fmt.Errorf("the daemon ended before it was ready"):
		default:
		}
	}()
	select {
	case err = <-ready:
	case <-time.After(time.Minute):
		err = fmt.Errorf("the daemon is not ready after a minute")
	}
	if err != nil {
		d.kill()
		return nil, err
	}
	password := filepath.Join(scratch, "password")
	if err := os.WriteFile(password, []byte("correct horse battery staple\n"), 0o600); err != nil {
		return nil, err
	}
	out, err := riparo(binary, "claim", "--json", "--url", d.url, "--ca", d.ca, "--token", token, "--name", "admin", "--password-file", password)
	var claimed struct {
		Token struct {
			Secret string `json:"secret"`
		} `json:"token"`
	}
	if err == nil {
		err = json.Unmarshal(out, &claimed)
	}
	if err != nil {
		d.kill()
		return nil, err
	}
	d.secret = claimed.Token.Secret
	return d, nil
}

// savePolicy returns when the daemon has said that it is kept.
func (d *daemon) savePolicy(name string) error {
	_, err := riparo(d.binary, "policies", "save", name, "--url", d.url, "--ca", d.ca, "--token", d.secret)
	return err
}

// kill ends the daemon as a power cut would.
func (d *daemon) kill() {
	d.process.Process.Kill()
	d.process.Wait()
	d.says.Close()
	<-d.ended
}
