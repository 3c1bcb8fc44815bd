package launch

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// isolate gives this thread a descriptor table of its own, in which everything but stdio is closed on exec.
//
// From here on nothing may be opened through package os: it would register with the runtime's poller, which other
// threads look for in the table that we left.
func isolate(targets []int) error {
	// One call does both since Linux 5.11; container profiles that forbid unshare(2) allow it.
	err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_UNSHARE|unix.CLOSE_RANGE_CLOEXEC)
	if err == nil {
		return nil
	}
	shared := unix.Unshare(unix.CLONE_FILES)
	return eachDescriptor(func(fd int) error {
		if shared != nil && fd >= 3 && contains(targets, fd) && pollers(fd) {
			return fmt.Errorf("descriptor %d is the runtime's and the table is shared: %w", fd, shared)
		}
		if fd >= 3 {
			unix.CloseOnExec(fd)
		}
		return nil
	})
}

func contains(list []int, n int) bool {
	for _, have := range list {
		if have == n {
			return true
		}
	}
	return false
}

// pollers reports whether fd belongs to the runtime's poller.
func pollers(fd int) bool {
	var link [64]byte
	n, err := unix.Readlink("/proc/thread-self/fd/"+strconv.Itoa(fd), link[:])
	return err == nil && strings.HasPrefix(string(link[:n]), "anon_inode:[event")
}

// eachDescriptor calls f for every descriptor of this thread. (/proc/self is the first thread's table.)
func eachDescriptor(f func(fd int) error) error {
	dir, err := unix.Open("/proc/thread-self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	var names []string
	buffer := make([]byte, 8192)
	for {
		n, err := unix.ReadDirent(dir, buffer)
		if err != nil {
			return err
		}
		if n <= 0 {
			break
		}
		_, _, names = unix.ParseDirent(buffer[:n], -1, names)
	}
	for _, name := range names {
		fd, err := strconv.Atoi(name)
		if err != nil || fd == dir {
			continue
		}
		if err := f(fd); err != nil {
			return err
		}
	}
	return nil
}

// place puts fds[i] at numbers[i], open across exec; descriptors beyond len(numbers) and control are moved out of
// the way and stay closed on exec. It returns where they are now.
func place(control int, fds, numbers []int) (newControl int, rest []int, err error) {
	if err := isolate(numbers); err != nil {
		return control, nil, err
	}
	above := 3
	for _, n := range numbers {
		above = max(above, n+1)
	}
	lift := func(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, above) }
	newControl, err = lift(control)
	if err != nil {
		return control, nil, err
	}
	lifted := make([]int, len(fds))
	for i, fd := range fds {
		if lifted[i], err = lift(fd); err != nil {
			return newControl, nil, err
		}
	}
	for i, number := range numbers {
		if err := unix.Dup3(lifted[i], number, 0); err != nil {
			return newControl, nil, err
		}
	}
	return newControl, lifted[len(numbers):], nil
}

// pidfdInode is the inode number of this process's pidfd: unique for as long as the system runs, since Linux 6.9
// (pidfs). False where pidfds share one inode, or do not exist.
func pidfdInode(pid int) (uint64, bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(fd, &fs) != nil || int64(fs.Type) != unix.PID_FS_MAGIC || unix.Fstat(fd, &st) != nil {
		return 0, false
	}
	return st.Ino, unsafe.Sizeof(uintptr(0)) == 8 // a 32-bit kernel reuses them
}
