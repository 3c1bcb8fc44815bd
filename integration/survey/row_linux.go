package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/integration/lab"
)

// startRow runs one row in a child with namespaces of its own. The child is
// the init of its process namespace: whatever it started ends with it.
func startRow(ctx context.Context, o options, s server, way string) Row {
	bad := func(err error) Row { return Row{Server: s.name, Way: way, Error: err.Error()} }
	runtime.LockOSThread() // the end of the thread that forked would be taken for ours (prctl(2), PR_SET_PDEATHSIG)
	defer runtime.UnlockOSThread()
	c := lab.Command(ctx, unix.CLONE_NEWNET|unix.CLONE_NEWPID|unix.CLONE_NEWNS, "-row", s.name, "-way", way, "-bin", o.Bin, "-swaps", strconv.Itoa(o.Swaps),
		"-settle-max", o.SettleMax.String(), "-ready-timeout", o.ReadyTimeout.String(), fmt.Sprintf("-keep=%t", o.Keep), fmt.Sprintf("-pace=%g", o.Pace))
	c.SysProcAttr.Pdeathsig = syscall.SIGKILL
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, os.Stderr
	if err := c.Run(); err != nil {
		return bad(err)
	}
	var r Row
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		return bad(fmt.Errorf("%w: %.200s", err, &out))
	}
	return r
}

// runRow is the child: it prints its row as JSON.
func runRow(ctx context.Context, o options, name, way string) error {
	for _, s := range servers() {
		if s.name != name {
			continue
		}
		if err := lab.Settle(); err != nil {
			return err
		}
		r, err := localRow(ctx, o, s, way)
		if err != nil {
			r.Error = err.Error()
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	return fmt.Errorf("no such row: %s", name)
}

// localRow prepares a server on this machine and measures it.
func localRow(ctx context.Context, o options, s server, way string) (Row, error) {
	r := Row{Server: s.name, Way: way, Strategy: s.strategy, Signal: s.signal, Fallback: s.fallback}
	if missing := s.missing(); missing != "" {
		r.Skipped = "needs " + missing
		return r, nil
	}
	p, err := o.newPlace(way)
	if err != nil {
		return r, err
	}
	defer o.leave(p)
	command, err := s.prepare(ctx, p)
	if err != nil {
		return r, fmt.Errorf("prepare: %w", err)
	}
	r.Version = s.tells(ctx)
	h := &local{place: p, wrapper: s.wrapper}
	h.arguments = append(append(o.upgraderFlags(s, p), "--"), command...)
	r.Command = p.publish(h.arguments)
	defer h.close()
	if err := h.start(); err != nil {
		return r, err
	}
	err = measure(ctx, o, s, h, &r)
	if err != nil {
		err = fmt.Errorf("%w\nthe log ends:\n%s", err, lastBytes(h.log(), 6000))
	}
	if left := others(); len(left) > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("left behind: %v", left))
	}
	return r, err
}

// newPlace makes the folder of a row.
func (o options) newPlace(way string) (place, error) {
	p := place{bin: o.Bin, guest: filepath.Join(o.Bin, "guest")}
	if way != asRoot {
		p.uid = nobody
	}
	var err error
	if p.dir, err = os.MkdirTemp("/tmp", "sv"); err != nil {
		return p, err
	}
	if err = os.Chmod(p.dir, 0o755); err == nil {
		err = os.Chown(p.dir, p.uid, p.uid)
	}
	return p, err
}

// leave removes the folder of a row.
func (o options) leave(p place) {
	if !o.Keep {
		_ = os.RemoveAll(p.dir) // temporary: what is left is the system's to clean
	}
}

// upgraderFlags are those of a row.
func (o options) upgraderFlags(s server, p place) []string {
	var flags []string
	if s.strategy == exclusive {
		flags = append(flags, "--strategy", exclusive)
	}
	if s.signal != "TERM" {
		flags = append(flags, "--stop-signal", s.signal)
	}
	if s.flags != nil {
		flags = append(flags, s.flags(p)...)
	}
	if o.SettleMax != 0 {
		flags = append(flags, "--settle-max", o.SettleMax.String())
	}
	if o.ReadyTimeout != 0 {
		flags = append(flags, "--ready-timeout", o.ReadyTimeout.String())
	}
	return flags
}

// others gives the processes of this namespace that still run, by name.
func others() []string {
	var found []string
	folders, _ := filepath.Glob("/proc/[0-9]*") // the pattern is right
	for _, f := range folders {
		if f == "/proc/1" {
			continue
		}
		text, err := os.ReadFile(f + "/stat")
		if err != nil {
			continue // it ended meanwhile
		}
		open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
		if state := bytes.Fields(text[end+1:])[0]; state[0] != 'Z' {
			found = append(found, string(text[open+1:end]))
		}
	}
	return found
}

func lastBytes(s string, n int) string { return s[max(0, len(s)-n):] }
