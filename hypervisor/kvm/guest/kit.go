package guest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed init
var initScript []byte

// Kit is what a machine needs to boot the test guest directly.
type Kit struct {
	Kernel string // path of the kernel
	Initrd string // path of the memory disk
}

// programs are copied into the guest with the libraries they need.
var programs = []string{"/usr/sbin/mke2fs", "/usr/sbin/e2fsck", "/usr/sbin/qemu-ga"}

// Missing names the programs that Build needs and this machine lacks, as packages
// to install.
func Missing() []string {
	var missing []string
	for _, need := range []struct{ program, debian string }{
		{"busybox", "busybox-static"}, {"mke2fs", "e2fsprogs"}, {"e2fsck", "e2fsprogs"}, {"qemu-ga", "qemu-guest-agent"},
		{"apt-get", "apt"}, {"dpkg-deb", "dpkg"}, {"ldd", "libc-bin"},
	} {
		if _, err := find(need.program); err != nil {
			missing = append(missing, need.debian)
		}
	}
	return missing
}

// find looks for a program also where an ordinary user's PATH does not lead.
func find(program string) (string, error) {
	for _, folder := range []string{"/usr/sbin", "/sbin"} {
		if p := filepath.Join(folder, program); isFile(p) {
			return p, nil
		}
	}
	return exec.LookPath(program)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// Build makes the kit, or finds it made before. Several processes may call it at
// once: each makes what is missing and moves it into place whole.
func Build(ctx context.Context) (Kit, error) {
	if missing := Missing(); len(missing) > 0 {
		return Kit{}, fmt.Errorf("the test guest needs the packages %s", strings.Join(missing, ", "))
	}
	folder, err := cacheFolder()
	if err != nil {
		return Kit{}, err
	}
	image, err := kernel(ctx, folder)
	if err != nil {
		return Kit{}, err
	}
	content, err := memoryDisk(ctx, folder)
	if err != nil {
		return Kit{}, fmt.Errorf("build the guest's memory disk: %w", err)
	}
	// The name carries the content, so that a kit built before from other programs
	// or another init is left alone: a machine may be running from it.
	sum := sha256.Sum256(content)
	initrd := filepath.Join(folder, "initrd-"+hex.EncodeToString(sum[:6])+".gz")
	if isFile(initrd) {
		return Kit{image, initrd}, nil
	}
	temporary, err := os.CreateTemp(folder, "initrd-*.part")
	if err != nil {
		return Kit{}, err
	}
	defer os.Remove(temporary.Name())
	packer, _ := gzip.NewWriterLevel(temporary, gzip.BestSpeed)
	if _, err := packer.Write(content); err != nil {
		return Kit{}, err
	}
	if err := errors.Join(packer.Close(), temporary.Chmod(0o644), temporary.Close()); err != nil {
		return Kit{}, err
	}
	return Kit{image, initrd}, os.Rename(temporary.Name(), initrd)
}

func cacheFolder() (string, error) {
	folder := os.Getenv("RIPARO_GUEST_CACHE")
	if folder == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			base = os.TempDir()
		}
		folder = filepath.Join(base, "riparo-guest")
	}
	return folder, os.MkdirAll(folder, 0o755)
}

// memoryDisk is the cpio archive that the kernel unpacks at boot.
func memoryDisk(ctx context.Context, folder string) ([]byte, error) {
	var content bytes.Buffer
	a := &archive{w: &content}
	for _, f := range []string{"proc", "sys", "dev", "run", "tmp", "root", "var/run", "usr/local/var/run", "etc/qemu"} {
		a.folder(f)
	}
	a.file("init", 0o755, initScript)
	a.file("etc/passwd", 0o644, []byte("root:x:0:0::/root:/bin/sh\n"))
	a.file("etc/fstab", 0o644, nil)

	busybox, err := find("busybox")
	if err != nil {
		return nil, err
	}
	if err := a.copy("bin/busybox", busybox); err != nil {
		return nil, err
	}
	applets, err := run(ctx, "", busybox, "--list")
	if err != nil {
		return nil, err
	}
	for applet := range strings.FieldsSeq(string(applets)) {
		// A link from busybox to itself would end in ELOOP; mke2fs of busybox knows
		// only ext2 and hides the real one.
		if applet != "busybox" && applet != "mke2fs" {
			a.link("bin/"+applet, "busybox")
		}
	}
	if err := a.programs(ctx); err != nil {
		return nil, err
	}
	if data, err := os.ReadFile("/etc/mke2fs.conf"); err == nil {
		a.file("etc/mke2fs.conf", 0o644, data)
	}
	var order []string
	for _, m := range modules {
		if err := a.copy("mods/"+m+".ko", filepath.Join(folder, m+".ko")); err == nil {
			order = append(order, m)
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	a.file("mods/order", 0o644, []byte(strings.Join(order, "\n")+"\n"))
	return content.Bytes(), a.close()
}

// programs copies the programs that busybox has no equal of, with their libraries.
func (a *archive) programs(ctx context.Context) error {
	copied := map[string]bool{}
	for _, program := range programs {
		source, err := find(filepath.Base(program))
		if err != nil {
			return err
		}
		if err := a.copy("sbin/"+filepath.Base(program), source); err != nil {
			return err
		}
		out, err := run(ctx, "", "ldd", source)
		if err != nil {
			return err
		}
		for word := range strings.FieldsSeq(string(out)) {
			if !strings.HasPrefix(word, "/") || copied[word] {
				continue
			}
			copied[word] = true
			if err := a.copy(strings.TrimPrefix(word, "/"), word); err != nil {
				return err
			}
		}
	}
	return nil
}

// copy puts a file of this machine into the archive.
func (a *archive) copy(name, source string) error {
	file, err := os.Open(source)
	if err != nil {
		return err
	}
	defer file.Close()
	data, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	a.file(name, 0o755, data)
	return nil
}
