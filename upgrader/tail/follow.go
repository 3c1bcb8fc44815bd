package tail

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// breath is the shortest time between two looks at the file: a server that
// writes ten thousand lines a second costs us two hundred looks, not ten
// thousand.
const breath = 5 * time.Millisecond

// follow reads what is new whenever the file changes, until Close, and then
// once more.
func (t *Tail) follow() {
	defer close(t.followed)
	defer t.change.close()
	buf := make([]byte, 64<<10)
	for stopped := false; ; {
		if err := t.catchUp(buf); err != nil {
			t.mu.Lock()
			t.followEr = fmt.Errorf("tail: follow stderr: %w", err)
			t.mu.Unlock()
			return
		}
		if stopped {
			return
		}
		select {
		case <-t.stop:
			stopped = true
			continue
		case <-t.change.changed():
		}
		timer := time.NewTimer(breath)
		select {
		case <-t.stop:
			stopped = true
		case <-timer.C:
		}
		timer.Stop()
	}
}

// catchUp reads what was written until now.
func (t *Tail) catchUp(buf []byte) error {
	end, err := t.measure()
	for err == nil {
		var more bool
		if more, err = t.catchUpTo(end, buf); !more {
			break
		}
	}
	return err
}

// measure gives the position of the file's end. When the file is shorter than
// it was, somebody truncated it (a shell's `> /dev/stderr` does): it is read
// from its start again.
func (t *Tail) measure() (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, err := t.file.Stat()
	if err != nil {
		return 0, err
	}
	if t.base+info.Size() < t.seen {
		t.restartLocked()
	}
	return t.base + info.Size(), nil
}

// restartLocked makes the file's first byte the next one. What To had not had
// of the old bytes is gone.
func (t *Tail) restartLocked() {
	t.skipped += t.seen - t.sent
	t.sent = t.seen
	t.base, t.given = t.seen, t.seen
}

// catchUpTo reads once, and reports whether end was not reached.
func (t *Tail) catchUpTo(end int64, buf []byte) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if behind := end - t.seen; behind > t.backlog() {
		t.seen = end - t.backlog()/2
		t.lines.gap()
	}
	n, err := t.file.ReadAt(buf[:min(int64(len(buf)), max(0, end-t.seen))], t.seen-t.base)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if n > 0 {
		t.lines.add(buf[:n])
		t.seen += int64(n)
		t.boundLocked()
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	return n > 0 && t.seen < end, err
}

// backlog is how far To may be behind; the rest of max is for what has been
// forwarded and not been given back yet.
func (t *Tail) backlog() int64 { return t.max - t.step() }

// step is how many bytes are given back at a time.
func (t *Tail) step() int64 { return t.max / 4 }

// boundLocked leaves out what To is too far behind with, and gives back what
// it has had.
func (t *Tail) boundLocked() {
	if behind := t.seen - t.sent; behind > t.backlog() {
		skip := behind - t.backlog()/2
		t.skipped += skip
		t.sent += skip
	}
	t.giveBackLocked()
}
