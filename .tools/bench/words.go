package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"time"
)

// Generated content stands for what a machine has and this one may not: databases,
// logs, media. It follows from the seed alone.

var words = []string{
	"account", "agent", "alarm", "archive", "block", "budget", "cache", "center", "change", "charge", "client", "cloud", "cluster", "commit",
	"config", "console", "contract", "control", "copy", "cost", "customer", "cycle", "delta", "delivery", "device", "disk", "domain", "driver",
	"epoch", "error", "event", "export", "extent", "failback", "failover", "filter", "floor", "fragment", "gateway", "group", "guest", "health",
	"history", "image", "index", "invoice", "journal", "kernel", "layer", "ledger", "machine", "manifest", "market", "member", "memory", "message",
	"mirror", "network", "number", "object", "order", "packet", "page", "parcel", "partner", "payment", "point", "policy", "product", "protocol",
	"queue", "rack", "reader", "record", "recovery", "region", "replica", "report", "request", "retention", "route", "sample", "schedule", "segment",
	"server", "session", "site", "source", "stock", "storage", "supplier", "switch", "system", "target", "tenant", "token", "transfer", "update",
	"user", "value", "vault", "vendor", "volume", "warehouse", "window", "worker", "workload", "writer", "yard", "zone",
}

func word(r *rand.Rand) string { return words[r.IntN(len(words))] }

func randomOf(seed uint64, purpose string) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(crc32.ChecksumIEEE([]byte(purpose)))))
}

// noise is what media and encrypted files look like from below.
func noise(r *rand.Rand, p []byte) {
	for len(p) >= 8 {
		binary.LittleEndian.PutUint64(p, r.Uint64())
		p = p[8:]
	}
	for i := range p {
		p[i] = byte(r.Uint32())
	}
}

// logText fills p with lines of three services.
func logText(r *rand.Rand, p []byte) {
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(r.IntN(1e6)) * time.Second)
	line := make([]byte, 0, 512)
	for len(p) > 0 {
		at = at.Add(time.Duration(r.IntN(900)) * time.Millisecond)
		line = at.AppendFormat(line[:0], time.RFC3339Nano)
		switch r.IntN(4) {
		case 0:
			line = fmt.Appendf(line, " web%02d proxy: 10.%d.%d.%d \"GET /%s/%s?id=%d\" 200 %d rt=0.%03d\n", r.IntN(12), r.IntN(256), r.IntN(256), r.IntN(256), word(r), word(r), r.IntN(1e6), r.IntN(90000), r.IntN(1000))
		case 1:
			line = fmt.Appendf(line, " db1 database[%d]: %d.%03d ms: UPDATE %s SET %s = %d WHERE id = %d\n", 1000+r.IntN(40), r.IntN(90), r.IntN(1000), word(r), word(r), r.IntN(1e6), r.IntN(1e7))
		default:
			line = fmt.Appendf(line, " app%d %s[%d]: level=info session=%016x %s %s %s=%d\n", r.IntN(4), word(r), r.IntN(30000), r.Uint64(), word(r), word(r), word(r), r.IntN(1e5))
		}
		p = p[copy(p, line):]
	}
}

// pageBytes is the page of a database.
const pageBytes = 8 << 10

func databaseRow(r *rand.Rand, p []byte) int {
	return copy(p, fmt.Appendf(nil, "%08d|%s %s|%s.%s@%s.example|%d.%02d|%d|%x\n", r.IntN(1e8), word(r), word(r), word(r), word(r), word(r), r.IntN(100000), r.IntN(100), 1400000000+r.IntN(6e7), r.Uint64()))
}

// databasePage makes a page as a database writes it: a header with number, log
// position and checksum, rows, and free space.
func databasePage(r *rand.Rand, p []byte, number uint64) {
	clear(p)
	fill := min(24+len(p)*(60+r.IntN(38))/100, len(p))
	for at := 24; at < fill-160; {
		at += databaseRow(r, p[at:fill])
	}
	sealPage(p, number, 1e6+r.Uint64N(1e6))
}

// touchPage changes one to three rows of a page.
func touchPage(r *rand.Rand, p []byte, number uint64) {
	for range 1 + r.IntN(3) {
		databaseRow(r, p[24+r.IntN(len(p)-400):])
	}
	sealPage(p, number, 3e6+r.Uint64N(1e6))
}

func sealPage(p []byte, number, position uint64) {
	binary.BigEndian.PutUint64(p, number)
	binary.BigEndian.PutUint64(p[8:], position)
	binary.BigEndian.PutUint32(p[16:], 0)
	binary.BigEndian.PutUint32(p[16:], crc32.ChecksumIEEE(p))
}
