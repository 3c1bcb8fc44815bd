//go:build !goroutines

package proxy

import "golang.org/x/sys/unix"

// leaveLocked has the loop read g to its end, which is where it is now.
func (s *session) leaveLocked(g *leg) {
	g.left = true
	s.loop.post(message{to: s, left: g.generation})
}

// leaveNow shuts the receiving side of the leg down: what lies in the socket can be read, and the end behind it
// (shutdown(2), SHUT_RD, on Linux).
func (s *session) leaveNow(generation int) {
	if g := s.leg; g != nil && g.generation == generation {
		_ = unix.Shutdown(int(g.fd), unix.SHUT_RD) // broken: its reader sees that
		g.readable = true                          // and now
	}
}
