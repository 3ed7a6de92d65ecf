package vault

import (
	"testing"

	"riparo/replication/planted"
)

// plantedBug is a mistake that somebody might make: one place of the real code, and
// what it would be then.
type plantedBug struct {
	name, file, code, bug string
	test                  string // that must find it; empty: TestPowerCuts
}

var plantedBugs = []plantedBug{
	{"acknowledge before fsync", "log.go", `if err := w.file.Sync(); err != nil {
		return &finalError{fmt.Errorf("sync segment %s: %w", segmentName(w.number), err)}
	}
	if fresh {`, `if fresh {`, ""},
	{"a new segment without fsync of its folder", "log.go", `if err := l.fs.SyncDir(l.folder); err != nil {
			return &finalError{fmt.Errorf("sync folder %s: %w", l.folder, err)}
		}
		l.current = w`, `l.current = w`, ""},
	{"a failed fsync is tried again", "log.go", `if err := w.file.Sync(); err != nil {
		return &finalError{fmt.Errorf("sync segment %s: %w", segmentName(w.number), err)}
	}
	if fresh {`, `if err := w.file.Sync(); err != nil && w.file.Sync() != nil {
		return &finalError{err}
	}
	if fresh {`, ""},
	{"no check of the data at the end of the log", "rescue.go", `if err != nil {
			doubtful = doubtful[:i]`, `if false {
			doubtful = doubtful[:i]`, ""},
	{"no check of the chain", "replay.go", `rec.serial == at+1 && rec.chain == chain`, `rec.serial == at+1 && (rec.chain == chain || true)`, ""},
	{"what was doubtful is synced and not written again", "rescue.go", `err := r.rescue(s, doubtful)`,
		`for i := range doubtful {
		if err := r.take(&doubtful[i]); err != nil {
			return err
		}
		records = append(records, doubtful[i])
		end = doubtful[i].position + doubtful[i].size()
	}
	err := r.rescue(s, nil)`, ""},
	{"a repetition that was cut off counts", "recover.go", `return newest.serial >= s.header.repeats, nil`, `return true, nil`, ""},
	{"segments before the first one of the log count", "recover.go", `if bounded = s.header != nil; bounded {`, `if bounded = s.header != nil && s.header.previous > 0; bounded {`,
		"TestADiskWhoseBeginningWasWrittenTwiceBeginsOnce"},
	{"what a cut-off append left counts where it is only read", "rescue.go", `r.log.onlyRead, r.log.onlyReadEnd = s.number, end`, ``, ""},
	{"a segment that a recovery would remove is verified", "verify.go", `return !known(n)`, `return !known(n) && false`, ""},
	{"the first of two copies of an inventory counts", "recover.go", `records[i].serial >= found.serial`, `records[i].serial > found.serial`,
		"TestAnInventoryThatWasWrittenOnceMoreCountsWhereItIs"},
	{"the log goes on before a damaged end", "rescue.go", `for i := range doubtful { // the log goes on behind them: no serial is used twice`, `for i := range doubtful[:0] {`,
		"TestTheLogGoesOnBehindADamagedEnd"},
	{"a segment goes before a map knows what an inventory took from it", "replay.go", `if r.injected || c != nil && goes {`, `if r.injected {`,
		"TestWhatAnInventoryDoesWithoutGoesWhenAMapKnowsIt"},
	{"segments that the log passes by count", "recover.go", `if bounded && n > after {`, `if false {`, ""},
	{"segments are removed before what replaces them is written once more", "recover.go", `r.passed = append(r.passed, n)`, `if r.vault.options.ReadOnly {
				r.passed = append(r.passed, n)
			} else if err := r.removeSegment(n); err != nil {
				return nil, err
			}`, ""},
	{"a cut-off sealing is made good before the next segment is certain", "replay.go", `r.seams = append(r.seams, seam{number: h.previous, end: h.previousEnd, session: h.session, repeats: h.repeats > 0})`,
		`if r.vault.options.ReadOnly {
			r.seams = append(r.seams, seam{number: h.previous, end: h.previousEnd, session: h.session, repeats: h.repeats > 0})
		} else if err := r.sealAgain(seam{number: h.previous, end: h.previousEnd, session: h.session, repeats: h.repeats > 0}); err != nil {
			return err
		}`, ""},
	{"a seal is trusted though its fsync failed", "settle.go", `if err := r.sealAgain(m); err != nil {`, `if err := error(nil); err != nil {`, "TestASealWhoseFsyncFailedIsMadeOnceMore"},
	{"names are trusted that are only seen", "recover.go", `if err := d.certainNames(); err != nil {
		return err
	}`, ``, "TestWhatGoesIsNotNeededByWhatIsCertain"},
	{"a catalog takes any map of the right number", "mapfile.go", `m.number != number || m.made != made ||`, `m.number != number ||`,
		"TestACatalogTakesNoOtherMapOfTheSameNumber"},
	{"the folder of a disk may only be seen", "files.go", `return v.fs.SyncDir(filepath.Dir(name))
}`, `return nil
}`, "TestTheFolderOfANewDiskIsCertain"},
	{"the folder of a vault may only be seen", "vault.go", `if err == nil && fresh && !o.ReadOnly {`, `if false {`, ""},
	{"an erasing goes on before its marker is certain", "files.go", `if err := v.fs.SyncDir(folder); err != nil {
		return err
	}
	if err`, `if err`, "TestAnErasingIsCertainBeforeItGoesOn"},
	{"the end of a view removes what the catalog still needs", "sweep.go", `d.dead = append(d.dead, deadSegment{n, notYet})`,
		`d.clock++
		d.dead = append(d.dead, deadSegment{n, d.clock})`, "TestWhatGoesIsNotNeededByWhatIsCertain"},
	{"what is in doubt is a witness", "replay.go", `if r.broken != nil {
		// What`, `if false {
		// What`, "TestWhatIsInDoubtIsNoWitness"},
	{"a disk without room is opened once more under a view", "roomless.go", `if len(d.pins) > 0 || d.leading`, `if d.leading`, "TestADiskThatWasOpenedWithoutRoomWaitsForItsViews"},
	{"a mark is applied before the data before it", "commit.go", `for _, p := range group {
		if err == nil {
			if err = d.apply(&p.record)`, `slices.SortStableFunc(group, func(a, b *pending) int { return int(b.head.kind) - int(a.head.kind) })
	for _, p := range group {
		if err == nil {
			if err = d.apply(&p.record)`, ""},
	{"dead segments are removed before the inventory is durable", "sweep.go", `if err := d.bury(dead); err != nil {
			return err
		}`, `d.clock++
		for _, n := range dead {
			d.dead = append(d.dead, deadSegment{n, d.clock})
		}
		d.mu.Unlock()
		d.removeDead()
		d.mu.Lock()
		if err := d.bury(dead); err != nil {
			return err
		}`, ""},
	{"a segment that only says zero is dead", "mapfile_writer.go", `r := w.refs[e.segment]`, `if e.codec == codecZero {
		if len(w.layers) == 1 {
			w.fenced(e)
		}
		w.put(e)
		return
	}
	r := w.refs[e.segment]`, ""},
	{"layers whose mark record is gone stay open", "replay.go", `r.closeUpTo(min(rec.serial-1, r.base))`, `_ = r.base`, ""},
	{"a view does not keep the segments it needs", "sweep.go", `for pin := range d.pins {
		oldest = min(oldest, pin)
	}`, ``, "TestAViewKeepsWhatItNeedsUntilItIsClosed"},
	{"a rewind leaves the tiles as they are", "state.go", `s.cutTiles(b.at)
		s.mapped = r.serial`, `s.mapped = r.serial`, ""},
	{"a disk that was cut grows with what it had", "sink.go", `if want.Size < d.disk.Size {`, `if false {`, ""},
	{"a map file is not synced", "mapfile_writer.go", `if w.err == nil {
		w.err = w.file.Sync()
	}`, ``, ""},
	{"a dropped point takes its layer along", "memory.go", `waiting = append(waiting, l.maps...)
			continue`, `continue`, ""},
	{"a full disk is final", "log.go", `if !errors.Is(err, vfs.ErrNoSpace) {
		return &finalError{err}
	}
	if !fresh {`, `if true {
		return &finalError{err}
	}
	if !fresh {`, ""},
	{"what was written to a full disk counts", "log.go", `return l.undo(w, fresh, fmt.Errorf("write %d bytes`, `l.serial, l.chain = at, chain
		return l.undo(w, fresh, fmt.Errorf("write %d bytes`, ""},
	{"compaction passes over a block that is needed", "compact.go", `b.parts = append(b.parts, blockPart{e.position, e.offset, e.end()})`,
		`if e.position > 8400 {
					b.parts = append(b.parts, blockPart{e.position, e.offset, e.end()})
				}`, "TestCompactionFreesSegmentsAndKeepsEveryPoint"},
	{"a rewind during compaction is not noticed", "mover.go", `if !slices.Equal(d.voids, m.voids) {`, `if false {`, "TestARewindEndsTheRoundOfACompaction"},
	{"a part of a block is read from the beginning of another", "memory.go", `e.inner, e.plain = uint32(e.offset-to.offset)+to.inner, to.plain`, `e.plain = to.plain`, "TestOfABlockOnlyWhatIsNeededIsMoved"},
	{"of the parts of a block the last one counts", "moves.go", `list[from] = append(list[from], to)`, `list[from] = []entry{to}`, "TestOfABlockOnlyWhatIsNeededIsMoved"},
	{"blocks are moved whole, however little of them is needed", "mover.go", `if needed > e.length-e.length/partGain {`, `if true {`, "TestOfABlockOnlyWhatIsNeededIsMoved"},
	{"parts of a block that do not meet are joined", "compact.go", `p.from <= joined[n-1].to {`, `p.from <= joined[n-1].to+1<<20 {`, "TestOfABlockOnlyWhatIsNeededIsMoved"},
	{"a moved block is laid where it was moved, not where it came first", "moved.go", `movedEntry{e, origins[i].serial}`,
		`movedEntry{e, origins[i].serial - origins[i].serial + m.serial}`, "TestCompactionFreesSegmentsAndKeepsEveryPoint"},
	{"a moved block that a rewind made void counts", "moved.go", `if !inRanges(r.voids, at) {`, `if true {`, "TestWhatARewindMadeVoidStaysVoidWhenItWasMoved"},
	{"compaction moves what a rewind made void", "mover.go", `if inRanges(m.voids, at) {`, `if false {`, ""},
	{"a damaged block is moved", "seal.go", `if checksum(stored) != e.crc {
		return row{}, nil,`, `if false {
		return row{}, nil,`, "TestADamagedBlockKeepsItsSegmentFromCompaction"},
	{"a closed disk goes on where its maps end", "leave.go", `c.mapped != c.serial ||`, `false ||`, "TestACatalogWhoseMapsEndEarlierIsRead"},
	{"a seal is certain before it is written", "leave.go", `if d.log.current == nil {`, `if true {`, "TestASealIsCertainOnlyBehindItsFsync"},
	{"a catalog leaves moved blocks to the log", "moved.go", `r.injected = true`, `r.injected = false`, ""},
	{"a locked point is dropped", "drop.go", `held := d.heldPoint(p, "drop")`, `held := error(nil)`, "TestALockedPointStaysForEverybody"},
	{"a rewind takes a locked point along", "rewind.go", `if err := d.heldPoint(later, "rewind to point "+string(to)); err != nil {`,
		`if err := d.heldPoint(later, "rewind to point "+string(to)); err != nil && later.pinned {`, "TestALockedPointStaysForEverybody"},
	{"a disk is erased with its locked points", "erase.go", `if p.locked > d.vault.TrustedTime().UnixNano() {`, `if false {`, "TestALockedPointStaysForEverybody"},
	{"a lock is shortened", "lock.go", `if until.UnixNano() < p.locked {`, `if false {`, "TestALockedPointStaysForEverybody"},
	{"a lock ends when the clock says so", "trustedtime.go", `return c.base.Add(c.uptime())`, `return c.vault.now()`, "TestNoClockEndsALockEarly"},
	{"a clock that is far ahead is believed", "trustedtime.go", `if ahead > 0 && ahead <= credit-owed {`, `if _ = owed; ahead > 0 {`, "TestNoClockEndsALockEarly"},
	{"a day is lent at every opening", "trustedtime.go", `c.base.Add(ahead), owed+ahead, c.uptime()`, `c.base.Add(ahead), owed, c.uptime()`, "TestNoClockEndsALockEarly"},
	{"what is believed was earned before", "trustedtime.go", `c.base.Add(ahead), owed+ahead, c.uptime()`, `c.base.Add(ahead), owed+ahead, 0`, "TestAVaultThatWasOpenForLongBelievesOneDay"},
	{"a pin does not survive a catalog", "body.go", `e.flag(p.pinned)`, `e.flag(false)`, ""},
	{"a limit ignores what is under way", "limits.go", `return d.taking.value + d.taking.since + d.taking.pending`, `return d.taking.value + d.taking.since`, "TestWhatIsUnderWayCounts"},
	{"a write eats the reserve", "disk.go", `return r.head.kind == kindBatch || r.head.kind == kindMove`, `return false`, "TestAFullFileSystemStillClosesAndDropsPoints"},
	{"two openings seal with the same sub-key", "datakey.go", `"riparo blocks of an opening", o.session, o.salt)`, `"riparo blocks of an opening", 0, 0)`, "TestNoNonceComesTwice"},
	{"two copies of a folder seal with the same sub-key", "datakey.go", `"riparo blocks of an opening", o.session, o.salt)`, `"riparo blocks of an opening", o.session, 0)`, "TestNoNonceComesTwice"},
	{"the session is not raised", "header.go", `v.session++
`, ``, "TestNoNonceComesTwice"},
	{"blocks are sealed under one number", "seal.go", `number := s.blocks.Add(1)`, `number := s.blocks.Load() + 1`, "TestNoNonceComesTwice"},
	{"a block opens at any offset", "seal.go", `binary.BigEndian.PutUint64(s.bound[0:], uint64(at))`, ``, "TestABlockOpensOnlyWhereItBelongs"},
	{"a block that is not sealed is taken", "seal.go", `return nil, errNotSealed`, `return stored, nil`, "TestABlockOpensOnlyWhereItBelongs"},
	{"the checksum of a content is in the clear", "codec.go", `r.sum = z.sums.of(data, at, &z.scratch)`, `r.sum = sumOf(data)`, "TestAThiefFindsNeitherContentNorItsChecksum"},
	{"the hash of a content is one that anybody can make", "blocksum.go", `tag := s.hash.Seal(scratch.sum[:0], scratch.nonce[:], nil, content)`, `tag := scratch.sum[:]
	binary.LittleEndian.PutUint64(tag, uint64(sumOf(content)))
	binary.LittleEndian.PutUint64(tag[8:], uint64(at))`, "TestContentsOfOneCRCDoNotLookEqual"},
	{"keys are not synced", "files.go", `if _, err = f.WriteAt(content, 0); err == nil {
		err = f.Sync()
	}`, `_, err = f.WriteAt(content, 0)`, ""},
	{"the keys of a disk are made once it has data", "sink.go", `if err == nil {
			err = d.keys.create()
		}`, `if err == nil {
			save := d.keys.dir
			d.keys.dir = d.vault.dir
			err = d.keys.create()
			d.keys.dir = save
		}`, ""},
	{"an old data key goes while a segment needs it", "rotate.go", `if err := d.keysOfSegment(n, used); err != nil {`, `if err := error(nil); err != nil {`, ""},
	{"the old key of the vault goes while a disk needs it", "rotate.go", `if err != nil || !known {`, `if _ = known; err != nil {`, "TestKeysThatAreLostAreToldAndTakeNothingElseAlong"},
	{"a copy of erased keys stays until the end", "keyfile.go", `[]string{keysName, keysCopyName, keysName + temporarySuffix`, `[]string{keysName, keysName + temporarySuffix`, "TestErasingGoesOnAfterAPowerCut"},
	{"a verification goes by the log alone", "named.go", `n.bad = append(n.bad, badBlockOf(&e, err))`, `_ = err`, "TestAVerificationKnowsHowTheLogGoesOn"},
	{"a verification takes any record with a good checksum", "verify.go", `case known != nil && rec.sum != known.sum, `, `case `, "TestATryThatFailedIsNotTakenForTheRecordThatFollowedIt"},
	{"a verification does not look how the log goes on", "verify.go", `t.bound && at+rec.size() >= end && rec.sum != t.chain:`, `false:`, "TestAVerificationKnowsHowTheLogGoesOn"},
	{"the scrub goes by the log alone", "scrub.go", `return c.scrubNamed(ctx, sound)`, `return nil`, "TestAVerificationKnowsHowTheLogGoesOn"},
	{"a try that failed ends the log", "replay.go", `return rec.serial == r.known && rec.sum != r.knownSum`, `return false`, "TestATryThatFailedIsNotTakenForTheEndOfTheLog"},
	{"a batch gives its memory back while it waits", "commit.go", `p = &pending{draft: r}`, `p = &pending{draft: r}
		returnPayload(r.payload)`, "TestABatchThatWaitsKeepsItsMemory"},
	{"an append gives memory back that a compaction has", "log.go", `buffer = append(append(buffer, d.meta...), d.payload...)`, `buffer = append(append(buffer, d.meta...), d.payload...)
		returnPayload(d.payload)`, "TestABatchAndACompactionShareNoMemory"},
	{"the page of a map that is kept is taken for another", "mapfile.go", `p != nil && p.number == number`, `p != nil`, "TestPagesOfAMapAreReadOnce"},
	{"what lies behind a damaged block is called damaged", "judge.go", `at, damaged = suspects[0].Offset, false`, `at = suspects[0].Offset`, "TestScatteredBlocksAreComparedTogether"},
	{"what was never written keeps the bytes of the block before", "judge.go", `clear(theirs[at-s.Offset:])`, ``, "TestAJudgeFindsAllThatDiffersAndLittleElse"},
	{"a run goes on in another segment", "runs.go", `e.segment != first.segment || `, ``, ""},
	{"a run that cannot be read is taken for read", "runs.go", `if err := errors.Join(readFull(h.file, r.p, from), b.release(h)); err != nil {`,
		`_ = readFull(h.file, r.p, from)
	if err := b.release(h); err != nil {`, "TestABadSectorHidesNothingAroundIt"},
	{"the memory of a run is given back before its blocks are opened", "runs.go", `return b.ahead(list[0].segment, int64(list[0].position), end, memory), func() { giveRun(memory) }`,
		`read = b.ahead(list[0].segment, int64(list[0].position), end, memory)
	giveRun(memory)
	return read, func() {}`, "TestLargeReadsOfAViewSideBySide"},
	{"what is staged is appended though what comes before it failed", "stage.go", `d.stage != nil && d.stage.first != d.sequence+1`, `false`, "TestAStageGoesWithTheAppendBeforeIt"},
	{"what is withdrawn stays on the stage", "commit.go", `if p.staged {`, `if p.staged && p.taken {`, "TestWhatIsWithdrawnLeavesTheStage"},
	{"what is staged gets no header", "log.go", `copy(buffer[position-start:], d.meta) // with the header that it has now`, `_ = buffer`, "TestWhatIsStagedIsAppended"},
	{"the place of a stage is lost with a segment that cannot be sealed", "log.go", `defer ready.leave()
	if l.current != nil && l.current.end > segmentHeaderSize && l.current.end+total > l.limit {
		if err := l.seal(); err != nil {
			return err
		}
	}`, `if l.current != nil && l.current.end > segmentHeaderSize && l.current.end+total > l.limit {
		if err := l.seal(); err != nil {
			return err
		}
	}
	defer ready.leave()`, "TestAStageLeavesItsPlaceWhenTheDiskIsFull"},
	{"a vault file of version 1 ends the encryption", "vaultkey.go", `	v.sealed = true
	for`, `	if !v.sealed {
		return nil
	}
	for`, "TestNobodyMakesAnEncryptedVaultWriteInTheClear"},
}

const thisPackage = "replication/vault"

func allPlanted() []planted.Bug {
	var list []planted.Bug
	for _, b := range plantedBugs {
		list = append(list, planted.Bug{Name: b.name, File: b.file, Code: b.code, Bug: b.bug, Test: b.test})
	}
	return list
}

// TestPlantedBugsStillFitTheCode sees to it that each planted bug has its place.
func TestPlantedBugsStillFitTheCode(t *testing.T) { planted.Fit(t, thisPackage, allPlanted()) }

// TestPowerCutsFindPlantedBugs runs the power cuts with one bug after another.
func TestPowerCutsFindPlantedBugs(t *testing.T) {
	sealedOnly(t) // a dozen of them are bugs of sealing and keys
	planted.Find(t, thisPackage, "TestPowerCuts", allPlanted())
}
