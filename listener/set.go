package listener

import (
	"context"
	"os"
	"time"
)

// Config is what a Set needs to know; its zero value is useful.
type Config struct {
	// RescueTime is how long the lanes of a generation that is gone are watched for clients that are
	// late. 0: 5 s.
	RescueTime time.Duration
	// Observe is told what happened, from any goroutine, never with a lock held. nil: nobody.
	Observe func(Event)
	// Held says whether a process of generation gen still has the socket with this inode open.
	// It is called without a lock. nil: always true.
	Held func(gen int, inode uint64) bool
	// Save is given the state that a change leads to, just before the change is made, so that it can be
	// written down. It is called with the set's lock held: it must not call the Set. nil: nothing is saved.
	Save func(State)
}

// EventKind says what an Event is about.
type EventKind string

// The kinds of an Event.
const (
	Steered    EventKind = "steered"    // new connections of Claim go to Generation
	Rescued    EventKind = "rescued"    // a client (or a datagram) that a gone generation left was relayed
	RescueLost EventKind = "lost"       // such a client could not be relayed: Err
	PutBack    EventKind = "put-back"   // a unix path that somebody had unlinked is there again
	Relistened EventKind = "relistened" // a guest had shut its lane down; it listens again
	Closed     EventKind = "closed"     // a lane of Generation is closed
	Failed     EventKind = "failed"     // something went wrong in the background: Err
)

// Event is one thing that happened.
type Event struct {
	Kind       EventKind
	Claim      *Claim
	Generation int
	Err        error
}

// SettleOptions say when a generation's lanes count as settled.
type SettleOptions struct {
	Quiet time.Duration // nothing waited and nothing was in flight for so long. 0: one look
	Max   time.Duration // no longer than this. 0: as long as the context lasts
	// Inodes are the socket inodes that the generation's processes have open. It is called once per
	// look, a few milliseconds apart. nil: only what waits to be accepted is looked at.
	Inodes func() (map[uint64]struct{}, error)
}

// Settled is how settling ended.
type Settled struct {
	Quiet  bool          // false: Max was reached first
	Waited time.Duration // how long it took
	Queued int           // lanes on which something still waited at the last look
	Busy   int           // connections with something in flight at the last look
}

// A Set is all the claims of a service. Its methods may be called from many goroutines.
type Set struct{ sys *system }

// NewSet returns a set without claims. Close ends it.
func NewSet(c Config) *Set {
	if c.RescueTime <= 0 {
		c.RescueTime = 5 * time.Second
	}
	if c.Observe == nil {
		c.Observe = func(Event) {}
	}
	if c.Held == nil {
		c.Held = func(int, uint64) bool { return true }
	}
	if c.Save == nil {
		c.Save = func(State) {}
	}
	return &Set{sys: newSystem(c)}
}

// Claim binds a, so that clients wait (and are not refused) from now to Close. An address that is
// held by somebody else is an *InUseError. The address of an adopted claim gives that claim again; a
// second claim of an address is an *InUseError too.
func (s *Set) Claim(ctx context.Context, a Address) (*Claim, error) { return s.sys.claim(ctx, a) }

// Lane gives generation gen a new listening lane on c. Nothing is sent to it before Steer, save
// on the first lane of a claim.
func (s *Set) Lane(c *Claim, gen int) (*Lane, error) { return s.sys.lane(c, gen) }

// Bind answers a guest's own bind(2): the lane that takes the place of the guest's socket. It is
// bound, and listens after Listen (a lane that was prepared listens already).
//
// ErrPass: let the kernel do it. A syscall.Errno (errors.As): the guest's answer.
// A second bind of an address by one generation gives another lane if the socket has SO_REUSEPORT,
// the same lane again if the generation has closed it meanwhile, else syscall.EADDRINUSE.
// A claim made by Claim serves every bind of its port that it overlaps, so that the lane's address and
// even its family may differ from what the guest asked for.
func (s *Set) Bind(gen int, sock Socket) (*Lane, error) { return s.sys.bind(gen, sock) }

// Listen answers a guest's own listen(2) on a lane of Bind; the queue is as deep as the system lets
// it be. Harmless for a lane that listens already.
func (s *Set) Listen(l *Lane) error { return s.sys.listen(l) }

// Prepare gives gen, on every claim, as many listening lanes as the serving generation has (or
// had: it may be dead), with the same options. Claims on which gen has lanes already are left alone.
func (s *Set) Prepare(gen int) error { return s.sys.prepare(gen) }

