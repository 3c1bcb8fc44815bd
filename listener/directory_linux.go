package listener

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// directory is where a claimed unix path is, with the lanes' own names beside it. All names are looked up in the directory
// that was opened first, so that a long path is no trouble.
type directory struct {
	fd   int // O_PATH
	path string
	base string // the claimed name
}

func openDirectory(path string) (*directory, error) {
	d := &directory{path: filepath.Dir(path), base: filepath.Base(path)}
	fd, err := unix.Open(d.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: d.path, Err: err}
	}
	d.fd = fd
	return d, nil
}

func (d *directory) close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
		d.fd = -1
	}
}

// ino is the inode of a name; 0 when there is none.
func (d *directory) ino(name string) uint64 {
	var st unix.Stat_t
	if unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return 0
	}
	return st.Ino
}

// sockaddr is a way to a name in the directory that fits into sun_path.
func (d *directory) sockaddr(name string) *unix.SockaddrUnix {
	path := filepath.Join(d.path, name)
	if len(path) > maxUnixPath {
		path = fmt.Sprintf("/proc/self/fd/%d/%s", d.fd, name)
	}
	return &unix.SockaddrUnix{Name: path}
}

// alive tells whether a socket is bound to a name. Its owner does not notice: connecting a datagram socket to a stream
// socket fails before anything is sent.
func (d *directory) alive(name string) (bool, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, d.sockaddr(name)); err {
	case nil, unix.EPROTOTYPE:
		return true, nil
	case unix.ECONNREFUSED, unix.ENOENT:
		return false, nil
	default:
		return false, os.NewSyscallError("connect", err)
	}
}

// check fails when the claimed name is something that is not ours to replace.
func (d *directory) check() error {
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, d.base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("fstatat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("the path exists and is no socket")
	}
	alive, err := d.alive(d.base)
	if err != nil {
		return err
	}
	if alive {
		return unix.EADDRINUSE
	}
	return nil
}

// sweep removes lanes' own names that no socket is bound to any more: those of an upgrader that was killed.
func (d *directory) sweep() {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return // not readable: nor can we know what is left
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), lanePrefix) || e.Type()&os.ModeSocket == 0 {
			continue
		}
		if alive, err := d.alive(e.Name()); err == nil && !alive {
			d.remove(e.Name())
		}
	}
}

// fresh is a name that nobody has.
func (d *directory) fresh() string {
	var b [5]byte
	_, _ = rand.Read(b[:]) // never fails
	return lanePrefix + hex.EncodeToString(b[:])
}

func (d *directory) remove(name string) {
	_ = unix.Unlinkat(d.fd, name, 0) // somebody else has removed it
}

// publish makes the claimed name a hard link of a lane's own name, in one step.
func (d *directory) publish(name string) error {
	if own := d.ino(name); own != 0 && own == d.ino(d.base) {
		return nil
	}
	link := d.fresh()
	if err := unix.Linkat(d.fd, name, d.fd, link, 0); err != nil {
		return &os.LinkError{Op: "link", Old: filepath.Join(d.path, name), New: filepath.Join(d.path, link), Err: err}
	}
	if err := unix.Renameat(d.fd, link, d.fd, d.base); err != nil {
		d.remove(link)
		return &os.LinkError{Op: "rename", Old: filepath.Join(d.path, link), New: filepath.Join(d.path, d.base), Err: err}
	}
	return nil
}

// unpublish removes the claimed name if it is a lane's, and all the lanes' own names.
func (d *directory) unpublish(lanes []*Lane) {
	public := d.ino(d.base)
	for _, l := range lanes {
		if own := d.ino(l.name); own != 0 && own == public {
			d.remove(d.base)
		}
		d.remove(l.name)
	}
}

// own gives a name the owner and the permissions of an address.
func (d *directory) own(name string, a Address) error {
	uid, gid := -1, -1
	if a.User != "" {
		id, err := strconv.Atoi(a.User)
		if err != nil {
			u, err := user.Lookup(a.User)
			if err != nil {
				return err
			}
			if id, err = strconv.Atoi(u.Uid); err != nil {
				return err
			}
		}
		uid = id
	}
	if a.Group != "" {
		id, err := strconv.Atoi(a.Group)
		if err != nil {
			g, err := user.LookupGroup(a.Group)
			if err != nil {
				return err
			}
			if id, err = strconv.Atoi(g.Gid); err != nil {
				return err
			}
		}
		gid = id
	}
	if a.Mode != 0 { // before the owner changes, for then it may not be ours to change
		if err := unix.Fchmodat(d.fd, name, uint32(a.Mode.Perm()), 0); err != nil {
			return os.NewSyscallError("fchmodat", err)
		}
	}
	if uid >= 0 || gid >= 0 {
		if err := unix.Fchownat(d.fd, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return os.NewSyscallError("fchownat", err)
		}
	}
	return nil
}
