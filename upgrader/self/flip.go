package self

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
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
	b, err := l.receiveBundle()
	_ = l.conn.SetReadDeadline(time.Time{}) // as above
	if err != nil {
		l.close()
		return nil, err
	}
	return &Inheritance{Bundle: b, self: s, link: l}, nil
}

// Upgrade starts the program that the command line names now, hands it b, and
// waits until it is ready: then it waits for Heir.Release. With an error
// nothing of it runs but what it had started itself. When ctx ends the new
// program is killed, and there is no further upgrade.
func (s *Self) Upgrade(ctx context.Context, b Bundle) (*Heir, error) {
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
	go func() {
		f, err := frame{What: frameFailed}, l.sendBundle(b)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) { // else it ended before it had read all
				f.Why = "it could not be told everything: " + err.Error()
			}
			_ = l.conn.CloseWrite() // it has not to wait for the rest
		} else if f, err = l.receive(); err != nil {
			f = frame{What: frameFailed}
		}
		answer <- f
	}()
	err = s.flip(ctx)
	_ = l.conn.SetDeadline(time.Now().Add(answerTime)) // what it said is there already
	if err != nil {
		s.unlink()
		_ = l.conn.SetDeadline(time.Now().Add(answerTime / 50)) // as above, or nothing was said
	}
	f := <-answer
	_ = l.conn.SetDeadline(time.Time{}) // fails as the next use then does
	if err == nil && f.What == frameReady {
		return &Heir{Pid: f.Pid, link: l}, nil
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
	Pid  int
	link *link
}

// Release puts it in charge, with the state as it is now. An error says that
// it is gone.
func (h *Heir) Release(state json.RawMessage) error {
	defer h.link.close()
	if err := h.link.send(frame{What: frameYours, State: state}); err != nil {
		return fmt.Errorf("self: the new upgrader does not take over: %w", err)
	}
	return nil
}

// Refuse ends it instead.
func (h *Heir) Refuse() {
	h.link.close()
	if p, err := os.FindProcess(h.Pid); err == nil {
		_ = p.Kill() // our child: it may be gone already
	}
}

// Inheritance is what a new upgrader got.
type Inheritance struct {
	Bundle
	self *Self
	link *link
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

// Ready tells the old upgrader that this one can take over, and returns when
// it has let go: with the state as it left it, or nil if it died without a
// word. From then on this process is in charge. Descriptors that nobody asked
// for are closed.
func (i *Inheritance) Ready(ctx context.Context) (json.RawMessage, error) {
	defer i.link.close()
	if err := i.link.send(frame{What: frameReady, Pid: os.Getpid()}); err == nil {
		_ = i.self.upgrader.Ready() // an error: nobody is there to be told
	}
	f, err := i.link.receive()
	if err != nil || f.What != frameYours {
		// It died, or it kills us just now because we are late.
		if err := i.self.upgrader.WaitForParent(ctx); ctx.Err() != nil {
			return nil, fmt.Errorf("self: %w", errors.Join(err, ctx.Err()))
		}
		f = frame{}
	}
	i.Bundle.drop()
	return f.State, nil
}

// Failed tells the old upgrader why this one gives up. The process ends next.
// Of a nil Inheritance there is nobody to tell.
func (i *Inheritance) Failed(why string) {
	if i == nil {
		return
	}
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
