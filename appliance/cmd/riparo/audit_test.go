package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"riparo/store"
)

// TestAnAuditLogThatWasTouchedIsFoundFromTheCommandLine changes one line in the
// state while the daemon is down, as somebody with the disk could.
func TestAnAuditLogThatWasTouchedIsFoundFromTheCommandLine(t *testing.T) {
	t.Parallel()
	d := claimed(t)
	d.do(t, "policies", "save", "silver", "--copy-every", "30s")
	if out := d.do(t, "audit"); !strings.Contains(out, "policies.save silver") || !strings.Contains(out, "token riparo") && !strings.Contains(out, "token ") {
		t.Errorf("the log is printed as\n%s", out)
	}
	kept := filepath.Join(t.TempDir(), "kept.jsonl")
	d.do(t, "audit", "export", kept)
	if info, err := os.Stat(kept); err != nil || info.Size() == 0 {
		t.Fatalf("the export: %v, %v", info, err)
	}
	if status, _, _ := call(t.Context(), d.at("audit", "export", kept)...); status != statusFailed {
		t.Errorf("an export over another file: status %d", status)
	}
	if out := d.do(t, "audit", "verify", "--export", kept); !strings.Contains(out, "the audit log is sound") {
		t.Errorf("verified: %s", out)
	}
	d.stop()

	st, err := store.Open(filepath.Join(d.data, "state.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.Update(func(tx *store.Tx) error {
		line, err := tx.Audit().Get(store.AuditKey(2))
		if err != nil {
			return err
		}
		line.Actor = "somebody else"
		return tx.Audit().Put(line)
	}), st.Close()); err != nil {
		t.Fatal(err)
	}
	token := d.token
	d = startDaemon(t, d.data, "127.0.0.1:0")
	d.token = token
	status, out, _ := call(t.Context(), d.at("audit", "verify")...)
	if status != statusFailed || strings.TrimSpace(out) != "line 2 is not as it was written, or not where it was written" {
		t.Errorf("a changed line: status %d\n%s", status, out)
	}
	status, out, _ = call(t.Context(), d.at("audit", "verify", "--export", kept, "--json")...)
	if status != statusFailed || !strings.Contains(out, "line 2 of the export is another one in the log") {
		t.Errorf("held against the export: status %d\n%s", status, out)
	}
}
