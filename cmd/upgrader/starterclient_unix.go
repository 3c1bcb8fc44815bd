//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/state"
)

const (
	restartTries = 3                // attempts after which --restart calls it a failure
	restartMax   = 10 * time.Minute // for a manager that tells nothing but its status file
	restartLook  = 100 * time.Millisecond
)

// errNobody is what --stop and --restart answer when there is nobody to tell.
var errNobody = errors.New("no server process is running")

// owner opens a pid file and proves who holds it: that it is locked means that
// the process that wrote it lives.
func (s *starter) owner() (*os.File, process.Identity, error) {
	fail := func(err error) (*os.File, process.Identity, error) {
		return nil, process.Identity{}, &exit{2, err}
	}
	f, err := os.Open(s.pidFile)
	if err != nil {
		return fail(fmt.Errorf("failed to open file: %w", err))
	}
	line, _ := bufio.NewReader(io.LimitReader(f, 64)).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || pid <= 1 {
		_ = f.Close() // only read
		return fail(fmt.Errorf("%s: no pid in it", s.pidFile))
	}
	id, err := process.Of(pid)
	if err == nil && lockFree(f) && !discovered(pid) {
		err = process.ErrGone
	}
	if err != nil {
		_ = f.Close() // only read
		return fail(fmt.Errorf("%s names pid %d: %w", s.pidFile, pid, errNobody))
	}
	return f, id, nil
}

// lockFree tells whether nobody holds the lock of a file.
func lockFree(f *os.File) bool {
	if err := flock(f, unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return !errors.Is(err, unix.EWOULDBLOCK)
	}
	_ = flock(f, unix.LOCK_UN) // closing f does it too
	return true
}

func flock(f *os.File, how int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	err = raw.Control(func(fd uintptr) {
		for locked = unix.EINTR; locked == unix.EINTR; {
			locked = unix.Flock(int(fd), how)
		}
	})
	return errors.Join(err, locked)
}

// discovered finds the upgrader that has a pid.
func discovered(pid int) bool { return dirOf(pid) != "" }

func dirOf(pid int) string {
	all, err := state.Discover()
	if err != nil {
		return ""
	}
	for _, r := range all {
		if r.Pid == pid {
			return r.Dir
		}
	}
	return ""
}

// stop is --stop: it returns when the process is gone.
func (s *starter) stop() error {
	f, id, err := s.owner()
	if err != nil {
		return err
	}
	defer f.Close() // only read
	fmt.Fprintf(os.Stderr, "stop_server (pid:%d) stopping now (pid:%d)...\n", os.Getpid(), id.Pid)
	if err := id.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("failed to send SIGTERM to the server process: %w", err)
	}
	ctx, end := signal.NotifyContext(context.Background(), os.Interrupt)
	defer end()
	return id.Wait(ctx)
}

// restart is --restart: it returns when the new server serves alone, or when
// that failed.
func (s *starter) restart(out io.Writer) error {
	f, id, err := s.owner()
	if err != nil {
		return err
	}
	defer f.Close() // only read
	before, err := generations(s.statusFile)
	if err != nil {
		return &exit{2, err}
	}
	if len(before) == 0 {
		return &exit{2, errors.New("no active process found in the status file")}
	}
	ctx, end := signal.NotifyContext(context.Background(), os.Interrupt)
	defer end()
	last := slices.Max(before)
	if dir := dirOf(id.Pid); dir != "" {
		if client, err := control.Dial(ctx, dir); err == nil {
			return s.restartBy(ctx, client, id, last, out)
		}
	}
	if err := id.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("failed to send SIGHUP to the server process: %w", err)
	}
	ctx, end = context.WithTimeout(ctx, restartMax)
	defer end()
	return s.alone(ctx, id, last)
}

// restartBy asks a manager that gives verdicts. It goes on trying when the new
// server fails; after a few times that is called a failure here, too.
func (s *starter) restartBy(ctx context.Context, client *control.Client, id process.Identity, last int, out io.Writer) error {
	v, err := client.Restart(ctx, control.RestartOptions{})
	for tries := 1; err == nil && v.Verdict != control.Committed; tries++ {
		if rendered := control.RenderVerdict(out, v); rendered != nil {
			return rendered
		}
		if tries == restartTries || v.Swap == 0 {
			return &exit{control.ExitCode(v), errors.New("the new server seems to have failed to start; what served before goes on, and the start is tried again")}
		}
		v, err = nextVerdict(ctx, client, v.Swap)
	}
	if err == nil {
		err = s.alone(ctx, id, last)
	}
	if err != nil {
		return &exit{2, err}
	}
	if st, err := client.Status(ctx); err == nil {
		for _, now := range st.Verdicts {
			if now.Swap == v.Swap && now.Verdict != control.Committed { // it died on probation
				if err := control.RenderVerdict(out, now); err != nil {
					return err
				}
				return &exit{control.ExitCode(now), nil}
			}
		}
	}
	return nil
}

// nextVerdict waits for that of a swap behind one.
func nextVerdict(ctx context.Context, client *control.Client, swap int) (control.Verdict, error) {
	tick := time.NewTicker(restartLook)
	defer tick.Stop()
	for {
		st, err := client.Status(ctx)
		if err != nil {
			return control.Verdict{}, err
		}
		for _, v := range st.Verdicts {
			if v.Swap > swap {
				return v, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return control.Verdict{}, ctx.Err()
		}
	}
}

// alone waits until the status file names one generation only, behind last.
// Which number that has does not matter: starts that failed count too.
func (s *starter) alone(ctx context.Context, id process.Identity, last int) error {
	tick := time.NewTicker(restartLook)
	defer tick.Stop()
	for {
		now, err := generations(s.statusFile)
		if err == nil && len(now) == 1 && now[0] > last {
			return nil
		}
		if !id.Alive() {
			return &exit{2, fmt.Errorf("the server process (pid %d) is gone", id.Pid)}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return &exit{1, fmt.Errorf("the new server does not run alone yet: %w", ctx.Err())}
		}
	}
}

// generations are those that a status file names.
func generations(path string) ([]int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("failed to open file: %w", err)
	}
	var all []int
	for line := range strings.Lines(string(text)) {
		number, _, ok := strings.Cut(line, ":")
		if n, err := strconv.Atoi(number); ok && err == nil && n > 0 {
			all = append(all, n)
		}
	}
	return all, nil
}
