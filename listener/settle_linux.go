package listener

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	settleLook  = 4 * time.Millisecond // between looks
	settleLooks = 3                    // quiet looks in a row, at the least
	// freshFor is how long a client that connected and has sent nothing is expected to send something. Browsers keep
	// connections in reserve: such a one must not hold a swap up.
	freshFor = time.Second
	// synTimeout is after how long the kernel repeats its half of a handshake: TCP_TIMEOUT_INIT.
	synTimeout = time.Second
	// tick is no shorter than the kernel's, by which it measures.
	tick = 10 * time.Millisecond
)

func (s *system) settle(ctx context.Context, gen int, o SettleOptions) (Settled, error) {
	start := time.Now()
	quietSince, looks := start, 0
	var deadline time.Time
	if o.Max > 0 {
		deadline = start.Add(o.Max)
	}
	for {
		before := time.Now()
		var r Settled
		var err error
		if r.Queued, err = s.queued(gen); err == nil && o.Inodes != nil {
			r.Busy, err = s.inFlight(gen, o.Inodes, before.Sub(start))
		}
		now := time.Now()
		r.Waited = now.Sub(start)
		if err != nil {
			return r, fmt.Errorf("listener: settle generation %d: %w", gen, err)
		}
		if r.Queued+r.Busy > 0 {
			quietSince, looks = now, 0
		} else if looks++; now.Sub(quietSince) >= o.Quiet && (looks >= settleLooks || o.Quiet == 0) {
			r.Quiet = true
			return r, nil
		}
		if !deadline.IsZero() && !now.Before(deadline) {
			return r, nil
		}
		// A look is a walk through all sockets of the system: no more than a quarter of the time. The last one is not put off.
		wait := max(settleLook, 3*now.Sub(before))
		if left := o.Quiet - now.Sub(quietSince); left > 0 && looks+1 >= settleLooks {
			wait = min(wait, left)
		}
		pause := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			pause.Stop()
			return r, ctx.Err()
		case <-pause.C:
		}
	}
}

// queued counts the lanes of gen on which something waits.
func (s *system) queued(gen int) (int, error) {
	s.lock()
	defer s.unlock()
	if s.closed {
		return 0, ErrClosed
	}
	var polls []unix.PollFd
	for _, l := range s.lanesLocked(gen) {
		if l.fd >= 0 && l.state == laneMember {
			polls = append(polls, unix.PollFd{Fd: int32(l.fd), Events: unix.POLLIN})
		}
	}
	if len(polls) == 0 {
		return 0, nil
	}
	for {
		_, err := unix.Poll(polls, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, os.NewSyscallError("poll", err)
		}
		break
	}
	n := 0
	for _, p := range polls {
		if p.Revents&unix.POLLIN != 0 && p.Revents&unix.POLLHUP == 0 {
			n++
		}
	}
	return n, nil
}

// inFlight counts connections of gen's lanes, among the inodes, with a request under way, and handshakes that are older than
// age: a client that is far away, or was not on the processor, comes to the lane that its first packet went to.
func (s *system) inFlight(gen int, inodes func() (map[uint64]struct{}, error), age time.Duration) (int, error) {
	var tcp []endpoint
	byUnix := false
	s.lock()
	for _, c := range s.list {
		for _, l := range c.all {
			if l.gen != gen {
				continue
			}
			switch c.at.network {
			case "tcp":
				tcp = append(tcp, c.at)
			case "unix":
				byUnix = true
			}
			break
		}
	}
	s.unlock()
	if len(tcp) == 0 && !byUnix {
		return 0, nil
	}
	var busy []uint64
	n := 0
	for _, at := range tcp {
		sockets, err := diagInet(at, 1<<stateEstablished|1<<stateCloseWait|1<<stateSynReceived|1<<stateHalfOpen, true)
		if err != nil {
			return 0, err
		}
		for _, d := range sockets {
			switch {
			case d.state == stateSynReceived:
				if d.handshake(age) {
					n++
				}
			case d.inode != 0 && d.busy():
				busy = append(busy, d.inode)
			}
		}
	}
	if byUnix { // the kernel keeps no times for these
		err := diagUnix(1<<stateEstablished, func(d diagSocket) {
			if d.inode != 0 && d.unread > 0 {
				busy = append(busy, d.inode)
			}
		})
		if err != nil {
			return 0, err
		}
	}
	if len(busy) == 0 { // then it does not matter whose they are
		return n, nil
	}
	held, err := inodes()
	if err != nil {
		return 0, err
	}
	for _, inode := range busy {
		if _, ok := held[inode]; ok {
			n++
		}
	}
	return n, nil
}

// handshake tells whether d is a handshake that began before age. The kernel does not tell when, but when it will repeat its half; one
// whose client has not answered by then is not waited for.
func (d diagSocket) handshake(age time.Duration) bool {
	return d.resent == 0 && synTimeout-time.Duration(d.expires)*time.Millisecond >= age-tick
}

// busy tells whether a request seems to be under way on a connection of tcp: received but not read, or the last thing that
// happened is that something was received. The kernel's times are as coarse as its tick.
func (d diagSocket) busy() bool {
	switch {
	case d.unread > 0:
		return true
	case !d.hasInfo:
		return false
	case d.sent == 0 && d.received == 0:
		return time.Duration(d.recvAgo)*time.Millisecond < freshFor
	case d.sent == 0:
		return true
	}
	return d.recvAgo < d.sentAgo
}
