package demo

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"riparo/hypervisor"
)

func small(t *testing.T) Options {
	return Options{Data: t.TempDir(), Listen: "127.0.0.1:0", Machines: 1, DiskSize: 64 << 20, Churn: 512 << 10, Seed: 7, Tell: t.Logf}
}

func told(t *testing.T, o Options) (result Result) {
	t.Helper()
	err := Run(t.Context(), o, Stage{Told: func(r Result) error { result = r; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestTheWholeStoryIsVerified(t *testing.T) {
	t.Parallel() // it waits most of the time
	result := told(t, small(t))
	if !result.Verified {
		t.Fatalf("got %+v; want a verified story", result)
	}
	for _, m := range result.Machines {
		if m.PointsJudged < points || m.FailoverSeconds == 0 || m.FailbackSeconds == 0 || m.ReverseBytes == 0 {
			t.Errorf("machine %+v: want every figure above 0", m)
		}
	}
}

// A replica is changed by one byte, anywhere: the story must not be verified.
func TestOneChangedByteOfAReplicaIsFound(t *testing.T) {
	for seed := range uint64(2) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			o := small(t)
			o.tamper = func(s *story) error { return flipReplicaByte(t, s, seed) }
			refuted(t, told(t, o))
		})
	}
}

// A byte anywhere in the vault's segments is changed.
func TestOneChangedByteOfTheVaultIsFound(t *testing.T) {
	for seed := range uint64(2) {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			o := small(t)
			o.tamper = func(s *story) error { return flipVaultByte(t, s, seed) }
			refuted(t, told(t, o))
		})
	}
}

func refuted(t *testing.T, result Result) {
	t.Helper()
	if result.Verified || len(result.Why) == 0 {
		t.Fatalf("a byte was changed; got %+v, want verified false and why", result)
	}
	t.Logf("found: %s", result.Why[0])
}

func flipReplicaByte(t *testing.T, s *story, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 1))
	p := s.cast[random.IntN(len(s.cast))]
	m, err := p.record()
	if err != nil {
		return err
	}
	site, err := s.world.Site(secondary)
	if err != nil {
		return err
	}
	seen, err := site.Machine(t.Context(), hypervisor.Ref(m.Target.Ref))
	if err != nil {
		return err
	}
	disk := seen.Disks[random.IntN(len(seen.Disks))]
	return flip(t, disk.Path, random.Int64N(disk.Size))
}

func flipVaultByte(t *testing.T, s *story, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 2))
	var segments []string
	err := filepath.WalkDir(filepath.Join(s.Data, "vault", "disks"), func(path string, entry os.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".segment" {
			segments = append(segments, path)
		}
		return err
	})
	if err != nil || len(segments) == 0 {
		return fmt.Errorf("segments of the vault: found %d, %v", len(segments), err)
	}
	path := segments[random.IntN(len(segments))]
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return flip(t, path, random.Int64N(info.Size()))
}

func flip(t *testing.T, path string, offset int64) error {
	t.Logf("changing byte %d of %s", offset, filepath.Base(path))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	var b [1]byte
	if _, err := file.ReadAt(b[:], offset); err != nil {
		return err
	}
	b[0] ^= 0x40
	_, err = file.WriteAt(b[:], offset)
	return err
}
