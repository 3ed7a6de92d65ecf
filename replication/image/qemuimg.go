package image

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"riparo/replication"
	"riparo/replication/nbd"
)

// fullBelow is the room, in bytes, below which a failed conversion is blamed on it:
// qemu-img writes pieces of up to 2 MiB.
const fullBelow = 2 << 20

// findQemuImg says where qemu-img is, or what to install.
func findQemuImg(format Format) (string, error) {
	program, err := exec.LookPath("qemu-img")
	if err != nil {
		return "", &replication.Problem{
			Code: "image.no-qemu-img", Cause: fmt.Sprintf("the format %s is written by qemu-img, which is not on this machine", format), Effect: "nothing was written",
			Action: "install the package qemu-utils (Debian, Ubuntu), qemu-img (Fedora, RHEL, Alpine) or qemu-tools (SUSE), or QEMU for Windows; raw and vhd need no other program",
			Remedy: replication.Stop, Err: err,
		}
	}
	return program, nil
}

// convert lets qemu-img write an image at path and check it. It reads the source
// from an NBD socket in a folder of mode 0700.
func convert(ctx context.Context, program, path string, source replication.Source, arguments []string, progress func(percent float64)) (err error) {
	folder, err := os.MkdirTemp("", "riparo-export-")
	if err != nil {
		return fmt.Errorf("make a folder for the socket to qemu-img: %w", err)
	}
	defer os.RemoveAll(folder)
	socket := filepath.Join(folder, "s")
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("listen for qemu-img: %w", err)
	}
	server := nbd.NewServer(nbd.ServerOptions{})
	watched := &watchedSource{Source: source}
	if err := server.Add("disk", nbd.Export{Source: watched}); err != nil {
		listener.Close()
		return err
	}
	serving, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(serving, listener) }()
	defer func() {
		stop()
		if e := <-ended; err == nil {
			err = e
		}
	}()

	convert := append([]string{"convert", "-p", "-f", "raw"}, arguments...)
	convert = append(convert, nbd.URI("unix", socket, "disk"), path)
	if err := qemuImg(ctx, program, convert, progress); err != nil {
		if cause := watched.failure(); cause != nil {
			return cause // qemu-img saw only its number.
		}
		// Some of its formats report a full disk as another error.
		if room, known := roomLeft(filepath.Dir(path)); known && room < fullBelow && ctx.Err() == nil {
			return &writeError{fmt.Errorf("%w: %w", syscall.ENOSPC, err)}
		}
		return err
	}
	if err := qemuImg(ctx, program, []string{"check", "-f", arguments[1], path}, nil); err != nil {
		return &replication.Problem{Code: "image.check", Cause: fmt.Sprintf("qemu-img finds faults in the image that it wrote: %v", err), Effect: "the image was removed", Action: "export again; if it happens again, check the disk that it is written to", Remedy: replication.Retry, Err: err}
	}
	return nil
}

// qemuImg runs qemu-img. progress gets the percentage that it prints.
func qemuImg(ctx context.Context, program string, arguments []string, progress func(float64)) error {
	command := exec.CommandContext(ctx, program, arguments...)
	command.Env = append(os.Environ(), "LC_ALL=C") // Its words are looked at below.
	command.WaitDelay = 5 * time.Second
	var complaints bytes.Buffer
	command.Stderr = &limited{&complaints, 16 << 10}
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("run qemu-img: %w", err)
	}
	// "    (12.50/100%)\r"
	lines := bufio.NewScanner(output)
	lines.Split(func(data []byte, end bool) (int, []byte, error) {
		if i := bytes.IndexAny(data, "\r\n"); i >= 0 {
			return i + 1, data[:i], nil
		}
		if end && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	for lines.Scan() {
		text, _, ok := strings.Cut(strings.TrimLeft(lines.Text(), " ("), "/100%")
		if percent, err := strconv.ParseFloat(text, 64); ok && err == nil && progress != nil {
			progress(percent)
		}
	}
	io.Copy(io.Discard, output)
	err = command.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(complaints.String())
	if strings.Contains(text, "No space left on device") || strings.Contains(text, "Disk quota exceeded") {
		return &writeError{fmt.Errorf("qemu-img %s: %s: %w", arguments[0], text, syscall.ENOSPC)}
	}
	return fmt.Errorf("qemu-img %s: %w: %s", arguments[0], err, text)
}

// limited keeps the beginning of what is written to it.
type limited struct {
	w    *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.w.Write(p[:n])
	l.left -= n
	return len(p), nil
}
