package shmbridge

import (
	"fmt"
	"time"
)

// The moves of the page's word. Each is one compare-and-swap, made after all that belongs to it was written into the
// record of its own generation; so whoever loses the race has disturbed nobody.

// grant gives the lease to generation g, whose writer is pid (0: not known yet). Granting it twice is the same as once.
// It voids the lease of every older generation, whatever that is doing. Errors match ErrVoid (a newer one has it) and
// ErrRestoring.
func (p *Page) grant(g uint32, pid int) error {
	for {
		w := p.load(atWord)
		s, err := p.statusOf(w)
		switch {
		case err != nil && p.load(atWord) != w:
			continue
		case err != nil:
			return err
		case g == 0 || s.Generation > g:
			return fmt.Errorf("shmbridge: grant generation %d: generation %d: %w", g, s.Generation, ErrVoid)
		case s.Restoring:
			return fmt.Errorf("shmbridge: grant generation %d: %w (snapshot %d)", g, ErrRestoring, s.Snapshot)
		case s.Generation == g && s.State == Live:
			if pid != 0 && !s.Managed {
				p.store(record(g)+inPid, uint64(pid))
			}
			return p.flush()
		}
		p.prepare(g, pid, s)
		if p.swap(atWord, w, word(g, Live)) {
			return p.flush()
		}
	}
}

// prepare writes the record of a generation that is to get the lease after s.
func (p *Page) prepare(g uint32, pid int, s Status) {
	found := s.State
	if found == Live {
		found = Unsaved // its writer loses the lease without having saved
	}
	at := record(g)
	p.store(at+inGeneration, uint64(g))
	p.store(at+inPid, uint64(pid))
	p.store(at+inFound, uint64(found))
	p.store(at+inTaken, 0)
	p.store(at+inSaves, 0)
	p.store(at+inTime, 0)
	p.store(at+inChecksum, 0)
	p.store(at+inSchema, s.Schema)
}

// take is a guest's own move: it takes the lease that was granted to it, or one that nobody writes under. Errors match
// ErrBusy (an older generation is live: wait, or be granted), ErrVoid and ErrRestoring.
func (p *Page) take(g uint32, pid int, schema uint64) error {
	for {
		w := p.load(atWord)
		s, err := p.statusOf(w)
		switch {
		case err != nil && p.load(atWord) != w:
			continue
		case err != nil:
			return err
		case g == 0 || s.Generation > g:
			return p.void("take", g)
		case s.Restoring:
			return fmt.Errorf("shmbridge: take as generation %d: %w (snapshot %d)", g, ErrRestoring, s.Snapshot)
		case s.Generation < g && s.State == Live:
			return fmt.Errorf("shmbridge: take as generation %d: generation %d: %w", g, s.Generation, ErrBusy)
		case s.Generation == g && p.load(record(g)+inTaken)&takenOver != 0:
			return p.void("take", g)
		case s.Generation < g || s.State != Live:
			if s.Generation < g || s.State != Saved || !s.Managed { // else it goes on after its own save
				p.prepare(g, pid, s)
			}
			if !p.swap(atWord, w, word(g, Live)) {
				continue
			}
		}
		at := record(g)
		p.store(at+inPid, uint64(pid))
		if schema != 0 {
			p.store(at+inSchema, schema)
		}
		p.or(at+inTaken, takenYes)
		if err := p.holds("take", g); err != nil {
			return err
		}
		return p.flush()
	}
}

func (p *Page) void(what string, g uint32) error {
	now, state := unword(p.load(atWord))
	return fmt.Errorf("shmbridge: %s as generation %d: generation %d is %v: %w", what, g, now, state, ErrVoid)
}

// holds tells whether generation g holds the lease, saved or not, by an error that matches ErrVoid.
func (p *Page) holds(what string, g uint32) error {
	now, state := unword(p.load(atWord))
	if now != g || state != Live && state != Saved || p.load(record(g)+inTaken)&takenOver != 0 {
		return p.void(what, g)
	}
	return nil
}

// save marks the segment as saved by generation g. A lease that is void changes nothing that its successor reads.
func (p *Page) save(g uint32, checksum uint64, now time.Time) error {
	if err := p.holds("save", g); err != nil {
		return err
	}
	at := record(g)
	p.store(at+inTime, uint64(now.UnixNano()))
	p.store(at+inChecksum, checksum)
	p.add(at+inSaves, 1)
	if !p.swap(atWord, word(g, Live), word(g, Saved)) && p.load(atWord) != word(g, Saved) {
		return p.void("save", g)
	}
	p.add(atSaves, 1)
	return p.flush()
}

// declare says in which schema the bytes of generation g are from now on.
func (p *Page) declare(g uint32, schema uint64) error {
	if err := p.holds("declare a schema", g); err != nil {
		return err
	}
	p.store(record(g)+inSchema, schema)
	return nil
}

// resume lets generation g write again after it saved.
func (p *Page) resume(g uint32) error {
	if err := p.holds("resume", g); err != nil {
		return err
	}
	if !p.swap(atWord, word(g, Saved), word(g, Live)) && p.load(atWord) != word(g, Live) {
		return p.void("resume", g)
	}
	return p.flush()
}

// release gives the lease of generation g up: saved stays saved, live becomes unsaved.
func (p *Page) release(g uint32) error {
	if err := p.holds("release", g); err != nil {
		return err
	}
	p.or(record(g)+inTaken, takenOver)
	_ = p.swap(atWord, word(g, Live), word(g, Unsaved)) // else saved already, or void: nothing to give up
	return p.flush()
}

// end moves the word after generation g ended, and returns the state then. An older generation's end moves nothing.
func (p *Page) end(g uint32, how Exit) (State, error) {
	for {
		w := p.load(atWord)
		s, err := p.statusOf(w)
		switch {
		case err != nil && p.load(atWord) != w:
			continue
		case err != nil:
			return 0, err
		case s.Generation != g:
			return s.State, nil
		}
		p.or(record(g)+inTaken, takenOver)
		after := ended(s.State, s.Found, s.Managed, how)
		if p.swap(atWord, w, word(g, after)) {
			return after, p.flush()
		}
	}
}
