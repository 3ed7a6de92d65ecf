package guest

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// modules are loaded in this order; ext4 is part of the kernel itself.
var modules = []string{
	"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
	"virtio_blk", "virtio_scsi", "virtio_console", "failover", "net_failover", "virtio_net", "evdev", "button",
}

var kernelPackage = regexp.MustCompile(`linux-image-[0-9][a-z0-9.+-]*-cloud-amd64`)

// kernel makes sure that the folder holds a kernel and its modules, and returns its
// path. Modules lie beside it as NAME.ko.
func kernel(ctx context.Context, folder string) (string, error) {
	image := filepath.Join(folder, "vmlinuz")
	if _, err := os.Stat(image); err == nil {
		return image, nil
	}
	name, err := kernelName(ctx)
	if err != nil {
		return "", err
	}
	temporary, err := os.MkdirTemp(folder, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	if _, err := run(ctx, temporary, "apt-get", "download", "-q", name); err != nil {
		return "", fmt.Errorf("fetch the guest's kernel: %w", err)
	}
	packages, err := filepath.Glob(filepath.Join(temporary, "*.deb"))
	if err != nil || len(packages) != 1 {
		return "", fmt.Errorf("fetch the guest's kernel: apt-get download %s left %d packages", name, len(packages))
	}
	if err := unpack(ctx, packages[0], temporary); err != nil {
		return "", fmt.Errorf("unpack %s: %w", packages[0], err)
	}
	// The kernel is moved last: its presence says that the modules are there.
	for _, module := range append([]string{}, modules...) {
		err := os.Rename(filepath.Join(temporary, module+".ko"), filepath.Join(folder, module+".ko"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return image, os.Rename(filepath.Join(temporary, "vmlinuz"), image)
}

// kernelName asks apt which kernel the metapackage stands for today.
func kernelName(ctx context.Context) (string, error) {
	depends := func() string {
		out, err := run(ctx, "", "apt-cache", "depends", "linux-image-cloud-amd64")
		if err != nil {
			return ""
		}
		return kernelPackage.FindString(string(out))
	}
	if name := depends(); name != "" {
		return name, nil
	}
	if _, err := run(ctx, "", "apt-get", "update", "-q"); err != nil {
		return "", fmt.Errorf("the guest's kernel comes from Debian's linux-image-cloud-amd64, which apt does not know here: %w", err)
	}
	if name := depends(); name != "" {
		return name, nil
	}
	return "", errors.New("the guest's kernel comes from Debian's linux-image-cloud-amd64, which apt does not know here")
}

// unpack takes the kernel and the modules out of a Debian package.
func unpack(ctx context.Context, deb, folder string) error {
	command := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	out, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, m := range modules {
		wanted[m] = true
	}
	for files := tar.NewReader(out); ; {
		header, err := files.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return errors.Join(err, command.Wait())
		}
		base := path.Base(header.Name)
		module, rest, _ := strings.Cut(base, ".ko")
		target := ""
		switch {
		case strings.HasPrefix(base, "vmlinuz-"):
			target = "vmlinuz"
		case wanted[module] && (rest == "" || rest == ".xz") && base != module:
			target = module + ".ko" + rest
		default:
			continue
		}
		data, err := io.ReadAll(files)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, target), data, 0o644); err != nil {
			return err
		}
		if rest == ".xz" {
			if _, err := run(ctx, folder, "busybox", "unxz", target); err != nil {
				return err
			}
		}
	}
	return command.Wait()
}

// run runs a program in a folder and returns what it printed; an error carries
// what it complained about.
func run(ctx context.Context, folder, program string, arguments ...string) ([]byte, error) {
	command := exec.CommandContext(ctx, program, arguments...)
	command.Dir = folder
	out, err := command.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil, fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(exit.Stderr)))
		}
		return nil, fmt.Errorf("%s: %w", program, err)
	}
	return out, nil
}
