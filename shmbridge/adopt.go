package shmbridge

import (
	"encoding/binary"
	"fmt"
)

// The moves of the upgrader that has the page's lock, so that no other one makes them at the same time.

func (p *Page) bootID() [16]byte {
	var id [16]byte
	binary.LittleEndian.PutUint64(id[:8], p.load(atBoot))
	binary.LittleEndian.PutUint64(id[8:], p.load(atBoot+8))
	return id
}

// adopt makes the page one of this boot and of this upgrader, and returns its base: the numbers after last, of the
// engine's count, are new ones on the page. A live lease stays if its generation may be alive.
func (p *Page) adopt(boot [16]byte, alive bool, last uint32, pid int) (uint32, error) {
	for {
		w := p.load(atWord)
		s, err := p.statusOf(w)
		if err != nil {
			if p.load(atWord) != w {
				continue
			}
			return 0, err
		}
		if s.State == Live && !alive {
			p.or(record(s.Generation)+inTaken, takenOver)
			if !p.swap(atWord, w, word(s.Generation, Unsaved)) {
				continue
			}
		}
		base := p.load(atBase)
		if base > uint64(s.Generation) {
			return 0, fmt.Errorf("shmbridge: %w: base %d after generation %d", ErrPage, base, s.Generation)
		}
		if s.Generation > last {
			base = max(base, uint64(s.Generation-last))
		}
		p.store(atBase, base)
		p.store(atBoot, binary.LittleEndian.Uint64(boot[:8]))
		p.store(atBoot+8, binary.LittleEndian.Uint64(boot[8:]))
		p.store(atUpgrader, uint64(pid))
		return uint32(base), p.flush()
	}
}

// restored is what a snapshot says of the bytes in it.
type restored struct {
	number           uint64
	state            State
	savedAt          uint64 // nanoseconds since 1970
	checksum, schema uint64
}

// begin marks that the segment's bytes are being replaced by those of a snapshot, for generation g, which must be later
// than every one that had a lease (0: the next). From here to finish no lease is given, across crashes of everybody.
// The serial comes first, and is on the disk before any byte is replaced.
func (p *Page) begin(g uint32, r restored) (uint32, error) {
	s, err := p.status()
	if err != nil {
		return 0, err
	}
	p.store(atRestoring, r.number)
	p.store(atBegun, p.load(atDone)+1)
	if err := p.flush(); err != nil {
		return 0, err
	}
	if g == 0 {
		g = s.Generation + 1
	}
	for {
		w := p.load(atWord)
		if s, err = p.statusOf(w); err != nil && p.load(atWord) != w {
			continue
		}
		if err == nil && (s.Generation > g || s.Generation == g && s.State == Live) {
			err = fmt.Errorf("shmbridge: restore for generation %d: generation %d: %w", g, s.Generation, ErrVoid)
		}
		if err != nil {
			p.store(atBegun, p.load(atDone)) // nothing was replaced yet
			return 0, err
		}
		p.prepare(g, 0, s)
		p.or(record(g)+inTaken, takenOver)
		if p.swap(atWord, w, word(g, Unsaved)) {
			return g, p.flush()
		}
	}
}

// finish marks that all bytes are those of the snapshot.
func (p *Page) finish(g uint32, r restored) error {
	if r.state == Live || !r.state.possible() {
		r.state = Unsaved // it was taken while somebody wrote
	}
	at := record(g)
	p.store(at+inFound, uint64(r.state))
	p.store(at+inTime, r.savedAt)
	p.store(at+inChecksum, r.checksum)
	p.store(at+inSchema, r.schema)
	if !p.swap(atWord, word(g, Unsaved), word(g, r.state)) {
		return fmt.Errorf("shmbridge: finish the restore for generation %d: %w", g, ErrVoid)
	}
	p.store(atDone, p.load(atBegun))
	return p.flush()
}
