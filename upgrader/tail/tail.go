package tail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Config says what Open makes.
type Config struct {
	Path  string        // where the file is; "": without a name, in the directory for temporary files
	To    io.Writer     // takes every byte; nil: nobody
	Max   int64         // bytes, about, that the file takes on disk; 0: 8 MiB
	Flush time.Duration // how long Close waits for To; 0: 2 s
}

const (
	defaultMax   = 8 << 20
	defaultFlush = 2 * time.Second
)

// ErrStuck is what Close answers when To did not take the rest in time.
var ErrStuck = errors.New("tail: the rest of stderr was not taken in time")

// Tail is the stderr of one generation. It is safe for concurrent use.
type Tail struct {
	path   string
	to     io.Writer
	max    int64
	flush  time.Duration
	guest  *os.File // O_APPEND, what the server gets
	file   *os.File // its reader, a description of its own; writable, to give space back
	change watcher

	stop      chan struct{} // closed by Close: follow once more to the end
	wake      chan struct{} // one slot: there is something to forward
	followed  chan struct{} // closed when follow has ended
	forwarded chan struct{} // closed when forward has ended
	once      sync.Once
	closed    error

	mu       sync.Mutex
	lines    lines
	base     int64 // position of the file's first byte
	given    int64 // position up to which space was given back
	seen     int64 // position up to which lines knows
	sent     int64 // position up to which To has it; never past seen
	skipped  int64 // bytes left out since To was last told
	release  releaser
	followEr error
	toErr    error
}

// New is Open with a Config of path and to.
func New(path string, to io.Writer) (*Tail, error) {
	return Open(Config{Path: path, To: to})
}

// Open makes the file (mode 0600; one that was left at Path is removed) and
// follows it until Close or Release.
func Open(c Config) (*Tail, error) {
	guest, err := create(&c)
	if err != nil {
		return nil, fmt.Errorf("tail: make the stderr file: %w", err)
	}
	file, err := os.OpenFile(guest.Name(), os.O_RDWR, 0)
	if err != nil {
		_ = guest.Close() // never written to
		_ = os.Remove(guest.Name())
		return nil, fmt.Errorf("tail: open the stderr file: %w", err)
	}
	if c.Path == "" && os.Remove(guest.Name()) != nil {
		c.Path = guest.Name() // not while it is open, says Windows: Close does it
	}
	return follow(c, guest, file, 0)
}

// Attach follows a file that another upgrader made and that a server may still
// write to, from offset (a value of Offset) on. From the end, with the last
// lines known, when offset is negative or past the end.
func Attach(c Config, offset int64) (*Tail, error) {
	guest, err := os.OpenFile(c.Path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, fmt.Errorf("tail: take over the stderr file: %w", err)
	}
	file, err := os.OpenFile(c.Path, os.O_RDWR, 0)
	if err != nil {
		_ = guest.Close() // never written to
		return nil, fmt.Errorf("tail: take over the stderr file: %w", err)
	}
	return follow(c, guest, file, offset)
}

// create opens a new file for appending.
func create(c *Config) (*os.File, error) {
	if c.Path == "" {
		f, err := os.CreateTemp("", "upgrader-stderr-*") // mode 0600
		if err != nil {
			return nil, err
		}
		defer f.Close()
		guest, err := os.OpenFile(f.Name(), os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			_ = os.Remove(f.Name())
		}
		return guest, err
	}
	if err := os.Remove(c.Path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(c.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
}

// follow takes both files.
func follow(c Config, guest, file *os.File, offset int64) (*Tail, error) {
	t := &Tail{
		path: c.Path, to: c.To, max: c.Max, flush: c.Flush, guest: guest, file: file,
		stop: make(chan struct{}), wake: make(chan struct{}, 1), followed: make(chan struct{}), forwarded: make(chan struct{}),
	}
	if t.to == nil {
		t.to = io.Discard
	}
	if t.max <= 0 {
		t.max = defaultMax
	}
	if t.flush <= 0 {
		t.flush = defaultFlush
	}
	if err := t.begin(offset); err != nil {
		_, _ = guest.Close(), file.Close() // nothing was written by us
		return nil, fmt.Errorf("tail: read the stderr file: %w", err)
	}
	t.change = watch(file)
	go t.follow()
	go t.forward()
	return t, nil
}

// begin sets the positions for a file that is read from offset on. What was
// forwarded long ago is still good for the last lines.
func (t *Tail) begin(offset int64) error {
	info, err := t.file.Stat()
	if err != nil {
		return err
	}
	if offset < 0 || offset > info.Size() {
		offset = info.Size()
	}
	buf := make([]byte, lineMax)
	for at := max(0, offset-linesKept*lineMax); at < offset; {
		n, err := t.file.ReadAt(buf[:min(lineMax, offset-at)], at)
		if n == 0 {
			return err
		}
		t.lines.add(bytes.TrimLeft(buf[:n], "\x00")) // what was given back reads as zeros
		at += int64(n)
	}
	t.seen, t.sent = offset, offset
	return nil
}

// File is what a server gets as its stderr. It stays ours.
func (t *Tail) File() *os.File { return t.guest }

// Path is where the file is; "" when it has no name.
func (t *Tail) Path() string { return t.path }

// Tail gives the last lines, n or as many as are known (at most 20), without
// line ends. Lines are cut at 4 KiB; what no terminal should get stands in
// them as \x1b and the like. It goes on to answer after Close.
func (t *Tail) Tail(n int) []string {
	_ = t.catchUp(make([]byte, 16<<10)) // what was written until now; a closed file was read to its end
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lines.last(n)
}

// Offset is where in the file the first byte is that To has not had.
func (t *Tail) Offset() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent - t.base
}

// Close forwards what was written until now, then closes and removes the file.
// A server that still has it can write on. ErrStuck when To took too long.
func (t *Tail) Close() error {
	t.once.Do(func() { t.end(true) })
	return t.closed
}

// Release is Close that leaves the file where it is, for Attach; Offset then
// says from where on.
func (t *Tail) Release() error {
	t.once.Do(func() { t.end(false) })
	return t.closed
}

func (t *Tail) end(remove bool) {
	close(t.stop)
	<-t.followed
	late := time.NewTimer(t.flush)
	defer late.Stop()
	select {
	case <-t.forwarded:
	case <-late.C:
		t.closed = ErrStuck // forward ends when its Write does
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = errors.Join(t.closed, t.followEr, t.toErr)
	_ = t.file.Close() // only read
	if err := t.guest.Close(); err != nil {
		t.closed = errors.Join(t.closed, err)
	}
	if remove && t.path != "" {
		if err := os.Remove(t.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.closed = errors.Join(t.closed, fmt.Errorf("tail: remove the stderr file: %w", err))
		}
	}
}
