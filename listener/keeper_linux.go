package listener

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The keeper watches all lanes: for guests that shut theirs down, and for what lands in a lane whose generation is
// gone. It sleeps in poll(2); it is the only one that closes lanes.

const (
	graceAfterError = 100 * time.Millisecond // before accepting again (EMFILE)
	orphanLook      = time.Second            // between looks for members that leave without a word
	ghostLook       = 5 * time.Millisecond   // the same, soon after a lane was closed that somebody else has
)

func (s *system) startLocked() error {
	if s.wake >= 0 {
		return nil
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	s.wake = fd
	s.work.Go(s.keep)
	return nil
}

// kickLocked makes the keeper look again.
func (s *system) kickLocked() {
	if s.wake >= 0 {
		_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // full: it is awake
	}
}

func (s *system) keep() {
	for {
		s.lock()
		if s.closed {
			s.unlock()
			return
		}
		wait := s.sweepLocked(time.Now())
		polls, lanes := s.watchedLocked(time.Now())
		s.unlock()

		timeout := -1
		if wait >= 0 {
			timeout = int(min((wait+time.Millisecond-1)/time.Millisecond, 1<<30))
		}
		n, err := unix.Poll(polls, timeout)
		if err != nil || n == 0 {
			continue // interrupted, or time has come
		}
		if polls[0].Revents != 0 {
			var b [8]byte
			_, _ = unix.Read(int(polls[0].Fd), b[:]) // empty: somebody was quicker
		}
		s.lock()
		for i, l := range lanes {
			s.wokenLocked(l, polls[i+1].Revents)
		}
		s.unlock()
	}
}

// relaysLocked tells whether what lands in a lane is for us to relay.
func (l *Lane) relaysLocked() bool {
	return (l.retired || l.beside) && !l.steered && l.fd >= 0 && l.state == laneMember
}

func (s *system) watchedLocked(now time.Time) ([]unix.PollFd, []*Lane) {
	polls := []unix.PollFd{{Fd: int32(s.wake), Events: unix.POLLIN}}
	var lanes []*Lane
	if s.frozen {
		return polls, nil
	}
	for _, c := range s.list {
		for _, l := range c.all {
			l.watched = false
			if l.fd < 0 || l.deaf || l.state != laneMember || now.Before(l.pause) {
				continue
			}
			// Without POLLIN nothing but a shutdown wakes us: waiting on a busy lane costs nothing.
			p := unix.PollFd{Fd: int32(l.fd)}
			if l.relaysLocked() {
				p.Events = unix.POLLIN
			} else if c.at.network != "tcp" {
				continue
			}
			if c.at.network == "udp" && !l.expires.IsZero() && !now.Before(l.expires) {
				continue // nothing comes any more: there is no handshake that could be late
			}
			l.watched = true
			polls, lanes = append(polls, p), append(lanes, l)
		}
	}
	return polls, lanes
}

func (s *system) wokenLocked(l *Lane, events int16) {
	if events == 0 || l.fd < 0 || l.state != laneMember || s.closed || s.frozen {
		return
	}
	if l.claim.at.network == "tcp" && events&(unix.POLLHUP|unix.POLLERR) != 0 {
		s.reconcileLocked(l.claim)
		return
	}
	if !l.relaysLocked() {
		return
	}
	if err := s.drainLocked(l); err != nil {
		l.pause = time.Now().Add(graceAfterError)
		s.note(RescueLost, l.claim, l.gen, err)
	}
	if events&(unix.POLLHUP|unix.POLLNVAL) != 0 {
		l.deaf = true // a guest shut it down: nothing comes any more
	}
}

// sweepLocked closes what may go, and returns how long nothing will have to be done; negative: for ever.
func (s *system) sweepLocked(now time.Time) time.Duration {
	wait := time.Duration(-1)
	if s.frozen {
		return wait
	}
	until := func(d time.Duration) {
		if wait < 0 || d < wait {
			wait = max(d, 0)
		}
	}
	for _, c := range slices.Clone(s.list) {
		for _, l := range c.all {
			l.watched = false // it is us who are here
		}
		if left := s.sweepClaimLocked(c, now); left >= 0 {
			until(left)
		}
		if len(c.all) == 0 && !c.explicit {
			s.dropClaimLocked(c)
		}
	}
	return wait
}

// sweepClaimLocked closes what may go of one claim.
func (s *system) sweepClaimLocked(c *Claim, now time.Time) time.Duration {
	wait := time.Duration(-1)
	if s.frozen {
		return wait
	}
	for again := true; again; {
		again = false
		for _, l := range slices.Clone(c.all) {
			gone, left := s.sweepLaneLocked(l, now)
			again = again || gone
			if !gone && left >= 0 && (wait < 0 || left < wait) {
				wait = left
			}
		}
	}
	if s.foldLocked(c, now) && (wait < 0 || s.cfg.RescueTime < wait) {
		wait = s.cfg.RescueTime
	}
	return wait
}

// sweepLaneLocked closes l if it may go; else it tells when to look again, negative: when something happens.
func (s *system) sweepLaneLocked(l *Lane, now time.Time) (gone bool, left time.Duration) {
	c := l.claim
	if now.Before(l.pause) {
		left = l.pause.Sub(now)
	} else {
		left = -1
	}
	if l.fd < 0 { // somebody else's
		s.reconcileLocked(c)
		if l.state == laneGone {
			return true, 0
		}
		if now.Sub(l.ghost) < orphanLook {
			return false, ghostLook
		}
		return false, orphanLook
	}
	if !l.retired {
		return false, left
	}
	switch l.state {
	case laneBound, laneOut:
		s.destroyLocked(l)
		return true, 0
	case laneShut:
		if l.steered { // holds the address
			return false, left
		}
		s.destroyLocked(l)
		return true, 0
	}
	if l.steered {
		return false, left // holds the clients
	}
	if l.left.waits() && !now.Before(l.pause) {
		if err := s.drainLocked(l); err != nil {
			s.note(RescueLost, c, l.gen, err)
		}
		left = l.pause.Sub(now)
	}
	if l.expires.IsZero() {
		l.expires = now
		if !l.hasty {
			l.expires = now.Add(s.cfg.RescueTime)
		}
	}
	if now.Before(l.expires) {
		if d := l.expires.Sub(now); left < 0 || d < left {
			left = d
		}
		return false, left
	}
	if l.watched && c.at.network != "tcp" {
		return false, left
	}
	if i := slices.Index(c.members, l); !c.at.onPath() && (i < 0 || !mayLeave(c.members, i)) {
		return false, left
	}
	if c.at.network == "unixgram" {
		l.hush()
	}
	if err := s.drainLocked(l); err != nil && !now.Before(l.pause) {
		l.pause = now.Add(graceAfterError)
		s.note(RescueLost, c, l.gen, err)
		return false, graceAfterError
	}
	if l.left.waits() {
		return false, unixgramPause
	}
	s.saveLocked()
	s.detachLocked(l)
	return l.state == laneGone, orphanLook
}

// drainLocked takes everything out of a lane and relays it.
func (s *system) drainLocked(l *Lane) error {
	switch l.claim.at.network {
	case "udp":
		return s.drainUDPLocked(l)
	case "unixgram":
		return s.drainUnixgramLocked(l)
	}
	for {
		fd, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch {
		case err == nil:
			s.relayLocked(l, fd)
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINVAL): // empty, or shut down
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
			return fmt.Errorf("listener: accept late clients: %w", os.NewSyscallError("accept4", err))
		default: // accept(2): an error of the new connection, which is gone with it
		}
	}
}
