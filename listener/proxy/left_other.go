//go:build !linux || goroutines

package proxy

import "time"

// finalSilence is how long nothing may have come from a server that has left, and nothing lie in the socket, for its
// last word to be known: what it sent before it said that it leaves may still be under way inside the system.
const finalSilence = 100 * time.Millisecond

// leaveLocked has the owner read g until it is silent.
func (s *session) leaveLocked(g *leg) {
	if g.left.IsZero() {
		g.left = time.Now()
	}
	s.pauseLocked()
}

// silentFrom is when g's server, which has left, has said its last word if nothing comes until then; zero: it has
// not left. Precondition: s.mu is held.
func (s *session) silentFromLocked(g *leg) time.Time {
	if g.left.IsZero() {
		return time.Time{}
	}
	since := g.left
	if last := time.Unix(0, s.last.Load()); last.After(since) {
		since = last
	}
	return since.Add(finalSilence)
}

// heardOut reports whether g's server has left, and all that it said was read.
func (s *session) heardOut(g *leg) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if at := s.silentFromLocked(g); at.IsZero() || now.Before(at) {
		return false
	}
	if unread(g.Conn) { // we were late ourselves
		g.left = now
		return false
	}
	return true
}
