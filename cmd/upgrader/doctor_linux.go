package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/intercept"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/process"
)

// A finding is one thing that was tried.
type finding struct {
	name    string
	err     error // nil: it works
	needed  bool
	follows string // of its working, or of its missing
}

// examine tries everything and prints what was found.
func examine(out io.Writer) error {
	found := []finding{steering(), diagnosis(), subreaping(), cgroup(), ptraceScope(), descriptors()}
	found = append(found, takeover()...)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	missing := 0
	for _, f := range found {
		mark := "ok"
		switch {
		case f.err != nil && f.needed:
			mark = "MISSING"
			missing++
		case f.err != nil:
			mark = "no"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", mark, f.name, f.follows)
		if f.err != nil {
			fmt.Fprintf(w, "\t\t(%s)\n", oneLine(f.err.Error()))
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if missing > 0 {
		return &exit{1, nil}
	}
	return nil
}

// either chooses what follows.
func either(err error, works, fails string) string {
	if err == nil {
		return works
	}
	return fails
}

// steering tries two lanes on one claim, as a swap does.
func steering() finding {
	err := func() error {
		set := listener.NewSet(listener.Config{})
		defer set.Close()
		a, err := listener.ParseAddress("127.0.0.1:0")
		if err != nil {
			return err
		}
		c, err := set.Claim(context.Background(), a)
		if err != nil {
			return err
		}
		for gen := 1; gen <= 2; gen++ {
			if _, err := set.Lane(c, gen); err != nil {
				return err
			}
			if err := set.Steer(gen); err != nil {
				return err
			}
		}
		return nil
	}()
	return finding{"steering (SO_REUSEPORT, classic BPF)", err, true, either(err,
		"New connections go to one generation at a time: swaps lose none.",
		"Lanes do not work here: nothing can be swapped without loss.")}
}

// diagnosis asks the kernel about sockets, as settling does.
func diagnosis() finding {
	err := listener.CanDiagnose()
	return finding{"sock_diag", err, false, either(err,
		"A predecessor is told to quit only when no request is in flight.",
		"Requests in flight cannot be seen: only the accept queue is waited for; raise --settle.")}
}

func subreaping() finding {
	err := process.Subreaper()
	return finding{"subreaper", err, false, either(err,
		"Servers that daemonise are followed and reaped.",
		"A server that daemonises escapes: run it in the foreground.")}
}

func cgroup() finding {
	dir, err := process.NewCgroup(fmt.Sprintf("upgrader-doctor-%d", os.Getpid()))
	if err == nil {
		err = process.RemoveCgroup(dir)
	}
	return finding{"cgroup of its own", err, false, either(err,
		"A cgroup could be made for each generation; descendants are tracked in any case.",
		"The processes of a generation are found as descendants.")}
}

func ptraceScope() finding {
	b, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	scope := strings.TrimSpace(string(b))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return finding{"yama", nil, false, "Not there: it restricts nothing."}
	case err != nil:
		return finding{"yama", err, false, "Whether it restricts is not known."}
	case scope == "0" || scope == "1":
		return finding{"yama (ptrace_scope " + scope + ")", nil, false, "The sockets of our own descendants can be looked at."}
	default:
		return finding{"yama (ptrace_scope " + scope + ")", errors.New("restricted"), false, "The sockets of servers cannot be looked at without privilege: what pidfd_getfd is for is missing."}
	}
}

func descriptors() finding {
	var l unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	if err == nil && l.Max < 1024 {
		err = fmt.Errorf("the hard limit is %d", l.Max)
	}
	return finding{fmt.Sprintf("open files (hard limit %d)", l.Max), err, false, either(err,
		"Enough for lanes; the server has its own limit.",
		"Rescuing many late clients at once may run out of descriptors.")}
}

// takeover asks what interception may do to a child of ours.
func takeover() []finding {
	pid := 0
	if shim, err := launch.New(context.Background(), launch.Order{}); err == nil {
		defer shim.Discard()
		pid = shim.Pid()
	}
	var found []finding
	for _, c := range intercept.Probe(pid) {
		var err error
		if !c.OK {
			if err = c.Err; err == nil {
				err = errors.New("it does not work")
			}
		}
		found = append(found, finding{c.Name, err, false, c.Consequence})
	}
	return found
}
