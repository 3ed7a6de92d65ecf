package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// age is the time to the first byte of a disk with many points.
type age struct {
	Points int                  `json:"points"`
	First  map[string][]float64 `json:"first_byte_seconds"` // by which point: oldest, middle, newest
	Start  []float64            `json:"start_seconds"`      // of the program alone, that says its version
}

var agePoints = []string{"oldest", "middle", "newest"}

const (
	// ageRounds are cheap: one takes a fraction of a second.
	ageRounds = 5
	agesKey   = "points"
)

// ages measures the first 4 KiB of the oldest, the middle and the newest point of disks
// with more and more points, through NBD, from the start of the program on; and that start
// alone.
func (b *bench) ages() error {
	if _, err := exec.LookPath("go"); err != nil {
		fmt.Fprintln(os.Stderr, "left out: the first byte of many points, for want of go")
		return nil
	}
	for _, count := range b.scale.points {
		fmt.Fprintf(os.Stderr, "%5.0f s  measuring: the first byte of %d points\n", time.Since(b.began).Seconds(), count)
		a, err := b.age(count)
		if err != nil {
			return fmt.Errorf("the first byte of %d points: %w", count, err)
		}
		b.aged = append(b.aged, a)
	}
	return nil
}

func (b *bench) age(count int) (a age, err error) {
	folder := b.path("base-vault")
	defer func() {
		if e := os.RemoveAll(folder); err == nil {
			err = e
		}
	}()
	if err := os.RemoveAll(folder); err != nil {
		return a, err
	}
	house, err := filepath.Abs(".")
	if err != nil {
		return a, err
	}
	// The program takes a tenth of a second for a point; the package that keeps them
	// takes them all in a second or two.
	c := exec.Command("go", "test", "-count=1", "-run", "^TestADiskIsMadeWithManyPoints$", "./replication/vault")
	c.Dir, c.Env = house, append(os.Environ(), "RIPARO_MANY_POINTS="+fmt.Sprint(count), "RIPARO_MANY_IN="+folder)
	if out, err := c.CombinedOutput(); err != nil {
		return a, fmt.Errorf("make the points: %w\n%s", err, tail(string(out)))
	}
	a = age{Points: count, First: map[string][]float64{}}
	for round := range ageRounds + 1 {
		for i, which := range agePoints {
			first, err := b.firstByte(folder, fmt.Sprintf("p%06d", i*(count-1)/2))
			if err != nil {
				return a, err
			}
			if round > 0 { // the first one fills the page cache
				a.First[which] = append(a.First[which], first)
			}
		}
		began := time.Now()
		if err := exec.Command(b.program, "version").Run(); err != nil {
			return a, err
		}
		if round > 0 {
			a.Start = append(a.Start, time.Since(began).Seconds())
		}
	}
	return a, nil
}

// firstByte is how long after its start the program has sent the first 4 KiB of a point, in
// seconds. Who reads them is here, so that nobody else has to start.
func (b *bench) firstByte(vault, point string) (seconds float64, err error) {
	socket := b.path("s")
	c := exec.Command(b.program, "disk", "serve", "--vault", vault, "--disk", "d", "--point", point, "--socket", socket)
	c.Env = append(os.Environ(), b.ownKey())
	said, err := c.StdoutPipe()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := c.Start(); err != nil {
		return 0, err
	}
	defer func() {
		c.Process.Signal(os.Interrupt)
		if e := c.Wait(); err == nil && e != nil {
			err = fmt.Errorf("riparo disk serve: %w", e)
		}
	}()
	if _, err := bufio.NewReader(said).ReadString('\n'); err != nil { // it says where it listens
		return 0, fmt.Errorf("riparo disk serve says nothing: %w", err)
	}
	if err := readFirst4K(socket); err != nil {
		return 0, fmt.Errorf("read from riparo disk serve: %w", err)
	}
	return time.Since(began).Seconds(), nil
}

// readFirst4K reads the first 4 KiB of what an NBD server serves under no name.
func readFirst4K(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	const (
		option     = "IHAVEOPT"
		noZeroes   = 3 // and the fixed newstyle
		exportName = 1
		request    = 0x25609513
		reply      = 0x67446698
	)
	greeting := make([]byte, 18)
	if _, err := io.ReadFull(conn, greeting); err != nil {
		return err
	}
	hello := binary.BigEndian.AppendUint32(nil, noZeroes)
	hello = append(hello, option...)
	hello = binary.BigEndian.AppendUint32(hello, exportName)
	hello = binary.BigEndian.AppendUint32(hello, 0)
	if _, err := conn.Write(hello); err != nil {
		return err
	}
	export := make([]byte, 10) // size and flags
	if _, err := io.ReadFull(conn, export); err != nil {
		return err
	}
	ask := binary.BigEndian.AppendUint32(nil, request)
	ask = append(ask, make([]byte, 2+2+8+8)...) // a read without flags, at 0
	ask = binary.BigEndian.AppendUint32(ask, 4096)
	if _, err := conn.Write(ask); err != nil {
		return err
	}
	answer := make([]byte, 16+4096)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if binary.BigEndian.Uint32(answer) != reply || binary.BigEndian.Uint32(answer[4:]) != 0 {
		return fmt.Errorf("the answer is %x", answer[:16])
	}
	return nil
}
