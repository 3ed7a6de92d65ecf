package sim

import (
	"testing"

	"riparo/replication/planted"
)

const (
	server    = "replication/processserver/"
	compare   = "replication/resync/"
	theVault  = "replication/vault/"
	thisPlace = "replication/sim"
)

// plantedBugs lie in every part of the walk; those in the parts that the world brings
// itself show that it would notice if the real ones had them.
var plantedBugs = []planted.Bug{
	{Name: "zeroes are left out of a delta", File: server + "batch.go",
		Code: "if change.Zero() && c.fresh {", Bug: "if change.Zero() {"},
	{Name: "the last batch is not sent", File: server + "batch.go",
		Code: "if len(s.batch.Changes) > 0 {\n\t\tif err := c.ship(ctx, s); err != nil {", Bug: "if false {\n\t\tif err := c.ship(ctx, s); err != nil {"},
	{Name: "pieces of a load are read over each other", File: server + "load.go",
		Code: "at += int(piece.Length)", Bug: "at += 0"},
	{Name: "zeroes that do not touch become one change", File: server + "batch.go",
		Code: "last.Zero() && last.End() == change.Offset {", Bug: "last.Zero() {"},
	{Name: "what is all zero is not sent", File: server + "zero.go",
		Code: "emit(run, len(data), true)", Bug: "_ = run"},
	{Name: "a buffer is used again before its batch is written", File: server + "batch.go",
		Code: "if data == 0 && l.buffer != nil {", Bug: "if l.buffer != nil {"},
	{Name: "sequences begin anew", File: server + "batch.go",
		Code: "c.options.Epoch, c.next\n\tc.next++", Bug: "c.options.Epoch, c.next\n\tc.next += 2"},

	{Name: "the first block of a chunk is not compared", File: compare + "window.go",
		Code: "if replication.SumOf(w.slice(data, block)) != theirs[k] {", Bug: "if k > 0 && replication.SumOf(w.slice(data, block)) != theirs[k] {"},
	{Name: "data where the holder has nothing is no difference", File: compare + "window.go",
		Code: "if !replication.IsZero(w.slice(data, block)) {", Bug: "if false {"},
	{Name: "only the first chunks that differ are looked into", File: compare + "window.go",
		Code: "for _, run := range replication.Union(suspects) {", Bug: "for _, run := range replication.Union(suspects)[:min(1, len(suspects))] {"},

	{Name: "a deposed owner may write", File: theVault + "commit.go",
		Code: "case epoch < d.epoch:", Bug: "case false:"},
	{Name: "a deposed owner may prepare", File: theVault + "sink.go",
		Code: "if epoch < d.epoch {", Bug: "if false {"},

	{Name: "a verification passes damaged blocks", File: theVault + "verify.go",
		Code: "c.bad = append(c.bad, badBlockOf(&e, err))", Bug: "_ = err"},
	{Name: "a file system that takes no changes is no failure", File: theVault + "problem.go",
		Code: "case errors.Is(err, vfs.ErrNoSpace):\n\t\treturn fullProblem(disk, err)", Bug: "case errors.Is(err, vfs.ErrNoSpace) || errors.Is(err, vfs.ErrReadOnly):\n\t\treturn nil"},

	{Name: "the target answers before it has written", File: "target_test.go",
		Code: "err = v.Write(ctx, f.batch)", Bug: "go v.Write(ctx, f.batch)"},
	{Name: "frames of an old connection count", File: "target_test.go",
		Code: "} else if f.session != t.sessions[f.host].number || f.life != t.life {", Bug: "} else if false {"},
	{Name: "calls of an old connection go on", File: "target_test.go",
		Code: "t.sessions[host].end()", Bug: "_ = host"},
	{Name: "a frame is believed without its checksum", File: "frame_test.go",
		Code: "if binary.LittleEndian.Uint32(b[len(body):]) != crc32.ChecksumIEEE(body) {", Bug: "if false {"},
	{Name: "dirty bits are cleared when they are sent", File: "host_test.go",
		Code: "t.conn.failed)\n\tfor i := range disks {\n\t\th.dirty[i].add(h.sending[i])", Bug: "t.conn.failed)\n\tfor i := range disks {"},
	{Name: "a crash of the host leaves tracking as it was", File: "host_test.go",
		Code: "h.up, h.tracked = false, false", Bug: "h.up = false"},
	{Name: "the disk is read while the machine writes", File: "transfer_test.go",
		Code: "whole := &frozen{bytes: t.capture.content[i]}", Bug: "whole := &frozen{bytes: t.host.content[i]}"},
	{Name: "a failed transfer counts as safe", File: "host_test.go",
		Code: "if err == nil {\n\t\th.safe(t)", Bug: "if err == nil || t.conn.failed == refused {\n\t\th.safe(t)"},
	{Name: "the machine starts before the vault went back", File: "failover_test.go",
		Code: "if f.step == len(disks) && f.start() {", Bug: "if f.start() {"},
}

// TestPlantedBugsStillFitTheCode sees to it that each planted bug has its place.
func TestPlantedBugsStillFitTheCode(t *testing.T) { planted.Fit(t, thisPlace, plantedBugs) }

// TestWorldsFindPlantedBugs lets worlds run with one bug after another.
func TestWorldsFindPlantedBugs(t *testing.T) {
	planted.Find(t, thisPlace, "TestEveryRecoveryPointIsItsInstant", plantedBugs)
}
