package listener

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// inUse names the holder of an address as far as it can be known; err is the kernel's answer.
func inUse(e endpoint, err error) error {
	use := &InUseError{Addr: e.String(), Err: err}
	for _, inode := range holders(e) {
		if pid, command, found := holderOf(inode); found {
			use.Pid, use.Command = pid, command
			break
		}
	}
	return use
}

// holders are the inodes of the sockets that stand in the way of e.
func holders(e endpoint) []uint64 {
	if e.onPath() {
		return unixHolders(e.path)
	}
	states := uint32(1 << stateListen)
	if e.network == "udp" {
		states = anyState
	}
	var inodes []uint64
	for _, family := range [...]int{2, 10} { // AF_INET and AF_INET6 may stand in each other's way
		of := e
		of.family = family
		sockets, err := diagInet(of, states, false)
		if err != nil {
			continue // only a name is at stake
		}
		for _, s := range sockets {
			a, b := s.local.Addr().Unmap(), e.addr.Addr().Unmap()
			if s.inode != 0 && (a == b || a.IsUnspecified() || b.IsUnspecified()) {
				inodes = append(inodes, s.inode)
			}
		}
	}
	return inodes
}

// unixHolders reads proc_net_unix(5): Num RefCount Protocol Flags Type St Inode Path.
func unixHolders(path string) []uint64 {
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		return nil
	}
	defer f.Close()
	var inodes []uint64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), " ", 8)
		if len(fields) < 8 {
			continue
		}
		inode, name, _ := strings.Cut(strings.TrimSpace(strings.Join(fields[6:], " ")), " ")
		if name != path {
			continue
		}
		if n, err := strconv.ParseUint(inode, 10, 64); err == nil {
			inodes = append(inodes, n)
		}
	}
	return inodes
}

// holderOf finds a process that has a socket open. Processes of others are invisible without a privilege.
func holderOf(inode uint64) (pid int, command string, found bool) {
	want := fmt.Sprintf("socket:[%d]", inode)
	dirs, _ := filepath.Glob("/proc/[0-9]*/fd") // the pattern is well formed
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			link, err := os.Readlink(filepath.Join(dir, entry.Name()))
			if err != nil || link != want {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
			if err != nil {
				continue
			}
			comm, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "comm"))
			if err != nil {
				comm = nil
			}
			return pid, strings.TrimSpace(string(comm)), true
		}
	}
	return 0, "", false
}
