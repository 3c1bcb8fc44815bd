package winevents

import (
	"errors"
	"strconv"
	"testing"
	"time"
)

// What the protocol relies on, of the fake and, on Windows, of the real kernel.
func TestKernel(t *testing.T) {
	for name, k := range testKernels(t) {
		t.Run(name, func(t *testing.T) { testKernel(t, k) })
	}
}

func testKernel(t *testing.T, k kernel) {
	self, err := k.self()
	if err != nil || self.Pid <= 0 || self.Created.IsZero() || self.Executable == "" {
		t.Fatalf("self is %+v, %v", self, err)
	}
	name := func(t *testing.T) string { return clean(t.Name()) + "_" + strconv.Itoa(self.Pid) }
	create := func(t *testing.T, name string, want bool) event {
		t.Helper()
		e, existed, err := k.createEvent(name, nil)
		if err != nil || existed != want {
			t.Fatalf("create %q: existed %v, %v", name, existed, err)
		}
		return e
	}
	waits := func(t *testing.T, want int, timeout time.Duration, objects ...handle) {
		t.Helper()
		if i, err := k.wait(timeout, objects...); err != nil || i != want {
			t.Errorf("wait returned %d, %v; want %d", i, err, want)
		}
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}

	t.Run("events", func(t *testing.T) {
		for _, n := range []Namespace{Local, Global} {
			name := string(n) + name(t) + strconv.Itoa(len(n))
			a := create(t, name, false)
			b := create(t, name, true)
			waits(t, timedOut, 0, a)
			must(t, a.Set())
			must(t, a.Set())
			waits(t, 0, 0, b)
			waits(t, timedOut, 0, a)
			must(t, a.Set())
			must(t, b.Reset())
			waits(t, timedOut, time.Millisecond, a, b)
			// The signal dies with the last handle, not before.
			must(t, a.Set())
			must(t, a.Close())
			waits(t, 0, 0, b)
			must(t, b.Set())
			must(t, b.Close())
			c := create(t, name, false)
			waits(t, timedOut, 0, c)
			must(t, c.Close())
		}
	})
	t.Run("order", func(t *testing.T) {
		a, b := create(t, "", false), create(t, "", false)
		must(t, a.Set())
		must(t, b.Set())
		waits(t, 0, 0, a, b)
		waits(t, 1, 0, a, b)
		waits(t, timedOut, 0, a, b)
		must(t, errors.Join(a.Close(), b.Close()))
	})
	t.Run("wake", func(t *testing.T) {
		a := create(t, "", false)
		go func() { _ = a.Set() }()
		waits(t, 0, 30*time.Second, a)
		must(t, a.Close())
	})
	t.Run("lock", func(t *testing.T) {
		stop := create(t, "", false)
		release, err := k.acquire(name(t), nil, 0, stop)
		must(t, err)
		if _, err := k.acquire(name(t), nil, time.Millisecond, stop); !errors.Is(err, ErrBusy) {
			t.Errorf("a second owner: %v", err)
		}
		if _, _, err := k.createEvent(name(t), nil); !errors.Is(err, ErrOtherKind) {
			t.Errorf("an event of a mutex's name: %v", err)
		}
		must(t, stop.Set())
		if _, err := k.acquire(name(t), nil, forever, stop); !errors.Is(err, ErrBusy) {
			t.Errorf("stopped: %v", err)
		}
		must(t, release())
		release, err = k.acquire(name(t), nil, 0, stop)
		must(t, err)
		must(t, release())
		must(t, stop.Close())
		taken := create(t, name(t), false)
		stop = create(t, "", false)
		if _, err := k.acquire(name(t), nil, 0, stop); !errors.Is(err, ErrOtherKind) {
			t.Errorf("a mutex of an event's name: %v", err)
		}
		must(t, errors.Join(stop.Close(), taken.Close()))
	})
	t.Run("process", func(t *testing.T) {
		p, err := k.openProcess(self.Pid, toTerminate)
		if err != nil {
			t.Fatal(err)
		}
		if id, err := p.Identity(); err != nil || id != self {
			t.Errorf("opened %+v, %v; am %+v", id, err, self)
		}
		if sid, err := p.User(); err != nil || sid == "" {
			t.Errorf("user %q, %v", sid, err)
		}
		waits(t, timedOut, 0, p)
		must(t, p.Close())
		for _, pid := range []int{-1, 0, self.Pid + 1, 0x7ffffffc, 1 << 33} {
			if _, err := k.openProcess(pid, toWatch); !errors.Is(err, ErrNoProcess) {
				t.Errorf("process %d: %v", pid, err)
			}
		}
	})
}

// clean makes a test's name fit for an object: backslashes separate.
func clean(name string) string {
	b := []byte(name)
	for i, c := range b {
		if c == '/' || c == '\\' {
			b[i] = '_'
		}
	}
	return string(b)
}
