package self

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/cloudflare/tableflip"
)

const (
	// Sentinel is the variable by which tableflip knows its child. It is
	// taken out of the environment before anything else is started.
	Sentinel = "TABLEFLIP_HAS_PARENT_7DIU3"
	// succeeds tells a new upgrader the pid of the old one, so that the
	// sentinel of another program's tableflip is not taken for ours.
	succeeds = "UPGRADER_SUCCEEDS"

	linkName = "link"
	// answerTime is how long a frame may take that was sent already.
	answerTime = 5 * time.Second
	// bundleTime is how long the old upgrader may take to send a bundle.
	bundleTime = 30 * time.Second
)

// ErrUnsupported says that this system has no such thing; tableflip's own
// answer is wrapped beside it.
var ErrUnsupported = errors.New("self-upgrade is not supported on this system")

// Self is this process as one that can be replaced. There is one in a process.
type Self struct {
	upgrader  *tableflip.Upgrader
	inherited *Inheritance
	share     *share // of a self-upgrade of several services; nil: it is the whole
}

// Succeeds tells whether an upgrader started this process as its successor.
func Succeeds() bool {
	return os.Getenv(Sentinel) != "" && os.Getenv(succeeds) == strconv.Itoa(os.Getppid())
}

// New is called once, before anything is started. late is how long a new
// upgrader may take to be ready. ErrUnsupported where there is no self-upgrade.
func New(late time.Duration) (*Self, error) {
	if !Succeeds() {
		_ = os.Unsetenv(Sentinel) // of a program above us: an error is for names that cannot be
	}
	u, err := tableflip.New(tableflip.Options{UpgradeTimeout: late})
	_, _ = os.Unsetenv(Sentinel), os.Unsetenv(succeeds) // as above
	switch {
	case errors.Is(err, tableflip.ErrNotSupported):
		return nil, fmt.Errorf("self: %w (%w)", ErrUnsupported, err)
	case err != nil:
		return nil, fmt.Errorf("self: %w", err)
	}
	s := &Self{upgrader: u}
	if !u.HasParent() {
		return s, u.Ready()
	}
	if s.inherited, err = s.inherit(); err != nil {
		return nil, fmt.Errorf("self: inherit from the old upgrader: %w", err)
	}
	return s, nil
}

// Inherited is what the old upgrader handed over; nil when this is the first
// one.
func (s *Self) Inherited() *Inheritance {
	if s == nil {
		return nil
	}
	return s.inherited
}

// inherit receives the bundle.
func (s *Self) inherit() (*Inheritance, error) {
	f, err := s.upgrader.File(linkName)
	if err == nil && f == nil {
		err = errors.New("it handed nothing over")
	}
	if err != nil {
		return nil, err
	}
	l, err := newLink(f)
	if err != nil {
		return nil, err
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(bundleTime)) // fails as the read then does
	b, version, err := l.receiveBundle()
	_ = l.conn.SetReadDeadline(time.Time{}) // as above
	if err != nil {
		l.close()
		return nil, err
	}
	return &Inheritance{Bundle: b, way: &linked{self: s, link: l, version: version}}, nil
}

// Upgrade starts the program that the command line names now, hands it b, and
// when it is ready has pass send it parcels: then it waits for Heir.Release.
// With an error nothing of it runs but what it had started itself, and the
// parcels are the caller's as before. When ctx ends the new program is killed,
// and there is no further upgrade.
func (s *Self) Upgrade(ctx context.Context, b Bundle, pass func(send Send) error) (*Heir, error) {
	if s.share != nil {
		return s.share.upgrade(ctx, b, pass)
	}
	return s.upgrade(ctx, b, func(send sendOf) error {
		return pass(func(p Parcel) error { return send("", p) })
	})
}

// Send sends a parcel, and returns when it was taken.
type Send func(Parcel) error

// sendOf is Send for one share.
type sendOf func(of string, p Parcel) error

