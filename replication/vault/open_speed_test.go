package vault

import (
	"testing"
)

// BenchmarkFirstByte opens a vault whose disk has 20,000 points, and reads 4 KiB of the
// oldest, the newest and the one between them.
func BenchmarkFirstByte(b *testing.B) {
	m := newMany(b, 64<<30)
	m.grow(20_000)
	if err := m.vault.Close(); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 4096)
	for _, at := range []struct {
		name  string
		point int
	}{{"oldest", 0}, {"middle", 10_000}, {"newest", 19_999}} {
		b.Run(at.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.open()
				w, err := m.vault.View(b.Context(), "d", m.point(at.point))
				if err != nil {
					b.Fatal(err)
				}
				if err := readFull(w, p, 0); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
				if err := m.vault.Close(); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}
