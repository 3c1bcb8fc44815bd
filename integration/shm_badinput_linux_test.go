package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// limited is an upgrader that sees a file system of so many bytes at dir,
// which nobody else does.
func limited(t *testing.T, s *scratch, dir, size string) string {
	t.Helper()
	need(t, "unshare", "mount")
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a file system")
	}
	if _, _, code := run(t, runOptions{binary: "/usr/bin/unshare", dir: s.dir}, "-m", "true"); code != 0 {
		t.Skip("needs mount name spaces")
	}
	return s.write(t, "limited", fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'mount -t tmpfs -o size=%s tmpfs %s && exec %s \"$@\"' sh \"$@\"\n", size, dir, upgraderBinary()), 0o755)
}

// Segments that cannot be had: one line that says why, before any server is
// started, and nothing of what was there has changed.
func TestMemoryBadSegments(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes segments of other users")
	}
	s := newScratch(t, 0)
	const size = 8192
	name := fmt.Sprintf("upgrader-test-%d-%d", os.Getpid(), rand.Uint32())
	foreign := "/dev/shm/" + name
	if err := os.WriteFile(foreign, make([]byte, size), 0o666); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(foreign) }() // temporary
	if err := os.Chown(foreign, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	private := s.write(t, "private", strings.Repeat("x", size), 0o600)
	if err := os.Mkdir(s.path("small"), 0o755); err != nil {
		t.Fatal(err)
	}
	key := 0x76000000 | rand.IntN(1<<24)
	id, err := unix.SysvShmGet(key, size, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if err != nil {
		t.Fatal(err)
	}
	attached, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.SysvShmDetach(attached) }() // the kernel removes it
	if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, shm string
		user      int
		limited   bool
		text      string
	}{
		{name: "another size", shm: "file:" + private + ",size=4096", text: "another size"},
		{name: "another owner", shm: "posix:/" + name, text: "another owner"},
		{name: "no permission", shm: "file:" + private, user: nobody, text: "permission denied"},
		{name: "removal pending", shm: fmt.Sprintf("sysv:%#x,size=%d", key, size), text: "removed"},
		{name: "more than there is", shm: "posix:/" + name + "-large,size=60T", text: "not enough space"},
		{name: "a small file system", shm: "file:" + s.path("small/segment") + ",size=8M", limited: true, text: "not enough space"},
		{name: "no such folder", shm: "file:" + s.path("nowhere/segment") + ",size=8M", text: "no such file"},
		{name: "a folder", shm: "file:" + s.dir, text: "is a directory"},
		{name: "a bridge page", shm: "file:" + s.path("x.bridge") + ",size=8M", text: "bridge pages"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := runOptions{dir: s.dir, user: c.user}
			if c.limited {
				o.binary = limited(t, s, s.path("small"), "1M")
			}
			state := newScratch(t, c.user)
			_, stderr, code := run(t, o, "--state-dir", state.path("state"), "--shm", c.shm, "--", "/bin/false")
			if code != 111 && code != 100 || !strings.Contains(stderr, c.text) || strings.Count(strings.TrimSpace(stderr), "\n") != 0 {
				t.Errorf("exit status %d, want 100 or 111, and one line with %q: %s", code, c.text, stderr)
			}
		})
	}
	if info, err := os.Stat(foreign); err != nil || info.Size() != size {
		t.Errorf("%v, %v", info, err)
	}
	for _, left := range []string{foreign + ".bridge", foreign + "-large", foreign + "-large.bridge", private + ".bridge"} {
		if _, err := os.Stat(left); err == nil {
			t.Errorf("%s is left", left)
		}
	}
}

// A snapshot finds no room: the swap is refused, and the server goes on.
func TestMemoryFullDisk(t *testing.T) {
	s := newScratch(t, 0)
	if err := os.Mkdir(s.path("small"), 0o755); err != nil {
		t.Fatal(err)
	}
	a := address(t)
	s.ledger(t, "")
	u := start(t, options{
		scratch: s, command: []string{s.path("server")}, binary: limited(t, s, s.path("small"), "512k"),
		flags: []string{"--listen", a, "--settle", "5ms", "--shm", "memfd:full,size=1M", "--backup-dir", s.path("small/snapshots")},
	})
	u.awaitServing()
	before := commit(t, a, 5)
	if v := u.mustRollBack(); !strings.Contains(v.Reason, "not enough space") {
		t.Errorf("the reason is %q", v.Reason)
	}
	after := ledgerOf(t, a)
	if sameRecords(t, "no room", before, after); before.Pid != after.Pid {
		t.Errorf("pid %d served, now %d does", before.Pid, after.Pid)
	}
	if _, stderr, code := u.run2("snapshot", "create"); code == 0 || !strings.Contains(stderr, "not enough space") {
		t.Errorf("snapshot create exited %d: %s", code, stderr)
	}
	u.mustCleanShutdown()
}
