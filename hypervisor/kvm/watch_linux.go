package kvm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watchedFiles bounds the names that wait to be taken. Beyond it names are dropped:
// the next look at the folder finds what they told.
const watchedFiles = 256

// watchFolder tells the names of files in a folder as they come, change and go.
func watchFolder(folder string) (names <-chan string, stop func(), err error) {
	descriptor, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("watch %s: %w", folder, err)
	}
	events := os.NewFile(uintptr(descriptor), "inotify")
	const changes = unix.IN_CREATE | unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE
	if _, err := unix.InotifyAddWatch(descriptor, folder, changes); err != nil {
		events.Close()
		return nil, nil, fmt.Errorf("watch %s: %w", folder, err)
	}
	told := make(chan string, watchedFiles)
	var reader sync.WaitGroup
	reader.Go(func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := events.Read(buffer)
			if err != nil {
				return // stop closed it
			}
			for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
				// struct inotify_event: wd, mask, cookie, len, name (inotify(7)).
				length := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(rest[12:]))
				name := string(bytes.TrimRight(rest[unix.SizeofInotifyEvent:length], "\x00"))
				rest = rest[length:]
				select {
				case told <- name:
				default:
				}
			}
		}
	})
	return told, func() { events.Close(); reader.Wait() }, nil
}
