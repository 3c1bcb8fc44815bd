package listener

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// putBackLook is how often a claimed path is looked at when inotify(7) cannot be had.
const putBackLook = 20 * time.Millisecond

// openPathLocked opens the directory of a claim on a path.
func (s *system) openPathLocked(c *Claim) error {
	d, err := openDirectory(c.at.path)
	if err != nil {
		return err
	}
	if err := d.check(); err != nil {
		d.close()
		return err
	}
	d.sweep()
	c.dir = d
	s.watchPathLocked(c)
	return nil
}

// openUnixLocked binds a lane to a name of its own.
func (s *system) openUnixLocked(l *Lane) error {
	c := l.claim
	fd, err := unix.Socket(unix.AF_UNIX, c.at.kind()|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	name := c.dir.fresh()
	if l.cookie, l.inode, err = identify(fd); err == nil && l.blocking {
		err = os.NewSyscallError("fcntl", unix.SetNonblock(fd, false))
	}
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, c.dir.sockaddr(name)))
	}
	if err != nil {
		unix.Close(fd)
		return err
	}
	if err := c.dir.own(name, c.address); err != nil {
		unix.Close(fd)
		c.dir.remove(name)
		return err
	}
	l.fd, l.name = fd, name
	return nil
}

func (s *system) joinUnixLocked(l *Lane) error {
	c := l.claim
	c.members = append(c.members, l)
	s.saveLocked()
	var err error
	if !c.at.datagrams() {
		err = listenOn(l.fd, c.address.Backlog)
	}
	if err == nil && c.serving == nobody {
		if err = c.dir.publish(l.name); err == nil {
			c.serving, l.steered = l.gen, true
		}
	}
	if err != nil {
		c.members = c.members[:len(c.members)-1]
		return err
	}
	l.state = laneMember
	s.kickLocked()
	return nil
}

// reconcileUnixLocked forgets the lanes of an orphan that died.
func (s *system) reconcileUnixLocked(c *Claim) {
	for _, l := range slices.Clone(c.members) {
		if l.fd < 0 && !s.existsLocked(l) {
			c.members = slices.DeleteFunc(c.members, func(x *Lane) bool { return x == l })
			s.forgetLocked(l)
		}
	}
}

// refuseUnixLocked puts a dead socket in the place of the claimed path, and sends waiting clients away. Datagrams that wait
// are nobody's connection: they stay.
func (s *system) refuseUnixLocked(c *Claim) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	name := c.dir.fresh()
	if err := unix.Bind(fd, c.dir.sockaddr(name)); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Renameat(c.dir.fd, name, c.dir.fd, c.dir.base); err != nil {
		c.dir.remove(name)
		return os.NewSyscallError("renameat", err)
	}
	for _, l := range c.members {
		if l.fd < 0 || c.at.datagrams() {
			continue
		}
		// The flag is the guest's as well: it is put back as it was.
		flags, err := unix.FcntlInt(uintptr(l.fd), unix.F_GETFL, 0)
		if err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		_ = unix.SetNonblock(l.fd, true) // cannot fail on a socket
		for {
			client, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC)
			if err != nil {
				break
			}
			unix.Close(client)
		}
		_ = unix.SetNonblock(l.fd, flags&unix.O_NONBLOCK != 0)
	}
	return nil
}

func (s *system) acceptUnixLocked(c *Claim) error {
	if steered := c.steeredLocked(); len(steered) > 0 {
		return c.dir.publish(steered[0].name)
	}
	return nil
}

// putBackLocked links a claimed path anew if it is not there. Something else in its place stays: it may be a server's
// that binds the path by itself.
func (s *system) putBackLocked(c *Claim) {
	steered := c.steeredLocked()
	if s.frozen || c.refused || len(steered) == 0 || c.dir.fd < 0 || c.dir.ino(c.dir.base) != 0 {
		return
	}
	l := steered[0]
	err := unix.Linkat(c.dir.fd, l.name, c.dir.fd, c.dir.base, 0)
	switch {
	case err == nil:
		s.note(PutBack, c, l.gen, nil)
	case !errors.Is(err, unix.EEXIST):
		s.note(Failed, c, l.gen, fmt.Errorf("listener: put %s back: %w", c.at.path, err))
	}
}

// watchPathLocked starts the goroutine that puts the claimed path back.
func (s *system) watchPathLocked(c *Claim) {
	changes := s.changes(c.dir.path)
	s.work.Go(func() {
		var tick <-chan time.Time
		if changes == nil {
			t := time.NewTicker(putBackLook)
			defer t.Stop()
			tick = t.C
		} else {
			defer changes.Close()
			defer context.AfterFunc(s.ctx, func() { changes.Close() })()
		}
		buf := make([]byte, 4096)
		for {
			if changes != nil {
				if _, err := changes.Read(buf); err != nil { // closed
					return
				}
			} else {
				select {
				case <-tick:
				case <-s.ctx.Done():
					return
				}
			}
			s.lock()
			gone := s.closed || c.dir.fd < 0
			if !gone {
				s.putBackLocked(c)
			}
			s.unlock()
			if gone {
				return
			}
		}
	})
}

// changes tells of names that leave a directory; nil when inotify(7) cannot be had.
func (s *system) changes(dir string) *os.File {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_DELETE|unix.IN_MOVED_FROM|unix.IN_ONLYDIR); err != nil {
		unix.Close(fd)
		return nil
	}
	return os.NewFile(uintptr(fd), "inotify") // non-blocking: Close ends a Read
}
