package upgrader

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/listener/notify"
	"github.com/upgrader/upgrader/upgrader/process"
)

// findParked puts descriptors of a killed upgrader's store, as far as g has
// them open and they may be taken out of it, into ours, and tells how many.
func (s *Service) findParked(g *generation, parked []rememberedParked) int {
	type key struct{ dev, ino uint64 }
	wanted := map[key]rememberedParked{}
	for _, p := range parked {
		wanted[key{p.Dev, p.Ino}] = p
	}
	ids, err := g.members.List()
	if err != nil {
		return 0
	}
	got := 0
	for _, id := range ids {
		dir := "/proc/" + strconv.Itoa(id.Pid) + "/fd"
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it is gone, or not ours to look into
		}
		for _, e := range entries {
			var st unix.Stat_t
			if unix.Stat(dir+"/"+e.Name(), &st) != nil {
				continue // closed meanwhile
			}
			k := key{uint64(st.Dev), st.Ino}
			p, ok := wanted[k]
			if !ok {
				continue
			}
			f, err := takeFrom(id, e.Name())
			if err != nil {
				continue
			}
			if dev, ino, err := notify.Inode(f); err != nil || (key{dev, ino}) != k { // its number was used again meanwhile
				_ = f.Close() // only a duplicate
				continue
			}
			if s.store.Add(p.Name, p.Poll, f) == nil {
				delete(wanted, k)
				got++
			}
		}
	}
	return got
}

// takeFrom duplicates a descriptor of that very process (pidfd_getfd(2), Linux
// 5.6), which needs what ptrace needs.
func takeFrom(id process.Identity, number string) (*os.File, error) {
	n, err := strconv.Atoi(number)
	if err != nil {
		return nil, err
	}
	pidfd, err := id.Pidfd()
	if err != nil {
		return nil, err
	}
	defer pidfd.Close()
	raw, err := pidfd.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, result := -1, error(nil)
	if err := raw.Control(func(of uintptr) { fd, result = unix.PidfdGetfd(int(of), n, 0) }); err != nil {
		return nil, err
	}
	if result != nil {
		return nil, os.NewSyscallError("pidfd_getfd", result)
	}
	return os.NewFile(uintptr(fd), "parked"), nil
}
