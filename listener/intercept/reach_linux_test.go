package intercept

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// handedAt is the number at which the guest of this test has the memory.
const handedAt = 200

// roleReach makes memory of a descriptor in all ways, and says each. The ways
// that do not reach it come first.
func roleReach(*bufio.Scanner, []string) error {
	memory, err := unix.MemfdCreate("memory", unix.MFD_CLOEXEC)
	if err != nil {
		return err
	}
	const size = 8192
	if err := unix.Ftruncate(memory, size); err != nil { // another number is nobody's business
		return err
	}
	if err := unix.Dup3(memory, handedAt, unix.O_CLOEXEC); err != nil {
		return err
	}
	mapping := func(fd, flags int) error {
		b, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
		if err != nil {
			return err
		}
		b[0]++
		return unix.Munmap(b)
	}
	for _, way := range []struct {
		name string
		do   func() error
	}{
		{"private", func() error { return mapping(memory, unix.MAP_PRIVATE) }},
		{"anonymous", func() error { return mapping(-1, unix.MAP_SHARED|unix.MAP_ANONYMOUS) }},
		{"write", func() error { _, err := unix.Write(handedAt, []byte("x")); return err }},
		{"mmap", func() error { return mapping(memory, unix.MAP_SHARED) }},
		{"read-only", func() error {
			b, err := unix.Mmap(memory, 0, size, unix.PROT_READ, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			return unix.Munmap(b)
		}},
		{"validated", func() error { return mapping(memory, unix.MAP_SHARED_VALIDATE) }},
		{"handed", func() error { return mapping(handedAt, unix.MAP_SHARED) }},
		{"pwrite", func() error { _, err := unix.Pwrite(handedAt, []byte("x"), 0); return err }},
		{"pwritev2", func() error {
			b := []byte("x")
			v := unix.Iovec{Base: &b[0], Len: 1}
			_, _, errno := unix.Syscall6(unix.SYS_PWRITEV2, handedAt, uintptr(unsafe.Pointer(&v)), 1, 0, 0, 0)
			return zeroed(errno)
		}},
		{"ftruncate", func() error { return unix.Ftruncate(handedAt, size) }},
		{"fallocate", func() error { return unix.Fallocate(handedAt, 0, 0, size) }},
		{"shmat", func() error {
			_, _, errno := unix.Syscall(unix.SYS_SHMAT, ^uintptr(0), 0, 0) // there is no such segment
			if errno == unix.EINVAL {
				return nil
			}
			return zeroed(errno)
		}},
	} {
		say("%s: %v", way.name, way.do())
	}
	return nil
}

// zeroed is an error, if it is one.
func zeroed(errno unix.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

// The calls of 32-bit programs, by their own numbers (asm/unistd_32.h), and of x32.
func TestReachOfOthers(t *testing.T) {
	if nativeArch() != unix.AUDIT_ARCH_X86_64 {
		t.Skip("the numbers are those beside amd64")
	}
	const (
		i386    = unix.AUDIT_ARCH_I386
		own     = unix.AUDIT_ARCH_X86_64
		another = unix.AUDIT_ARCH_ARM
		shared  = unix.MAP_SHARED
		shmat   = 21
		shmget  = 23
	)
	named := Reach{Mapped: true, Numbers: []int{5, 6}, WritesToo: true}
	numbered := Reach{Numbers: []int{5}}
	sysv := Reach{SystemV: true, Numbers: []int{5}}
	for _, c := range []struct {
		name  string
		reach Reach
		arch  uint32
		nr    int32
		args  []uint64
		want  bool
	}{
		{"mmap2", named, i386, 192, []uint64{0, 0, 0, shared, 9}, true},
		{"mmap2, private", named, i386, 192, []uint64{0, 0, 0, unix.MAP_PRIVATE, 5}, false},
		{"mmap2 of a number", numbered, i386, 192, []uint64{0, 0, 0, shared, 5}, true},
		{"mmap2 of another", numbered, i386, 192, []uint64{0, 0, 0, shared, 9}, false},
		{"mmap", named, i386, 90, nil, true},
		{"mmap, nothing asked", Reach{}, i386, 90, nil, false},
		{"pwrite64", named, i386, 181, []uint64{6}, true},
		{"pwrite64 elsewhere", named, i386, 181, []uint64{7}, false},
		{"pwrite64, numbers only", numbered, i386, 181, []uint64{5}, false},
		{"ipc, shmat", sysv, i386, 117, []uint64{1<<16 | shmat}, true},
		{"ipc, shmget", sysv, i386, 117, []uint64{shmget}, false},
		{"shmat", sysv, i386, 397, nil, true},
		{"shmat, no System V", named, i386, 397, nil, false},
		{"bind's number", named, i386, unix.SYS_BIND, nil, false},
		{"another architecture", named, another, 192, []uint64{0, 0, 0, shared, 5}, false},
		{"x32 mmap", named, own, 9 | x32, []uint64{0, 0, 0, shared, 9}, true},
		{"x32 shmat", sysv, own, 30 | x32, nil, true},
		{"x32 pwrite64", named, own, 18 | x32, []uint64{5}, true},
		{"high bits", numbered, own, unix.SYS_MMAP, []uint64{0, 0, 0, shared, 1<<32 | 5}, true},
		{"write", named, own, unix.SYS_WRITE, []uint64{5}, false},
	} {
		for _, o := range []FilterOptions{{Reach: c.reach, NoBinds: true}, {Reach: c.reach, Learn: true}} {
			filter, _ := Filter(o)
			if got := emulate(t, filter, c.arch, c.nr, c.args...); (got == unix.SECCOMP_RET_USER_NOTIF) != c.want || !c.want && got != unix.SECCOMP_RET_ALLOW {
				t.Errorf("%s, %+v: %#x, notified should be %v", c.name, o, got, c.want)
			}
			if c.want && !reaches(notification{arch: c.arch, nr: c.nr}) {
				t.Errorf("%s: it is not answered as what reaches memory", c.name)
			}
		}
	}
	filter, _ := Filter(FilterOptions{NoBinds: true, Reach: named})
	if got := emulate(t, filter, own, unix.SYS_BIND); got != unix.SECCOMP_RET_ALLOW {
		t.Errorf("bind, though nobody asks: %#x", got)
	}
}

// Each call that reaches memory waits for its answer, and no other does.
func TestReach(t *testing.T) {
	all := []string{"private", "anonymous", "write", "mmap", "read-only", "validated", "handed", "pwrite", "pwritev2", "ftruncate", "fallocate", "shmat"}
	for _, c := range []struct {
		name  string
		reach Reach
		wait  string
	}{
		{"named", Reach{Mapped: true, Numbers: []int{handedAt}, WritesToo: true}, "mmap read-only validated handed pwrite pwritev2 ftruncate fallocate"},
		{"numbered", Reach{Numbers: []int{100, handedAt}}, "handed"},
		{"System V", Reach{SystemV: true, Numbers: []int{100}}, "shmat"},
		{"all", Reach{SystemV: true, Mapped: true, Numbers: []int{handedAt, 100}, WritesToo: true}, "mmap read-only validated handed pwrite pwritev2 ftruncate fallocate shmat"},
	} {
		for _, answer := range []error{nil, unix.ENOSYS} {
			t.Run(fmt.Sprint(c.name, " ", answer), func(t *testing.T) {
				asked, answers := make(chan struct{}), make(chan error)
				o := guestOptions{shimOrder: shimOrder{NoBinds: true, Reach: c.reach}}
				o.Server.Reach = func() error {
					select {
					case asked <- struct{}{}:
						return <-answers
					case <-t.Context().Done():
						return nil
					}
				}
				g := startGuest(t, o, "reach")
				waits := strings.Fields(c.wait)
				for _, way := range all {
					want := way + ": <nil>"
					if len(waits) > 0 && waits[0] == way {
						select {
						case <-asked:
						case line := <-g.lines:
							t.Fatalf("%s before it was asked about", line)
						case <-time.After(deadline):
							t.Fatalf("nobody is asked about %s", way)
						}
						select {
						case line := <-g.lines:
							t.Errorf("%s before it was answered", line)
						default:
						}
						answers <- answer
						waits = waits[1:]
						if answer != nil {
							want = way + ": " + answer.Error()
						}
					}
					if got := way + g.expect(way); got != want {
						t.Errorf("%q, want %q", got, want)
					}
				}
				g.finish()
			})
		}
	}
}