// Steer sends the new connections of every claim that has listening lanes of gen to those lanes.
// Claims without are left alone. ErrNoLane when there is not one.
func (s *Set) Steer(gen int) error { return s.sys.steer(gen) }

// Share sends percent (1 to 99) of the new connections of every TCP claim on which gen and the steered
// generation both have listening lanes to those of gen, chosen by chance, until the next Share or Steer.
// UDP and Unix claims stay as they are: datagrams of one client must not be torn apart, and a path
// leads to one socket. ErrNoLane when there is no claim to share; errors.ErrUnsupported off Linux.
func (s *Set) Share(gen, percent int) error { return s.sys.share(gen, percent) }

// Settle waits until nothing waits in the lanes of gen and nothing is in flight on its connections.
// The error is the context's, or that of the look itself; running into Max is no error.
func (s *Set) Settle(ctx context.Context, gen int, o SettleOptions) (Settled, error) {
	return s.sys.settle(ctx, gen, o)
}

// Load is what waits on a claim and what is in flight.
type Load struct {
	Queues   map[uint64]int // connections that nobody has accepted yet, by a lane's cookie; lanes of which that is not known are not in it
	InFlight int            // connections with a request under way, as it seems; -1: not known
}

// Load looks at a claim. What is in flight is known of TCP, queues of TCP and Unix streams.
func (s *Set) Load(c *Claim) (Load, error) { return s.sys.load(c) }

// Retire says that generation gen is gone. What lies in its lanes, or lands there late, is relayed to
// the claim's address. Lanes that are still steered to hold clients until another is steered to.
func (s *Set) Retire(gen int) { s.sys.retire(gen) }

// Abandon says that generation gen is gone and never was to serve: its lanes leave at once, what
// strayed into them is relayed. Lanes that are steered to are kept as by Retire.
func (s *Set) Abandon(gen int) { s.sys.abandon(gen) }

// Refuse makes every claim refuse its clients while its address stays bound. Clients that wait are
// reset. UDP cannot refuse. A Unix path is taken away.
func (s *Set) Refuse() error { return s.sys.refuse() }

// Accept ends Refuse.
func (s *Set) Accept() error { return s.sys.accept() }

// Relisten makes the queues of gen's lanes as deep as they were before the guest's own listen(2).
func (s *Set) Relisten(gen int) error { return s.sys.relisten(gen) }

// Lanes are the lanes of gen, in the order in which they were made.
func (s *Set) Lanes(gen int) []*Lane { return s.sys.lanes(gen) }

// Claims are all claims, in the order in which they were made.
func (s *Set) Claims() []*Claim { return s.sys.claims() }

// Release gives a claim up that came of a guest's own bind: for one that the serving generation
// no longer binds. It is an error for a claim that was made by Claim, or that still has lanes in use.
func (s *Set) Release(c *Claim) error { return s.sys.release(c) }

// State is what Adopt needs.
func (s *Set) State() State { return s.sys.state() }

// Adopt makes the claims of a State anew in an empty Set after the upgrader that wrote it was
// killed, and takes the lanes that live on in an orphaned generation, known from now on as gen. They are
// taken from the processes that pidfds refer to where that is permitted; else a lane of ours joins beside,
// and new connections go on to the orphan. A socket on an address that the state does not know is an
// *InUseError. The pidfds stay the caller's.
func (s *Set) Adopt(st State, gen int, pidfds ...*os.File) error {
	return s.sys.adopt(st, gen, pidfds)
}

// Take makes claims of the addresses that processes serve on which nobody here started, in an empty Set:
// their sockets are taken by pidfd_getfd(2), which needs what ptrace needs, and are lanes of gen that new
// connections go on to. TCP, UDP and Unix stream sockets with a path. ErrNoLane when they serve on none.
// After an error the caller calls Detach: the sockets go on as before. The pidfds stay the caller's.
func (s *Set) Take(gen int, pidfds ...*os.File) error { return s.sys.take(gen, pidfds) }

// AdoptFiles is Adopt for an upgrader that was handed all of its predecessor's lanes: each lane of the
// state is found among the files by its cookie, and keeps its generation. The files stay the caller's.
// The predecessor calls Detach, not Close.
func (s *Set) AdoptFiles(st State, files []*os.File) error { return s.sys.adoptFiles(st, files) }

// Detach ends the set and leaves the sockets and paths as they are, for the process that they were
// handed to.
func (s *Set) Detach() error { return s.sys.detach() }

// Close gives all addresses up and joins everything that was started. Clients that wait are reset.
func (s *Set) Close() error { return s.sys.close() }
