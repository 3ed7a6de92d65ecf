package backup

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"riparo/replication/vfs"
	"riparo/store"
)

// left are the names in the inbox of a data folder.
func left(t *testing.T, data string) string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(data, inboxName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

// roomy lets a test say how much room there is.
func roomy(t *testing.T, free func() int64) {
	old := space
	space = func(string) (vfs.Space, error) { return vfs.Space{Free: free()}, nil }
	t.Cleanup(func() { space = old })
}

func TestABackupThatIsSentWaitsForItsPassphrase(t *testing.T) {
	sent := written(t, source(lived(t)))
	i := Inbox{Data: t.TempDir()}
	if _, there, err := i.Arrived(); there || err != nil {
		t.Fatalf("an empty inbox: %v, %v", there, err)
	}
	if _, err := i.Open(); code(err) != "backup.none" {
		t.Errorf("opened an empty inbox: %v, want backup.none", err)
	}
	for _, size := range []int64{int64(len(sent)) + 300, -1} { // a browser adds its form; some do not say
		k, err := i.Take(t.Context(), bytes.NewReader(sent), size)
		if err != nil || k.Appliance != "Milano 1" || k.Bytes != int64(len(sent)) || !k.Created.Equal(noon) {
			t.Fatalf("taken %+v, %v", k, err)
		}
	}
	if got := left(t, i.Data); got != arrivedName {
		t.Errorf("the inbox holds %q, want the backup alone", got)
	}
	k, there, err := i.Arrived()
	if err != nil || !there || k.Bytes != int64(len(sent)) || k.Problem != nil {
		t.Errorf("arrived %+v, %v, %v", k, there, err)
	}
	for _, try := range []struct{ passphrase, want string }{{"another sentence", "backup.passphrase"}, {passphrase, "none"}} {
		f, err := i.Open()
		if err != nil {
			t.Fatal(err)
		}
		_, err = Stage(t.Context(), i.Data, f, try.passphrase, Options{})
		f.Close()
		if code(err) != try.want {
			t.Errorf("opened with %q: %v, want %s", try.passphrase, err, try.want)
		}
	}
	if did, err := Apply(i.Data); err != nil || !did {
		t.Fatalf("apply: %v, %v", did, err)
	}
	if got := left(t, i.Data); got != "" {
		t.Errorf("after the restore the inbox still holds %q", got)
	}
}

// endless gives its beginning and then zeros for ever.
type endless struct{ head io.Reader }

func (e endless) Read(p []byte) (int, error) {
	if n, err := e.head.Read(p); err == nil {
		return n, nil
	}
	clear(p)
	return len(p), nil
}

func TestWhatIsNoBackupLeavesNothingBehind(t *testing.T) {
	good := written(t, source(lived(t)))
	header := good[:bytes.IndexByte(good[20:], '\n')+21]
	broken := errors.New("the line is gone")
	for _, c := range []struct {
		name string
		from io.Reader
		size int64
		want string
	}{
		{"nothing", strings.NewReader(""), 0, "backup.foreign"},
		{"an image of a disk", endless{bytes.NewReader(make([]byte, 512))}, 100 << 30, "backup.large"},
		{"zeros without end", endless{strings.NewReader("")}, -1, "backup.foreign"},
		{"an archive", strings.NewReader("PK\x03\x04../../etc/passwd"), 40, "backup.foreign"},
		{"a first line without an end", endless{strings.NewReader(magic)}, -1, "backup.foreign"},
		{"a header without an end", endless{strings.NewReader(magic + "1\n{")}, -1, "backup.damaged"},
		{"a newer format", strings.NewReader(magic + "2\n{}\n"), 40, "backup.newer"},
		{"a newer schema", strings.NewReader(magic + `1` + "\n" + `{"format":1,"schema":9999}` + "\n"), 60, "backup.newer"},
		{"a line that breaks at once", iotest{broken}, -1, "backup.cut"},
		{"a line that breaks in the middle", io.MultiReader(bytes.NewReader(good[:len(good)/2]), iotest{broken}), -1, "backup.cut"},
		{"a line that breaks late", io.MultiReader(bytes.NewReader(header), io.LimitReader(endless{strings.NewReader("")}, 40<<20), iotest{broken}), -1, "backup.cut"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := Inbox{Data: t.TempDir()}
			if _, err := i.Take(t.Context(), c.from, c.size); code(err) != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
			if got := left(t, i.Data); got != "" {
				t.Errorf("the inbox holds %q, want nothing", got)
			}
		})
	}
}

