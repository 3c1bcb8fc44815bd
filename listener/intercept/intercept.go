package intercept

import (
	"net/netip"
	"os"

	"github.com/upgrader/upgrader/listener"
)

// ErrPass, returned by a Handler, leaves the call to the kernel.
var ErrPass = listener.ErrPass

// Request is one call of a guest's. The thread that made it waits.
type Request struct {
	Pid   int    // of the thread (a TID), in our pid namespace
	Tgid  int    // of its process
	Fd    int    // the descriptor that it named
	Inode uint64 // of the socket behind Fd: at Bind the guest's own, at Listen the lane
	// Socket is what the guest binds; zero at Listen.
	Socket listener.Socket
}

// Injection is what a guest gets in place of its socket.
type Injection struct {
	// File is a duplicate of the lane. The Server takes it.
	File *os.File
	// Lost, if not nil, is called when the guest did not get the lane: it was
	// killed meanwhile, or a signal interrupted its call.
	Lost func()
}

// Handler decides what becomes of a guest's calls. Its methods are called from
// several goroutines, and may be slow: only the thread that asked waits, and
// those that bind the same port.
//
// An error that is, or wraps, a syscall.Errno is the guest's answer. ErrPass
// and every other error leave the call to the kernel.
type Handler interface {
	// Bind gives the lane for r.Socket.
	Bind(r Request) (Injection, error)
	// Listen makes the lane r.Inode, which Owns, listen.
	Listen(r Request) error
	// Owns tells whether inode is a lane, of Bind or inherited.
	Owns(inode uint64) bool
}

// Reach says by which calls a guest would reach shared memory that is handed
// to it. They are those that make memory of it, and those that write to files
// alone (pwrite(2), ftruncate(2), fallocate(2) and their like) on the numbers at
// which it was handed. write(2) is none of them, for its number may be a
// connection's later; nor is anything that does not name the memory (io_uring).
// They are notified for as long as the guest lives: its zero value adds none.
type Reach struct {
	SystemV   bool  // by shmat(2)
	Mapped    bool  // by mmap(2), MAP_SHARED, of any descriptor: it can be opened by a name
	Numbers   []int // by mmap(2), MAP_SHARED, of these descriptors
	WritesToo bool  // by calls that write to a file, on these descriptors
}

// Outcome is what became of a call.
type Outcome string

// The outcomes of an Event.
const (
	Injected Outcome = "injected" // bind: the guest has a lane
	Listened Outcome = "listened" // listen: on a lane, by us
	Refused  Outcome = "refused"  // Err was the answer
	Ignored  Outcome = "ignored"  // setsockopt: the guest's own steering program was left out
	Passed   Outcome = "passed"   // the kernel did it; Err says why we did not
	Gone     Outcome = "gone"     // the guest did not wait for the answer
)

// Event tells what became of one bind or listen, or of an option that was
// ignored.
type Event struct {
	Call      string // "bind", "listen", "setsockopt", or "seccomp": the guest asks for a listener of its own, and will not get it
	Outcome   Outcome
	Pid, Tgid int
	Fd        int
	Addr      netip.AddrPort // of a bind, where it is one of ours
	Rewatched int            // epoll registrations that were made again
	Err       error          // see Outcome; with Injected: what could not be carried over
}

// Server answers the guests of one generation. Handler must be set where binds
// are notified.
type Server struct {
	Handler Handler
	// Reach is called for each call by which a guest may reach shared memory,
	// in a goroutine of its own, and returns when it may: nil leaves the call to the
	// kernel, an error that is, or wraps, a syscall.Errno is the guest's answer.
	// nil: it may at once.
	Reach func() error
	// Observe is told what happened, from several goroutines. nil: nobody.
	Observe func(Event)
	// NoPidfdGetfd treats the guest's descriptors as if pidfd_getfd(2) were
	// forbidden (it goes with FilterOptions.Learn). Without it, it is tried for each call.
	NoPidfdGetfd bool
	// Concurrency is how many calls are handled at a time; more wait in the
	// kernel. 0: 32.
	Concurrency int
}

// Check is one thing that takeover needs or can use, for people to read.
type Check struct {
	Name        string
	OK          bool
	Required    bool   // without it nothing is taken over
	Consequence string // of its being there or missing, in plain words
	Err         error  // why it is missing
}
