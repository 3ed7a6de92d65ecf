package kvm

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheProbeSeesAProgramRun boots the probe where it must run: with emulation.
func TestTheProbeSeesAProgramRun(t *testing.T) {
	emulator, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	if !runsProgram(t.Context(), emulator, "tcg") {
		t.Error("the boot sector did not answer under tcg")
	}
	if runsProgram(t.Context(), emulator, "no-such-accelerator") {
		t.Error("an accelerator that does not exist ran the boot sector")
	}
}

func TestTheVerdictIsKeptUntilTheHostBoots(t *testing.T) {
	note := filepath.Join(t.TempDir(), "accelerator.json")
	// "false" runs nothing, so that a fresh verdict is tcg whatever this host is.
	if got, err := Accelerator(t.Context(), "false", note); got != "tcg" || err != nil {
		t.Fatalf("verdict %q, %v", got, err)
	}
	content, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	believed := strings.Replace(string(content), `"tcg"`, `"kvm"`, 1)
	if err := os.WriteFile(note, []byte(believed), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := Accelerator(t.Context(), "false", note); got != "kvm" {
		t.Errorf("the kept verdict was not used: %q", got)
	}
	if got, _ := Accelerator(t.Context(), "true", note); got != "tcg" {
		t.Errorf("the verdict on another emulator was used: %q", got)
	}
	if err := os.WriteFile(note, []byte(strings.Replace(believed, hostBoot(), "an earlier boot", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := Accelerator(t.Context(), "false", note); got != "tcg" {
		t.Errorf("the verdict of an earlier boot was used: %q", got)
	}
}