type iotest struct{ err error }

func (i iotest) Read([]byte) (int, error) { return 0, i.err }

func TestABackupMustFitBesideTheDaemon(t *testing.T) {
	good := written(t, source(lived(t)))
	i := Inbox{Data: t.TempDir()}
	roomy(t, func() int64 { return reserve + int64(len(good)) - 1 })
	if _, err := i.Take(t.Context(), bytes.NewReader(good), int64(len(good))); code(err) != "backup.no-room" {
		t.Errorf("a backup larger than the room: %v, want backup.no-room", err)
	}
	// Nobody said how long it will be: the room is looked at on the way.
	looks := 0
	roomy(t, func() int64 { looks++; return reserve + int64(4-looks)<<20 })
	long := io.MultiReader(bytes.NewReader(good), io.LimitReader(endless{strings.NewReader("")}, 1<<40))
	if _, err := i.Take(t.Context(), long, -1); code(err) != "backup.no-room" {
		t.Errorf("a stream without end: %v, want backup.no-room", err)
	}
	if got := left(t, i.Data); got != "" {
		t.Errorf("the inbox holds %q, want nothing", got)
	}
	// What it unpacks to must fit too.
	roomy(t, func() int64 { return reserve })
	if _, err := Stage(t.Context(), i.Data, bytes.NewReader(good), passphrase, Options{}); code(err) != "backup.no-room" {
		t.Errorf("opened without room: %v, want backup.no-room", err)
	}
	if _, err := os.Stat(filepath.Join(i.Data, stageName)); err == nil {
		t.Error("a restore that did not fit left its stage")
	}
}

// TestARestartForgetsWhatWasSent cuts the daemon off wherever a backup is kept.
func TestARestartForgetsWhatWasSent(t *testing.T) {
	good := written(t, source(lived(t)))
	for _, name := range []string{arrivingName, arrivedName} {
		data := t.TempDir()
		folder := filepath.Join(data, inboxName)
		if err := errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, name), good[:len(good)/2], 0o600)); err != nil {
			t.Fatal(err)
		}
		if did, err := Apply(data); did || err != nil {
			t.Errorf("%s: apply did something: %v, %v", name, did, err)
		}
		if entries, _ := os.ReadDir(data); len(entries) != 0 {
			t.Errorf("%s: %v is left", name, entries)
		}
	}
}

func TestARestoreKeepsTheNewAddressAndAsksFirst(t *testing.T) {
	good := written(t, source(lived(t)))
	data := filepath.Join(t.TempDir(), "new")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	no := errors.New("its vault is not here")
	asked := store.VaultPlace{}
	options := Options{Vault: "/srv/vault", Address: "dr.example", Judge: func(keys string, place store.VaultPlace) error {
		asked = place
		if text, err := os.ReadFile(filepath.Join(keys, "master.key")); err != nil || string(text) != "the key of all keys" {
			t.Errorf("asked with the keys %q, %v", text, err)
		}
		return no
	}}
	if _, err := Stage(t.Context(), data, bytes.NewReader(good), passphrase, options); !errors.Is(err, no) {
		t.Fatalf("got %v, want what was answered", err)
	}
	if want := (store.VaultPlace{Path: "/srv/vault", Used: true}); asked != want {
		t.Errorf("asked for the vault %+v, want %+v", asked, want)
	}
	if did, err := Apply(data); did || err != nil {
		t.Fatalf("a restore that was refused is applied: %v, %v", did, err)
	}
	options.Judge = nil
	if _, err := Stage(t.Context(), data, bytes.NewReader(good), passphrase, options); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(data); err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(filepath.Join(data, "state.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var names []string
	if err := st.View(func(tx *store.Tx) error { _, err := tx.Setting(store.SettingNames, &names); return err }); err != nil || len(names) != 1 || names[0] != "dr.example" {
		t.Errorf("the console is reached under %q (%v), want dr.example", names, err)
	}
}
