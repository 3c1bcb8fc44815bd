package shmbridge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// The environment by which a generation finds the segment.
const (
	EnvGeneration = "UPGRADER_GENERATION" // set by the engine, read here
	EnvFd         = "UPGRADER_SHM_FD"     // empty for a System V segment
	EnvPath       = "UPGRADER_SHM_PATH"   // what opens it otherwise; sysv:KEY,id=ID for a System V segment, section:NAME on Windows
	EnvSize       = "UPGRADER_SHM_SIZE"   // bytes, decimal
	EnvState      = "UPGRADER_SHM_STATE"  // fresh, saved or unsaved
	EnvBridge     = "UPGRADER_BRIDGE_FD"
	EnvBridgePath = "UPGRADER_BRIDGE_PATH" // section:NAME, where the page is not a descriptor but a section of Windows
)

// Bridge is a guest's side: the segment and its page, mapped. It is safe for concurrent use but for Close.
type Bridge struct {
	data       *mapping
	page       *mapping
	words      *Page
	generation uint32 // as the page counts
	found      State
}

// origin is what the environment says of a segment.
type origin struct {
	fd, bridge int    // fd: -1 for System V
	id         int    // System V, else -1
	section    string // of Windows; empty: none
	page       string // the section of its bridge page
	size       int64
	state      State
	generation uint32
}

// Attach maps the segment that the process's environment names. The descriptors stay open, for a process that is
// executed in the place of this one. Errors match ErrNotShared when there is none, ErrPage, ErrSize, ErrUnsupported.
func Attach() (*Bridge, error) { return AttachTo(os.Getenv) }

// AttachTo is Attach with the environment's variables as getenv gives them.
func AttachTo(getenv func(string) string) (*Bridge, error) {
	o, err := readEnviron(getenv)
	if err != nil {
		return nil, err
	}
	b := &Bridge{found: o.state}
	if o.page != "" {
		b.page, err = mapSection(o.page, PageSize)
	} else {
		b.page, err = mapDescriptor(o.bridge, PageSize)
	}
	if err != nil {
		return nil, fmt.Errorf("shmbridge: map the bridge page: %w", err)
	}
	fail := func(err error) (*Bridge, error) {
		_ = b.Close() // the error that is told is why
		return nil, err
	}
	if b.words, err = NewPage(b.page.bytes); err != nil {
		return fail(err)
	}
	b.words.flush = b.page.flush
	size, err := b.words.SegmentSize()
	if err == nil && size != o.size {
		err = fmt.Errorf("shmbridge: the page says %d bytes, the environment %d: %w", size, o.size, ErrSize)
	}
	if err != nil {
		return fail(err)
	}
	base, err := b.words.Base()
	if err != nil {
		return fail(err)
	}
	b.generation = base + o.generation
	switch {
	case o.section != "":
		b.data, err = mapSection(o.section, o.size)
	case o.fd >= 0:
		b.data, err = mapDescriptor(o.fd, o.size)
	default:
		b.data, err = mapSysV(o.id, o.size)
	}
	if err != nil {
		return fail(fmt.Errorf("shmbridge: map the segment: %w", err))
	}
	return b, nil
}

