package tail

// A releaser is the way in which this file's system takes back the start of a
// file that is being appended to. Which one it can do is found by trying.
type releaser int

const (
	collapse releaser = iota // the bytes leave the file, what follows moves to its start (ext4, XFS)
	punch                    // the bytes become a hole: the file looks long and takes no space
	truncate                 // the whole file is emptied, once all of it was forwarded: what is written in that very moment is lost
)

// block is what positions must be a multiple of to be given back; a multiple
// of the block sizes of the systems of today.
const block = 64 << 10

// giveBackLocked gives the disk what To has had, when it is worth it.
func (t *Tail) giveBackLocked() {
	n := (t.sent - t.given - 1) / block * block // collapse must not reach the end
	if n < t.step() {
		return
	}
	switch t.release {
	case collapse:
		// Nothing was punched yet, so given is base here.
		if collapseRange(t.file, n) == nil {
			t.base += n
			t.given = t.base
			return
		}
		t.release = punch
		fallthrough
	case punch:
		if punchHole(t.file, t.given-t.base, n) == nil {
			t.given += n
			return
		}
		t.release = truncate
		fallthrough
	case truncate:
		info, err := t.file.Stat()
		if err != nil || t.base+info.Size() != t.sent && t.sent-t.base < t.max {
			return // not now
		}
		if t.file.Truncate(0) == nil {
			t.skipped += t.base + info.Size() - t.sent
			t.seen = t.base + info.Size()
			t.sent, t.base, t.given = t.seen, t.seen, t.seen
		}
	}
}
