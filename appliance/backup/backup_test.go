package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"riparo/replication"
	"riparo/store"
	"riparo/store/storetest"
)

const passphrase = "a calm sentence"

var (
	keyOnce = cheap()
	noon    = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
)

// cheap makes a key whose passphrase is quickly tried.
func cheap() Key {
	scryptCost = 8
	return must(NewKey(passphrase))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// lived is a data folder with a store and a key in it.
func lived(t *testing.T) (data string, st *store.Store) {
	t.Helper()
	data = t.TempDir()
	st = storetest.Reopen(t, filepath.Join(data, "state.db"))
	err := st.Update(func(tx *store.Tx) error {
		return errors.Join(
			tx.Machines().Put(store.Machine{ID: "m-1", Name: "web01"}), tx.Machines().Put(store.Machine{ID: "m-2", Name: "db01"}),
			tx.Jobs().Put(store.Job{ID: "j-1", Kind: "test-failover", State: store.Succeeded}),
			tx.Sessions().Put(store.Session{ID: "s-1"}),
			tx.SetSetting(store.SettingVault, store.VaultPlace{Used: true}))
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"master.key": "the key of all keys", "console.pem": "certificate", "hosts/known": "a host"} {
		path := filepath.Join(data, "pki", filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return data, st
}

func source(data string, st *store.Store) Source {
	return Source{Store: st, Data: data, Appliance: "Milano 1", Version: "test", Key: keyOnce, Now: noon}
}

func written(t *testing.T, s Source) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(t.Context(), &b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func code(err error) string {
	if err == nil {
		return "none"
	}
	return replication.AsProblem(err).Code
}

func TestABackupBringsEverythingBack(t *testing.T) {
	old := written(t, source(lived(t)))
	data := filepath.Join(t.TempDir(), "new")
	if err := os.MkdirAll(filepath.Join(data, "pki"), 0o700); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(data, "setup-token"), []byte("x"), 0o600)
	got, err := Stage(t.Context(), data, bytes.NewReader(old), passphrase, Options{Vault: "/srv/vault"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Machines != 2 || got.Jobs != 1 || got.Appliance != "Milano 1" || !got.Created.Equal(noon) {
		t.Errorf("restored %+v; want 2 machines and 1 job of Milano 1 at noon", got)
	}
	if _, err := os.Stat(filepath.Join(data, "state.db")); err == nil {
		t.Error("a staged backup is in use already")
	}
	if did, err := Apply(data); err != nil || !did {
		t.Fatalf("apply: %v, %v", did, err)
	}
	for name, want := range map[string]string{"master.key": "the key of all keys", "console.pem": "certificate", "hosts/known": "a host"} {
		if text, _ := os.ReadFile(filepath.Join(data, "pki", filepath.FromSlash(name))); string(text) != want {
			t.Errorf("pki/%s reads %q, want %q", name, text, want)
		}
	}
	for _, gone := range []string{"restore", "setup-token"} {
		if _, err := os.Stat(filepath.Join(data, gone)); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
	st := storetest.Reopen(t, filepath.Join(data, "state.db"))
	err = st.View(func(tx *store.Tx) error {
		m, err := tx.Machines().Get("m-1")
		if err != nil || m.Name != "web01" {
			t.Errorf("machine m-1: %+v, %v", m, err)
		}
		if n, _ := tx.Sessions().Count(); n != 0 {
			t.Errorf("%d sessions came back: a cookie of then must be worth nothing", n)
		}
		var place store.VaultPlace
		if _, err := tx.Setting(store.SettingVault, &place); err != nil || place != (store.VaultPlace{Path: "/srv/vault", Used: true}) {
			t.Errorf("vault at %+v, %v", place, err)
		}
		page, err := tx.Events().Page("", 1, true)
		if err != nil || len(page) != 1 || page[0].Code != "appliance.restored" {
			t.Errorf("newest event %+v, %v", page, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if did, err := Apply(data); err != nil || did {
		t.Errorf("applied twice: %v, %v", did, err)
	}
}

func TestTheOldStateIsPutAsideAndOnlyWhenSaid(t *testing.T) {
	backup := written(t, source(lived(t)))
	data, st := lived(t)
	if err := st.Update(func(tx *store.Tx) error { return tx.Machines().Put(store.Machine{ID: "m-9", Name: "old"}) }); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Stage(t.Context(), data, bytes.NewReader(backup), passphrase, Options{}); code(err) != "backup.occupied" {
		t.Fatalf("got %v, want backup.occupied", err)
	}
	if _, err := Stage(t.Context(), data, bytes.NewReader(backup), passphrase, Options{Replace: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(data); err != nil {
		t.Fatal(err)
	}
	aside, _ := filepath.Glob(filepath.Join(data, "replaced-*", "state.db"))
	if len(aside) != 1 {
		t.Fatalf("put aside: %v, want one state file", aside)
	}
	old := storetest.Reopen(t, aside[0])
	if m, err := store.Get(old, store.Machines, "m-9"); err != nil || m.Name != "old" {
		t.Errorf("the state put aside has %+v, %v", m, err)
	}
}

// TestApplyGoesOnWhereverItWasCut makes each state that a crash can leave.
func TestApplyGoesOnWhereverItWasCut(t *testing.T) {
	backup := written(t, source(lived(t)))
	cuts := []struct {
		name string
		cut  func(data, old string) error
	}{
		{"before the first move", func(string, string) error { return nil }},
		{"old keys moved", func(data, old string) error {
			return errors.Join(os.MkdirAll(old, 0o700), os.Rename(filepath.Join(data, "pki"), filepath.Join(old, "pki")))
		}},
		{"new keys in place", func(data, old string) error {
			return errors.Join(os.MkdirAll(old, 0o700), os.Rename(filepath.Join(data, "pki"), filepath.Join(old, "pki")), os.Rename(filepath.Join(data, "restore", "pki"), filepath.Join(data, "pki")))
		}},
		{"old state moved too", func(data, old string) error {
			return errors.Join(os.MkdirAll(old, 0o700), os.Rename(filepath.Join(data, "pki"), filepath.Join(old, "pki")), os.Rename(filepath.Join(data, "restore", "pki"), filepath.Join(data, "pki")),
				os.Rename(filepath.Join(data, "state.db"), filepath.Join(old, "state.db")))
		}},
		{"all in place, the mark still there", func(data, old string) error {
			return errors.Join(os.MkdirAll(old, 0o700), os.Rename(filepath.Join(data, "pki"), filepath.Join(old, "pki")), os.Rename(filepath.Join(data, "restore", "pki"), filepath.Join(data, "pki")),
				os.Rename(filepath.Join(data, "state.db"), filepath.Join(old, "state.db")), os.Rename(filepath.Join(data, "restore", "state.db"), filepath.Join(data, "state.db")))
		}},
	}
	for _, c := range cuts {
		t.Run(c.name, func(t *testing.T) {
			data, st := lived(t)
			if err := st.Update(func(tx *store.Tx) error { return tx.Machines().Delete("m-2") }); err != nil {
				t.Fatal(err)
			}
			st.Close()
			if _, err := Stage(t.Context(), data, bytes.NewReader(backup), passphrase, Options{Replace: true}); err != nil {
				t.Fatal(err)
			}
			aside, err := os.ReadFile(filepath.Join(data, "restore", "ready"))
			if err != nil {
				t.Fatal(err)
			}
			if err := c.cut(data, filepath.Join(data, string(aside))); err != nil {
				t.Fatal(err)
			}
			if did, err := Apply(data); err != nil || !did {
				t.Fatalf("apply: %v, %v", did, err)
			}
			if m, err := store.Get(storetest.Reopen(t, filepath.Join(data, "state.db")), store.Machines, "m-2"); err != nil {
				t.Errorf("the state in place is not the restored one: %+v, %v", m, err)
			}
			if text, _ := os.ReadFile(filepath.Join(data, "pki", "master.key")); string(text) != "the key of all keys" {
				t.Errorf("the key in place reads %q", text)
			}
			if _, err := os.Stat(filepath.Join(data, string(aside), "state.db")); err != nil {
				t.Errorf("the old state is gone: %v", err)
			}
		})
	}
}

func TestACutOffStageIsSweptAway(t *testing.T) {
	data, st := lived(t)
	st.Close()
	if err := errors.Join(os.MkdirAll(filepath.Join(data, "restore"), 0o700), os.WriteFile(filepath.Join(data, "restore", "state.db"), []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if did, err := Apply(data); did || err != nil {
		t.Fatalf("apply: %v, %v", did, err)
	}
	if _, err := os.Stat(filepath.Join(data, "restore")); err == nil {
		t.Error("the half is left")
	}
	if m, err := store.Get(storetest.Reopen(t, filepath.Join(data, "state.db")), store.Machines, "m-2"); err != nil {
		t.Errorf("the state was touched: %+v, %v", m, err)
	}
}

func TestWhatIsWrongWithABackupIsTold(t *testing.T) {
	good := written(t, source(lived(t)))
	header, rest, _ := bytes.Cut(good[bytes.IndexByte(good, '\n')+1:], []byte("\n"))
	with := func(change func(h *Header)) []byte {
		var h Header
		if err := json.Unmarshal(header, &h); err != nil {
			t.Fatal(err)
		}
		change(&h)
		return fmt.Appendf(nil, "riparo backup 1\n%s\n%s", must(json.Marshal(h)), rest)
	}
	for _, row := range []struct {
		name, want string
		file       []byte
		passphrase string
	}{
		{"good", "none", good, passphrase},
		{"another passphrase", "backup.passphrase", good, "another sentence"},
		{"no passphrase", "backup.passphrase", good, ""},
		{"empty", "backup.foreign", nil, passphrase},
		{"some other file", "backup.foreign", []byte("PK\x03\x04 this is a zip\n\n"), passphrase},
		{"a later format", "backup.newer", []byte("riparo backup 2\n{}\n"), passphrase},
		{"a later schema", "backup.newer", with(func(h *Header) { h.Schema = store.Schema() + 1 }), passphrase},
		{"a header that hides a later schema", "backup.newer", laterInside(t), passphrase},
		{"no schema", "backup.damaged", with(func(h *Header) { h.Schema = 0 }), passphrase},
		{"the key of another", "backup.damaged", with(func(h *Header) { h.Identity = must(NewKey(passphrase)).Identity }), passphrase},
		{"something behind it", "backup.damaged", append(bytes.Clone(good), "more"...), passphrase},
		{"a header without end", "backup.damaged", append([]byte("riparo backup 1\n"), bytes.Repeat([]byte("x"), maxHeader+10)...), passphrase},
	} {
		data := t.TempDir()
		_, err := Stage(t.Context(), data, bytes.NewReader(row.file), row.passphrase, Options{})
		if code(err) != row.want {
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		}
		if err == nil {
			continue
		}
		if p := replication.AsProblem(err); p.Effect != "nothing was restored" || p.Action == "" {
			t.Errorf("%s: effect %q, action %q: want both told", row.name, p.Effect, p.Action)
		}
		if left, _ := os.ReadDir(data); len(left) != 0 {
			t.Errorf("%s: left %v", row.name, left)
		}
	}
}

// laterInside is a backup whose open header was changed to a schema of today.
func laterInside(t *testing.T) []byte {
	return forged(t, func(h *Header) { h.Schema = store.Schema() + 1 }, map[string]string{"state.db": "x"})
}

// forged seals an archive of one's own making.
func forged(t *testing.T, change func(*Header), files map[string]string) []byte {
	t.Helper()
	h := Header{Format: format, Schema: store.Schema(), Created: noon, Identity: keyOnce.Identity}
	var b bytes.Buffer
	fmt.Fprintf(&b, "riparo backup 1\n%s\n", must(json.Marshal(h)))
	sealed := must(age.Encrypt(&b, must(age.ParseX25519Recipient(keyOnce.Recipient))))
	zip := gzip.NewWriter(sealed)
	w := tar.NewWriter(zip)
	change(&h)
	m := manifest{Header: h}
	for name, text := range files {
		w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o600})
		w.Write([]byte(text))
		m.Files = append(m.Files, file{Name: name, Bytes: int64(len(text)), SHA256: "not compared so far"})
	}
	text := must(json.Marshal(m))
	w.WriteHeader(&tar.Header{Name: manifestName, Size: int64(len(text)), Mode: 0o600})
	w.Write(text)
	if err := errors.Join(w.Close(), zip.Close(), sealed.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestABackupWritesNowhereElse(t *testing.T) {
	for _, name := range []string{"../outside", "pki/../../outside", "/etc/outside", "pki/..\\outside", "setup-token", "pki/a:b", "pki/./x", "pki/"} {
		root := t.TempDir()
		data := filepath.Join(root, "data")
		os.Mkdir(data, 0o700)
		_, err := Stage(t.Context(), data, bytes.NewReader(forged(t, func(*Header) {}, map[string]string{name: "x"})), passphrase, Options{})
		if code(err) != "backup.damaged" {
			t.Errorf("%s: got %v, want backup.damaged", name, err)
		}
		if left, _ := filepath.Glob(filepath.Join(root, "*")); len(left) != 1 {
			t.Errorf("%s: wrote %v", name, left)
		}
	}
}

func TestNoFlipAndNoCutIsSilent(t *testing.T) {
	good := written(t, source(lived(t)))
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 1))
	sealedFrom := bytes.Index(good, []byte("age-encryption.org"))
	for range 60 {
		bad := bytes.Clone(good)
		at := sealedFrom + random.IntN(len(bad)-sealedFrom)
		bad[at] ^= 1 << random.IntN(8)
		if _, err := Stage(t.Context(), t.TempDir(), bytes.NewReader(bad), passphrase, Options{}); code(err) != "backup.damaged" {
			t.Fatalf("seed %d: a bit flipped in byte %d of %d: got %v, want backup.damaged", seed, at, len(bad), err)
		}
		cut := random.IntN(len(good))
		if _, err := Stage(t.Context(), t.TempDir(), bytes.NewReader(good[:cut]), passphrase, Options{}); err == nil {
			t.Fatalf("seed %d: cut to %d of %d bytes it was restored", seed, cut, len(good))
		}
	}
}

func TestNothingIsReadableWithoutThePassphrase(t *testing.T) {
	b := written(t, source(lived(t)))
	for _, secret := range []string{"the key of all keys", "web01", passphrase, "AGE-SECRET-KEY"} {
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("the backup shows %q", secret)
		}
	}
}

func TestOldBackupsGoAndOthersStay(t *testing.T) {
	folder := t.TempDir()
	data, st := lived(t)
	save := func(appliance string, day int) string {
		s := source(data, st)
		s.Appliance, s.Now = appliance, noon.AddDate(0, 0, day)
		name, _, sum, err := Save(t.Context(), folder, s)
		if err != nil || len(sum) != 64 {
			t.Fatal(name, sum, err)
		}
		return name
	}
	var ours []string
	for day := range 5 {
		ours = append(ours, save("Milano 1", day))
	}
	other := save("Roma", -9)
	os.WriteFile(filepath.Join(folder, "broken"+Suffix), []byte("x"), 0o600)
	os.WriteFile(filepath.Join(folder, ".unfinished-1"), []byte("x"), 0o600)
	own := Own{Appliance: "Milano 1", Keys: [][]byte{keyMark(keyOnce.Identity)}, Newest: ours[4], Keep: 2, Now: noon.AddDate(0, 0, 4)}
	if n, left, err := Prune(folder, own); n != 3 || left != 0 || err != nil {
		t.Fatalf("removed %d, left %d, %v; want 3 and none", n, left, err)
	}
	list, err := List(folder)
	if err != nil || len(list) != 4 {
		t.Fatalf("left %+v, %v; want four", list, err)
	}
	names := map[string]*replication.Problem{}
	for _, k := range list {
		names[k.Name] = k.Problem
	}
	for _, want := range []string{ours[3], ours[4], other} {
		if p, there := names[want]; !there || p != nil {
			t.Errorf("%s: there %v, problem %v", want, there, p)
		}
	}
	if p := names["broken"+Suffix]; p == nil || p.Code != "backup.foreign" {
		t.Errorf("the broken one: %v", p)
	}
	if !strings.HasPrefix(ours[0], "milano-1-2026") {
		t.Errorf("named %s", ours[0])
	}
	Sweep(folder)
	if _, err := os.Stat(filepath.Join(folder, ".unfinished-1")); err == nil {
		t.Error("the unfinished one is left")
	}
}

// TestTheBackupJustMadeStaysWhateverTheClockSaid: the clock was ahead for some nights,
// and was set right.
func TestTheBackupJustMadeStaysWhateverTheClockSaid(t *testing.T) {
	folder := t.TempDir()
	data, st := lived(t)
	save := func(day int) string {
		s := source(data, st)
		s.Now = noon.AddDate(0, 0, day)
		name, _, _, err := Save(t.Context(), folder, s)
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	var ahead, right []string
	for day := range 3 {
		ahead = append(ahead, save(400+day))
	}
	left := func() (names []string) {
		list, err := List(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			names = append(names, k.Name)
		}
		slices.Sort(names)
		return names
	}
	for night := range 3 {
		right = append(right, save(night))
		own := Own{Appliance: "Milano 1", Keys: [][]byte{keyMark(keyOnce.Identity)}, Newest: right[night], Keep: 3, Now: noon.AddDate(0, 0, night).Add(time.Second)}
		if n, _, err := Prune(folder, own); n != 1 || err != nil {
			t.Fatalf("night %d: removed %d, %v; want one", night, n, err)
		}
		stay := append(slices.Clone(ahead[night+1:]), right...) // of those the oldest goes
		slices.Sort(stay)
		if got := left(); !slices.Equal(got, stay) {
			t.Fatalf("night %d: left %q, want %q", night, got, stay)
		}
	}
	// Back to a day before all of them, the one just made is still not the first to go.
	first := save(-9)
	if _, _, err := Prune(folder, Own{Appliance: "Milano 1", Keys: [][]byte{keyMark(keyOnce.Identity)}, Newest: first, Keep: 1, Now: noon.AddDate(0, 0, -9)}); err != nil {
		t.Fatal(err)
	}
	if got := left(); !slices.Equal(got, []string{first}) {
		t.Errorf("left %q, want the one just made, %s", got, first)
	}
}

// TestAnotherApplianceOfThisNameKeepsItsBackups in a folder that both write to, while
// those that an earlier passphrase opens are the appliance's own.
func TestAnotherApplianceOfThisNameKeepsItsBackups(t *testing.T) {
	folder := t.TempDir()
	data, st := lived(t)
	k := &Keeper{Store: st, Data: data, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return noon }}
	save := func(key Key, day int) string {
		s := source(data, st)
		s.Key, s.Now = key, noon.AddDate(0, 0, day)
		name, _, _, err := Save(t.Context(), folder, s)
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	var ours []string
	for day, sentence := range []string{passphrase, "another calm sentence", "a third calm sentence"} {
		if err := k.SavePlan("anna", store.BackupPlan{Folder: folder, Keep: 2}, sentence); err != nil {
			t.Fatal(err)
		}
		plan, _, err := k.Plan()
		if err != nil {
			t.Fatal(err)
		}
		ours = append(ours, save(Key{Recipient: plan.Recipient, Identity: plan.Identity}, day))
	}
	theirs := save(must(NewKey(passphrase)), -9)
	plan, _, err := k.Plan()
	if err != nil || len(plan.Former) != 2 {
		t.Fatalf("the plan remembers %d keys of then, %v; want 2", len(plan.Former), err)
	}
	if err := k.SavePlan("anna", store.BackupPlan{Folder: folder, Keep: 2}, ""); err != nil {
		t.Fatal(err)
	}
	if again, _, err := k.Plan(); err != nil || len(again.Former) != 2 {
		t.Fatalf("saved without a passphrase it remembers %d keys, %v; want 2", len(again.Former), err)
	}
	own := Own{Appliance: "Milano 1", Keys: append(plan.Former, keyMark(plan.Identity)), Newest: ours[2], Keep: 2, Now: noon.AddDate(0, 0, 2)}
	if n, left, err := Prune(folder, own); n != 1 || left != 1 || err != nil {
		t.Errorf("removed %d, left %d, %v; want one of each", n, left, err)
	}
	for name, want := range map[string]bool{ours[0]: false, ours[1]: true, ours[2]: true, theirs: true} {
		if _, err := os.Stat(filepath.Join(folder, name)); (err == nil) != want {
			t.Errorf("%s is there: %v, want %v", name, err == nil, want)
		}
	}
}

func TestAPlanIsJudged(t *testing.T) {
	data, st := lived(t)
	k := &Keeper{Store: st, Data: data, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return noon }}
	good := store.BackupPlan{Folder: t.TempDir(), Every: 24 * time.Hour, Keep: 3}
	for _, row := range []struct {
		name, want string
		plan       store.BackupPlan
		passphrase string
	}{
		{"no passphrase", "backup.no-passphrase", good, ""},
		{"a short one", "backup.passphrase-short", good, "short"},
		{"a folder that is none", "backup.folder", store.BackupPlan{Folder: filepath.Join(data, "state.db"), Keep: 1}, passphrase},
		{"a folder from nowhere", "backup.plan", store.BackupPlan{Folder: "here", Keep: 1}, passphrase},
		{"too often", "backup.plan", store.BackupPlan{Folder: good.Folder, Every: time.Minute, Keep: 1}, passphrase},
		{"none kept", "backup.plan", store.BackupPlan{Folder: good.Folder}, passphrase},
		{"good", "none", good, passphrase},
		{"as before", "none", good, ""},
	} {
		if err := k.SavePlan("anna", row.plan, row.passphrase); code(err) != row.want {
			t.Errorf("%s: got %v, want %s", row.name, err, row.want)
		}
	}
	plan, _, err := k.Plan()
	if err != nil || plan.Recipient == "" || plan.Keep != 3 {
		t.Errorf("kept %+v, %v", plan, err)
	}
	if err := st.View(func(tx *store.Tx) error {
		s, err := tx.Settings().Get(store.SettingBackup)
		if strings.Contains(string(s.Value), passphrase) {
			t.Error("the passphrase is in the store")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