func readEnviron(getenv func(string) string) (origin, error) {
	o := origin{fd: -1, id: -1}
	if getenv(EnvBridge) == "" && getenv(EnvBridgePath) == "" {
		return o, fmt.Errorf("shmbridge: attach: %w", ErrNotShared)
	}
	var errs []error
	number := func(name, text string, limit int64) int64 {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > limit {
			errs = append(errs, fmt.Errorf("shmbridge: attach: %w: %s=%q", ErrSpec, name, text))
		}
		return n
	}
	if page, found := strings.CutPrefix(getenv(EnvBridgePath), "section:"); found {
		o.page = page
	} else {
		o.bridge = int(number(EnvBridge, getenv(EnvBridge), 1<<30))
	}
	o.size = number(EnvSize, getenv(EnvSize), min(maxSize, int64(^uint(0)>>1)))
	o.generation = uint32(number(EnvGeneration, getenv(EnvGeneration), 1<<32-1))
	for _, s := range []State{Fresh, Saved, Unsaved} {
		if getenv(EnvState) == s.String() {
			o.state = s
		}
	}
	if o.state == 0 || o.size == 0 || o.generation == 0 {
		errs = append(errs, fmt.Errorf("shmbridge: attach: %w: %s=%q, %s=%q, %s=%q", ErrSpec, EnvState, getenv(EnvState),
			EnvSize, getenv(EnvSize), EnvGeneration, getenv(EnvGeneration)))
	}
	if name, found := strings.CutPrefix(getenv(EnvPath), "section:"); found && o.page != "" {
		o.section = name
	} else if fd := getenv(EnvFd); fd != "" {
		o.fd = int(number(EnvFd, fd, 1<<30))
	} else if _, id, sysv := strings.Cut(getenv(EnvPath), ",id="); sysv {
		o.id = int(number(EnvPath, id, 1<<31-1))
	} else {
		errs = append(errs, fmt.Errorf("shmbridge: attach: %w: neither %s nor a System V %s", ErrSpec, EnvFd, EnvPath))
	}
	return o, errors.Join(errs...)
}

// Bytes is the segment's memory. Who holds no lease must not write it.
func (b *Bridge) Bytes() []byte { return b.data.bytes }

// Page is the bridge page.
func (b *Bridge) Page() *Page { return b.words }

// Found is what the segment was when this generation was given it: Fresh, Saved or Unsaved.
func (b *Bridge) Found() State { return b.found }

// Close unmaps the segment and the page. Slices of Bytes must not be used any more. It does not give the lease up.
func (b *Bridge) Close() error {
	var errs []error
	for _, m := range []*mapping{b.data, b.page} {
		if m != nil {
			errs = append(errs, m.unmap())
		}
	}
	b.data, b.page = nil, nil
	return errors.Join(errs...)
}

// Lease is the right to write the segment, until a later generation gets it.
type Lease struct {
	bridge *Bridge
}

// Take takes the lease for this generation, whose process writes bytes of the given schema number (0: not told). It
// waits while an older generation is live, until the upgrader grants the lease, that one has saved, or ctx is done. One
// process of a generation takes it. Errors match ErrVoid, ErrRestoring and ctx's.
func (b *Bridge) Take(ctx context.Context, schema uint64) (*Lease, error) {
	const first, longest = time.Millisecond, 50 * time.Millisecond
	timer := time.NewTimer(first)
	defer timer.Stop()
	for wait := first; ; wait = min(2*wait, longest) {
		err := b.words.guard(func() error { return b.words.take(b.generation, os.Getpid(), schema) })
		if err == nil {
			return &Lease{bridge: b}, nil
		}
		if !errors.Is(err, ErrBusy) {
			return nil, err
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

func (l *Lease) move(f func(p *Page, g uint32) error) error {
	p := l.bridge.words
	return p.guard(func() error { return f(p, l.bridge.generation) })
}

// Valid tells by an error that matches ErrVoid when the lease is void, so that no byte may be written any more.
func (l *Lease) Valid() error {
	return l.move(func(p *Page, g uint32) error { return p.holds("write", g) })
}

// Save marks the segment as consistent, to be called when nobody writes it any more; of a file, its bytes are on the
// disk first. The guest's own checksum (0: none) is kept with it. Saving again is allowed. Errors match ErrVoid.
func (l *Lease) Save(checksum uint64) error {
	if err := l.Valid(); err != nil {
		return err
	}
	if err := l.bridge.data.flush(); err != nil {
		return fmt.Errorf("shmbridge: save: write the segment: %w", err)
	}
	return l.move(func(p *Page, g uint32) error { return p.save(g, checksum, time.Now()) })
}

// SaveAs is Save of bytes that are now in another schema.
func (l *Lease) SaveAs(schema, checksum uint64) error {
	if err := l.move(func(p *Page, g uint32) error { return p.declare(g, schema) }); err != nil {
		return err
	}
	return l.Save(checksum)
}

// Resume lets the generation write again after it saved. Errors match ErrVoid.
func (l *Lease) Resume() error { return l.move((*Page).resume) }

// Release gives the lease up: what was saved stays saved, anything else becomes unsaved.
func (l *Lease) Release() error { return l.move((*Page).release) }