func (s *Self) upgrade(ctx context.Context, b Bundle, pass func(sendOf) error) (*Heir, error) {
	ours, theirs, err := newPair()
	if err != nil {
		return nil, fmt.Errorf("self: %w", err)
	}
	err = s.upgrader.AddFile(linkName, theirs)
	_ = theirs.Close() // it was duplicated
	if err != nil {
		_ = ours.Close() // it was not used
		return nil, fmt.Errorf("self: %w", err)
	}
	l, err := newLink(ours)
	if err != nil {
		return nil, fmt.Errorf("self: %w", err)
	}
	answer := make(chan frame, 1)
	go func() { answer <- l.converse(b, pass) }()
	err = s.flip(ctx)
	_ = l.conn.SetDeadline(time.Now().Add(answerTime)) // what it said is there already
	if err != nil {
		s.unlink()
		_ = l.conn.SetDeadline(time.Now().Add(answerTime / 50)) // as above, or nothing was said
	}
	f := <-answer
	_ = l.conn.SetDeadline(time.Time{}) // fails as the next use then does
	if err == nil && f.What == frameReady {
		heir := &released{link: l}
		heir.process, _ = os.FindProcess(f.Pid) // by a pidfd: it is our child, and alive
		return &Heir{Pid: f.Pid, way: heir}, nil
	}
	l.close()
	switch {
	case err == nil:
		err = errors.New("the new upgrader was ready and did not say as what")
	case f.Why != "":
		err = fmt.Errorf("the new upgrader gave up: %s", f.Why)
	}
	return nil, fmt.Errorf("self: %w", err)
}

// converse tells a new upgrader everything, and gives its last word: that it
// is ready and has all, or why not.
func (l *link) converse(b Bundle, pass func(sendOf) error) frame {
	failed := frame{What: frameFailed}
	if err := l.sendBundle(b); err != nil {
		if !errors.Is(err, os.ErrDeadlineExceeded) { // else it ended before it had read all
			failed.Why = "it could not be told everything: " + err.Error()
		}
		_ = l.conn.CloseWrite() // it has not to wait for the rest
		return failed
	}
	f, err := l.receive()
	if err != nil {
		return failed
	}
	if f.What != frameReady || f.Version < linkVersion {
		return f
	}
	if err := pass(l.sendParcel); err != nil {
		failed.Why = err.Error()
		_ = l.send(failed) // it may be gone
		return failed
	}
	if err := l.send(frame{What: frameGo}); err != nil {
		return failed
	}
	return f
}

// errParent is tableflip's answer while the upgrader before us runs: it may
// take a moment to notice what WaitForParent knows already.
const errParent = "parent hasn't exited"

