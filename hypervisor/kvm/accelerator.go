package kvm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Accelerator decides between the processor's virtualization ("kvm") and emulation
// ("tcg") for an emulator of this host. note is a file that keeps the verdict until the
// host boots again; empty for none.
//
// That /dev/kvm exists proves little: on hosts that emulate it, small programs run
// and a stock kernel crawls for minutes or ends in an internal error. So kvm is taken
// only when the processor itself has virtualization and a program was seen to run.
func Accelerator(ctx context.Context, emulator, note string) (string, error) {
	type verdict struct {
		Boot        string `json:"boot"` // of the host: another kernel may judge otherwise
		Emulator    string `json:"emulator"`
		Accelerator string `json:"accelerator"`
	}
	now := verdict{Boot: hostBoot(), Emulator: emulator}
	if content, err := os.ReadFile(note); err == nil {
		var before verdict
		if json.Unmarshal(content, &before) == nil && before.Boot == now.Boot && before.Emulator == now.Emulator && before.Accelerator != "" {
			return before.Accelerator, nil
		}
	}
	now.Accelerator = "tcg"
	if virtualizes() && runsProgram(ctx, emulator, "kvm") {
		now.Accelerator = "kvm"
	}
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("find out what accelerates machines here: %w", err)
	}
	if note != "" {
		// Without the note the next process finds out again.
		_ = writeJSON(note, now)
	}
	return now.Accelerator, nil
}

func (s *Site) chooseAccelerator(ctx context.Context) (string, error) {
	if s.options.Accelerator != "" {
		return s.options.Accelerator, nil
	}
	return Accelerator(ctx, s.options.Emulator, filepath.Join(s.folder, "run", "accelerator.json"))
}

func hostBoot() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(bytes.TrimSpace(id))
}

// virtualizes reports whether the processor says that it has Intel's or AMD's
// virtualization.
func virtualizes() bool {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(info) {
		if name, flags, ok := bytes.Cut(line, []byte(":")); ok && bytes.HasPrefix(name, []byte("flags")) {
			for flag := range bytes.FieldsSeq(flags) {
				if string(flag) == "vmx" || string(flag) == "svm" {
					return true
				}
			}
			return false
		}
	}
	return false
}

const (
	// probeLimit is far above what a working accelerator needs for a BIOS (0.1 s).
	probeLimit = 10 * time.Second
	// probeAnswer is what the boot sector writes to QEMU's debug-exit device, and
	// probeStatus the exit status that QEMU makes of it.
	probeAnswer = 0x2a
	probeStatus = probeAnswer<<1 | 1
)

// bootSector is a program that a BIOS runs: mov al, probeAnswer; out 0xf4, al; hlt. A
// disk of a single sector would not be booted.
func bootSector() []byte {
	sector := make([]byte, 1<<20)
	copy(sector, []byte{0xb0, probeAnswer, 0xe6, 0xf4, 0xf4})
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}

// runsProgram boots the boot sector.
func runsProgram(ctx context.Context, emulator, accelerator string) bool {
	file, err := os.CreateTemp("", "riparo-probe-*")
	if err != nil {
		return false
	}
	defer os.Remove(file.Name())
	_, err = file.Write(bootSector())
	if errors.Join(err, file.Close()) != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	err = exec.CommandContext(ctx, emulator, probeArguments(accelerator, file.Name())...).Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() == probeStatus
}

func probeArguments(accelerator, image string) []string {
	cpu := map[string]string{"kvm": "host", "tcg": "max"}[accelerator]
	return []string{"-machine", "q35,accel=" + accelerator, "-cpu", cpu, "-m", "32", "-no-user-config", "-nodefaults", "-display", "none",
		"-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-drive", "if=none,id=d,format=raw,snapshot=on,file=" + escape(image),
		"-device", "virtio-blk-pci,drive=d,bootindex=1"}
}
