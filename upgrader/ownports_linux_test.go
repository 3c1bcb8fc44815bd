package upgrader

import (
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/ready"
)

// freeAddress is one of loopback that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// bindsItself is a service whose server binds an address by itself, and says that it has saved when it is asked to
// quit, but lingers until it is told to TERM.
func bindsItself(t *testing.T, plan string) Config {
	c := testConfig(t, plan)
	c.Strategy = Exclusive
	c.Stderr = StderrTail
	c.Ready = ready.Spec{Kind: ready.Auto}
	c.ReadyTimeout = patience
	c.Quit = confirming{}
	return c
}

// bound waits until the first generation, which counts as ready after a second, has bound its address.
func (r *running) bound(address string) {
	r.t.Helper()
	r.event(EventReady, 1)
	eventually(r.t, "bound", func() bool {
		all, err := listener.AllListening()
		return err == nil && slices.ContainsFunc(all, func(l listener.Listening) bool { return l.Addr.String() == address })
	})
}

func (r *running) terminate(g int) {
	r.t.Helper()
	if err := r.first(g).Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
}

// A predecessor that lingers keeps its port: the start of its successor fails, and is made again when the port is
// free. The swap is committed, and it is known for how long nobody listened.
func TestStartThatIsBlocked(t *testing.T) {
	c := bindsItself(t, "")
	address := freeAddress(t)
	setPlan(t, c, "bind="+address+" stay")
	r := runService(t, c)
	r.bound(address)
	reply := r.swap()
	r.event(EventConfirmed, 1)
	r.event(EventRetry, 2)
	r.terminate(1)
	v := r.verdict(reply, control.Committed)
	if v.From != 1 || v.To != 3 || v.Gap <= 0 {
		t.Errorf("from %d to %d, gap %v", v.From, v.To, v.Gap)
	}
	r.s.Stop()
	r.end()
}

// What fails for another reason is not tried again; what serves again then may be blocked, too.
func TestStartThatFailsBesideALingeringPredecessor(t *testing.T) {
	c := bindsItself(t, "")
	address := freeAddress(t)
	setPlan(t, c, "bind="+address+" stay")
	r := runService(t, c)
	r.bound(address)
	setPlan(t, c, "exit=6")
	reply := r.swap()
	r.event(EventRetry, 2) // it is not known why it failed
	r.terminate(1)
	v := r.verdict(reply, control.RolledBack)
	if v.To != 3 || v.Exit == nil || v.Exit.Code != 6 {
		t.Errorf("%+v", v)
	}
	r.event(EventReady, 4)
	r.s.Stop()
	r.end()
}

// Without memory that is shared the successor may be started at once; with it, only when the ports are free.
func TestPortsAreAwaitedWithSharedMemory(t *testing.T) {
	c := bindsItself(t, "")
	address := freeAddress(t)
	setPlan(t, c, "bind="+address+" stay")
	r := runService(t, c)
	r.bound(address)
	if err := r.s.ask(t.Context(), func() { r.s.config.Memory = &Memory{} }); err != nil {
		t.Fatal(err)
	}
	reply := r.swap()
	r.event(EventConfirmed, 1)
	r.terminate(1)
	if v := r.verdict(reply, control.Committed); v.To != 2 {
		t.Errorf("generation %d: one was started too early\n%s", v.To, r.told())
	}
	r.s.Stop()
	r.end()
}

func TestOwnPorts(t *testing.T) {
	at := func(port uint16, inode uint64) listener.Listening {
		return listener.Listening{Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Inode: inode}
	}
	began := time.Now()
	after := func(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }
	ours := func(l listener.Listening) (bool, bool) { return l.Inode >= 10 && l.Inode < 20, true }
	p := &ownPorts{left: map[listener.Listening]bool{at(1, 1): true, at(2, 2): true}, ports: map[uint16]bool{1: true, 2: true}, freed: make(chan struct{})}
	steps := []struct {
		all         []listener.Listening
		gap         int // ms, when asked 5 ms later
		held        bool
		one, any, b bool // port 1, any port, port 2 are ours
	}{
		{all: []listener.Listening{at(1, 1), at(2, 2)}, held: true},
		{all: []listener.Listening{at(2, 2), at(7, 10)}, held: true, gap: 5},
		{all: []listener.Listening{at(1, 10), at(2, 2)}, held: true, gap: 15, one: true, any: true},
		{all: []listener.Listening{at(1, 10), at(2, 2), at(2, 11)}, held: true, gap: 20, one: true, any: true},
		{all: []listener.Listening{at(1, 30), at(2, 11)}, gap: 20, any: true, b: true},
		{all: []listener.Listening{at(2, 11)}, gap: 45, any: true, b: true},
		{all: []listener.Listening{at(1, 12), at(2, 11)}, gap: 50, one: true, any: true, b: true},
		{all: []listener.Listening{at(1, 12), at(2, 11)}, gap: 50, one: true, any: true, b: true},
	}
	for i, s := range steps {
		p.seen(s.all, after(10*i))
		slices.Reverse(s.all) // the order does not matter
		if got := p.gap(after(10*i + 5)); got != time.Duration(s.gap)*time.Millisecond {
			t.Errorf("step %d: gap %v, want %d ms", i, got, s.gap)
		}
		if got := p.heldSince(after(10 * i)); got != s.held {
			t.Errorf("step %d: held since then: %v", i, got)
		}
		if one, any, b := p.takenBy(s.all, ours, 1), p.takenBy(s.all, ours, 0), p.takenBy(s.all, ours, 2); one != s.one || any != s.any || b != s.b {
			t.Errorf("step %d: taken: %v %v %v", i, one, any, b)
		}
	}
	if !p.heldSince(after(39)) || p.heldSince(after(41)) {
		t.Error("it was free from the fifth step on")
	}
}

func TestSaysInUse(t *testing.T) {
	for line, want := range map[string]bool{
		"listen tcp 127.0.0.1:80: bind: address already in use": true,
		"bind(): Address already in use":                        true,
		"listen tcp 127.0.0.1:80: bind: Only one usage of each socket address (protocol/network address/port) is normally permitted.": true,
		"bind failed with error 10048":  true,
		"cannot read the configuration": false,
	} {
		if got := saysInUse(line); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}
