package tail

import (
	"errors"
	"fmt"
	"os"
)

// forward writes to To what follow has seen, until follow has ended and all of
// it was written. A To that fails loses what it failed with, and is tried
// again with what comes next.
func (t *Tail) forward() {
	defer close(t.forwarded)
	buf := make([]byte, 32<<10)
	for {
		chunk, at, err := t.next(buf)
		if err != nil {
			return // closed under a To that was late
		}
		if len(chunk) == 0 {
			select {
			case <-t.wake:
				continue
			case <-t.followed:
			}
			if t.idle() {
				return
			}
			continue
		}
		_, err = t.to.Write(chunk)
		t.sentTo(at, err)
	}
}

// next gives what is to be written and the position up to which To then has
// everything. A notice of what was left out comes alone.
func (t *Tail) next(buf []byte) ([]byte, int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.skipped > 0 {
		notice := fmt.Appendf(nil, "\n[upgrader: %d bytes of stderr were left out]\n", t.skipped)
		t.skipped = 0
		return notice, t.sent, nil
	}
	if t.sent == t.seen {
		return nil, t.sent, nil
	}
	want := min(int64(len(buf)), t.seen-t.sent)
	n, err := t.file.ReadAt(buf[:want], t.sent-t.base)
	if errors.Is(err, os.ErrClosed) {
		return nil, t.sent, err
	}
	if n == 0 { // truncated under us: measure will see it
		t.sent = t.seen
	}
	return buf[:n], t.sent + int64(n), nil
}

// sentTo is told that To has everything up to at, unless more was left out in
// the meantime.
func (t *Tail) sentTo(at int64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil && t.toErr == nil {
		t.toErr = fmt.Errorf("tail: forward stderr: %w", err)
	}
	t.sent = max(t.sent, at)
	t.giveBackLocked()
}

// idle reports whether nothing is left to forward.
func (t *Tail) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent == t.seen && t.skipped == 0
}