// flip has tableflip upgrade, once our own parent is gone.
func (s *Self) flip(ctx context.Context) error {
	if err := s.upgrader.WaitForParent(ctx); ctx.Err() != nil {
		return fmt.Errorf("the upgrader before this one still runs: %w", errors.Join(err, ctx.Err()))
	}
	defer context.AfterFunc(ctx, s.upgrader.Stop)()
	if err := os.Setenv(succeeds, strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	defer func() { _ = os.Unsetenv(succeeds) }() // of our own making
	for {
		err := s.upgrader.Upgrade()
		if err == nil || err.Error() != errParent || ctx.Err() != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// unlink puts something harmless in the place of the link: Fds keeps what it
// was given.
func (s *Self) unlink() {
	if null, err := os.Open(os.DevNull); err == nil {
		_ = s.upgrader.AddFile(linkName, null) // then the link is kept until the next upgrade
		_ = null.Close()
	}
}

// Heir is a new upgrader that is ready and not yet in charge.
type Heir struct {
	Pid int
	way interface {
		release(state json.RawMessage) error
		stop() error
	}
}

// Release puts it in charge, with the state as it is now. An error says that
// it is gone.
func (h *Heir) Release(state json.RawMessage) error { return h.way.release(state) }

// Stop tells it to stop, gracefully.
func (h *Heir) Stop() error { return h.way.stop() }

// released is an Heir at the other end of a link.
type released struct {
	link    *link
	process *os.Process // nil: it is not to be had
}

func (h *released) release(state json.RawMessage) error {
	defer h.link.close()
	if err := h.link.send(frame{What: frameYours, State: state}); err != nil {
		return fmt.Errorf("self: the new upgrader does not take over: %w", err)
	}
	return nil
}

func (h *released) stop() error {
	if h.process == nil {
		return os.ErrProcessDone
	}
	return h.process.Signal(syscall.SIGTERM)
}

// Inheritance is what a new upgrader got.
type Inheritance struct {
	Bundle
	way interface {
		ready(ctx context.Context, take func(of string, p Parcel) error) (json.RawMessage, error)
		failed(why string)
	}
}

// linked is an Inheritance that came over a link.
type linked struct {
	self    *Self
	link    *link
	version int // of the old upgrader's side
}

// File gives the descriptor of a name, nil when there is none. It is the
// caller's from then on.
func (i *Inheritance) File(name string) *os.File {
	if i == nil {
		return nil
	}
	for n, f := range i.Files {
		if f.Name == name && f.File != nil {
			i.Files[n].File = nil
			return f.File
		}
	}
	return nil
}

// Ready tells the old upgrader that this one can take over, has take take the
// parcels that come then, and returns when the old one has let go: with the
// state as it left it, or nil if it died without a word. From then on this
// process is in charge. Descriptors that nobody asked for are closed. An error:
// there is nothing to take over; the process ends next.
func (i *Inheritance) Ready(ctx context.Context, take func(Parcel) error) (json.RawMessage, error) {
	state, err := i.way.ready(ctx, func(_ string, p Parcel) error { return take(p) })
	i.drop()
	return state, err
}

func (i *linked) ready(ctx context.Context, take func(string, Parcel) error) (json.RawMessage, error) {
	defer i.link.close()
	err := i.link.send(frame{What: frameReady, Version: linkVersion, Pid: os.Getpid()})
	if err == nil && i.version < linkVersion {
		_ = i.self.upgrader.Ready() // an error: nobody is there to be told
	}
	for {
		f, err := i.link.receive()
		switch {
		case err != nil: // it died, or it kills us just now because we are late
			if err := i.self.upgrader.WaitForParent(ctx); ctx.Err() != nil {
				return nil, fmt.Errorf("self: %w", errors.Join(err, ctx.Err()))
			}
			_ = i.self.upgrader.Ready() // there is nobody to be told, only that others may come after us
			return nil, nil
		case f.What == frameParcel:
			if err := i.link.receiveParcel(f, take); err != nil {
				i.failed(err.Error())
				return nil, fmt.Errorf("self: %w", err)
			}
		case f.What == frameGo:
			_ = i.self.upgrader.Ready() // as above: the link tells
		case f.What == frameYours:
			return f.State, nil
		case f.What == frameFailed:
			return nil, fmt.Errorf("self: the old upgrader stays: %s", f.Why)
		default:
			return nil, fmt.Errorf("self: %q came from the old upgrader", f.What)
		}
	}
}

// Failed tells the old upgrader why this one gives up. The process ends next.
// Of a nil Inheritance there is nobody to tell.
func (i *Inheritance) Failed(why string) {
	if i == nil {
		return
	}
	i.way.failed(why)
}

func (i *linked) failed(why string) {
	_ = i.link.conn.SetWriteDeadline(time.Now().Add(answerTime)) // fails as the write then does
	_ = i.link.send(frame{What: frameFailed, Why: why})          // else the exit status is what is told
	i.link.close()
}

// drop closes what nobody asked for.
func (b *Bundle) drop() {
	for n, f := range b.Files {
		if f.File != nil {
			_ = f.File.Close() // nothing was written
			b.Files[n].File = nil
		}
	}
}
