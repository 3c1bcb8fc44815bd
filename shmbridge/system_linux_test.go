package shmbridge

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

func systemRoles() map[string]func([]string) error {
	return map[string]func([]string) error{
		"guest": guestRole, "upgrader": upgraderRole, "open": openRole, "small": smallRole, "restore": restoreRole, "attach": attachRole,
	}
}

// testSpec returns a specification of a segment that nothing else has, and removes what comes of it.
func testSpec(t testing.TB, kind Kind, size int64) Spec {
	t.Helper()
	var b [8]byte
	_, err := rand.Read(b[:])
	must(t, err)
	name := fmt.Sprintf("shmbridge-test-%d-%x", os.Getpid(), b)
	s := Spec{Kind: kind, Name: name, Size: size}
	switch kind {
	case Posix:
		path := filepath.Join("/dev/shm", name)
		t.Cleanup(func() { _, _ = os.Remove(path), os.Remove(path+sidecarSuffix) }) // mostly gone already
	case File:
		s.Name = filepath.Join(t.TempDir(), "world.dat")
	case SysV:
		s.Name, s.Key = "", binary.LittleEndian.Uint32(b[:])|1
		t.Cleanup(func() { removeKey(s.Key) })
	}
	return s
}

func removeKey(key uint32) {
	if id, err := unix.SysvShmGet(int(int32(key)), 0, 0); err == nil {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
		_ = os.Remove(filepath.Join("/dev/shm", sysvSidecar(key, id))) // if it was used
	}
}

func open(t testing.TB, spec Spec, c Config) *Segment {
	t.Helper()
	s, err := Open(spec, c)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() }) // often closed already
	return s
}

func kinds() []Kind { return []Kind{Memfd, Posix, SysV, File} }

// environ returns the environment of a generation whose files begin at descriptor 3.
func environ(t testing.TB, s *Segment, generation int) []string {
	t.Helper()
	numbers := []int{3, 4}[:len(s.Files())]
	env, err := s.Environ(numbers...)
	must(t, err)
	return append(env, EnvGeneration+"="+strconv.Itoa(generation))
}

// guestProgram starts some guest as a generation.
type guestProgram func(t *testing.T, s *Segment, generation int) *process

func goGuest(t *testing.T, s *Segment, generation int) *process {
	t.Helper()
	return role(t, "guest", environ(t, s, generation), nil, s.Files()...)
}

func counter(t testing.TB, s *Segment) uint64 {
	t.Helper()
	b, err := s.memory()
	must(t, err)
	return binary.LittleEndian.Uint64(b)
}

func stateIs(t testing.TB, s *Segment, generation uint32, want State) {
	t.Helper()
	now, err := s.State()
	must(t, err)
	if now.Generation != generation || now.State != want {
		t.Fatalf("generation %d is %v, want %d %v", now.Generation, now.State, generation, want)
	}
}

// upgraderRole opens the segment of its argument, leases it to generation 1 and waits for its end.
func upgraderRole(args []string) error {
	spec, err := ParseSpec(args[0])
	if err != nil {
		return err
	}
	s, err := Open(spec, Config{})
	if err != nil {
		return err
	}
	if err := s.Lease(1, os.Getpid()); err != nil {
		return err
	}
	fmt.Println("holds", s.Created())
	bufio.NewScanner(os.Stdin).Scan()
	return s.Close()
}

// openRole tells how opening its argument fails.
func openRole(args []string) error {
	spec, err := ParseSpec(args[0])
	if err != nil {
		return err
	}
	s, err := Open(spec, Config{})
	if err == nil {
		fmt.Println("opened")
		return s.Close()
	}
	for name, sentinel := range map[string]error{
		"permission": os.ErrPermission, "locked": ErrLocked, "owner": ErrOwner, "space": ErrNoSpace,
	} {
		if errors.Is(err, sentinel) {
			fmt.Println(name)
			return nil
		}
	}
	return err
}

// smallRole is openRole where /dev/shm has 1 MiB, in a mount name space of its own; it tells what is left there.
func smallRole(args []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := openRole(args); err != nil {
		return err
	}
	left, err := os.ReadDir("/dev/shm")
	fmt.Println("left", len(left))
	return err
}

// attachRole attaches the System V segment of its argument by key, as a foreign server does, and waits for its end.
func attachRole(args []string) error {
	key, err := strconv.ParseUint(args[0], 10, 32)
	if err != nil {
		return err
	}
	id, err := unix.SysvShmGet(int(int32(key)), 1<<16, unix.IPC_CREAT|0o600)
	if err != nil {
		return err
	}
	if _, err := unix.SysvShmAttach(id, 0, 0); err != nil {
		return err
	}
	fmt.Println("attached")
	bufio.NewScanner(os.Stdin).Scan()
	return nil
}

// restoreRole restores the latest snapshot in args[1] into the segment args[0], and stops for ever after args[2] chunks.
func restoreRole(args []string) error {
	spec, err := ParseSpec(args[0])
	if err != nil {
		return err
	}
	after, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	s, err := Open(spec, Config{})
	if err != nil {
		return err
	}
	store, err := OpenStore(args[1], StoreConfig{})
	if err != nil {
		return err
	}
	snap, err := store.Latest(spec)
	if err != nil {
		return err
	}
	chunks := make(chan int64)
	store.chunk = func(first int64) { chunks <- first }
	go func() {
		for range after {
			<-chunks
		}
		fmt.Println("half")
	}()
	return store.Restore(context.Background(), s, snap, RestoreOptions{})
}
