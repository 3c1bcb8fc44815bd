package shmbridge

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// region is a line of /proc/PID/maps that has a name.
type region struct {
	start  uint64
	device string
	inode  uint64 // of a System V segment its id
	path   string
}

func (r region) sysv() bool { return strings.HasPrefix(r.path, "/SYSV") }

// MappedBy finds the processes that map the segment, by device and inode in /proc/*/maps. Those of other PID name spaces
// are seen of a System V segment only, as a number. A process that just holds a descriptor is not found.
func (s *Segment) MappedBy() (Mappers, error) {
	b, err := s.memory()
	if err != nil {
		return Mappers{}, err
	}
	self, err := readMaps("/proc/self/maps")
	if err != nil {
		return Mappers{}, err
	}
	// stat(2) gives other devices than maps on some file systems: compare maps with maps.
	start := uint64(uintptr(unsafe.Pointer(&b[0])))
	at := slices.IndexFunc(self, func(r region) bool { return r.start == start })
	if at < 0 {
		return Mappers{}, errors.New("shmbridge: own mapping of the segment not found in /proc/self/maps")
	}
	same := func(r region) bool { // the id of a System V segment may also be the inode of a memfd, on the same device
		return r.inode == self[at].inode && r.device == self[at].device && r.sysv() == self[at].sysv()
	}
	pids, err := allPids()
	if err != nil {
		return Mappers{}, err
	}
	var m Mappers
	attachments := 0
	for _, pid := range pids {
		regions, err := self, error(nil)
		if pid != os.Getpid() {
			regions, err = readMaps(filepath.Join("/proc", strconv.Itoa(pid), "maps"))
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH):
			continue // gone meanwhile
		case errors.Is(err, fs.ErrPermission):
			m.Unseen++
			continue
		case err != nil:
			return Mappers{}, err
		}
		n := 0
		for _, r := range regions {
			if same(r) {
				n++
			}
		}
		attachments += n
		if n > 0 && pid != os.Getpid() {
			m.Pids = append(m.Pids, pid)
		}
	}
	if s.spec.Kind == SysV {
		var info unix.SysvShmDesc
		if _, err := unix.SysvShmCtl(s.id, unix.IPC_STAT, &info); err != nil {
			return Mappers{}, fmt.Errorf("shmbridge: %w", os.NewSyscallError("shmctl", err))
		}
		m.Hidden = max(0, int(info.Nattch)-attachments)
	}
	return m, nil
}

// allPids returns the processes of our PID name space, ascending.
func allPids() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

// readMaps returns the regions of a maps file (proc_pid_maps(5)) that have a name.
func readMaps(path string) ([]region, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var regions []region
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 6 {
			continue // anonymous
		}
		low, _, _ := strings.Cut(fields[0], "-")
		start, err := strconv.ParseUint(low, 16, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, lines.Text(), err)
		}
		inode, err := strconv.ParseUint(fields[4], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", path, lines.Text(), err)
		}
		regions = append(regions, region{start: start, device: fields[3], inode: inode, path: fields[5]})
	}
	return regions, lines.Err()
}
