package proxy

import "sync/atomic"

// Event is something that an operator may want to read about. Err is nil where there is none.
type Event struct {
	Kind       Kind
	Session    uint64 // counted from 1; 0: no session's
	Generation int
	Err        error
}

// Kind of an Event.
type Kind string

const (
	AcceptFailed   Kind = "accept failed"      // once per back-off
	DialFailed     Kind = "dial failed"        // a client was given up, or stays where it is
	HeaderRejected Kind = "header rejected"    // a PROXY header in
	LostInFlight   Kind = "lost in flight"     // see Stats.InFlight
	Stayed         Kind = "stayed"             // a session was not moved in time
	Unconfirmed    Kind = "end unconfirmed"    // a server was quiet but did not end its leg after a half-close
	Opaque         Kind = "not understood"     // PolicyHTTP1 fell back to PolicyDrain
	Replayed       Kind = "request sent again" // see Stats.Replayed
	TimedOut       Kind = "idle"               // Config.Idle
)

// Stats are counts since New, and the sessions of this moment.
type Stats struct {
	Sessions    int64 `json:"sessions"`     // open now
	Parked      int64 `json:"parked"`       // of them without a leg
	Accepted    int64 `json:"accepted"`     // clients
	Moved       int64 `json:"moved"`        // sessions that went from a living server to its successor
	Resumed     int64 `json:"resumed"`      // sessions that went on at a successor after their leg had ended
	Stayed      int64 `json:"stayed"`       // times that a session was not moved in time
	Unconfirmed int64 `json:"unconfirmed"`  // moves without the predecessor's own end of the leg
	InFlight    int64 `json:"in_flight"`    // legs lost with bytes in flight
	Reset       int64 `json:"reset"`        // clients that we reset
	Replayed    int64 `json:"replayed"`     // safe HTTP requests that a lost server had not begun to answer, sent to its successor
	Opaque      int64 `json:"opaque"`       // sessions whose HTTP was not understood
	DialFailed  int64 `json:"dial_failed"`  // attempts
	AcceptError int64 `json:"accept_error"` // back-offs of accept
	Rejected    int64 `json:"rejected"`     // PROXY headers in
	Idle        int64 `json:"idle"`         // sessions ended by Config.Idle
	BytesUp     int64 `json:"bytes_up"`     // from clients, written to servers
	BytesDown   int64 `json:"bytes_down"`   // from servers, written to clients
}

// counters are Stats as they are counted.
type counters struct {
	sessions, parked, accepted, moved, resumed, stayed, unconfirmed, inFlight, reset, replayed,
	opaque, dialFailed, acceptError, rejected, idle, up, down atomic.Int64
}

// Stats of this moment.
func (p *Proxy) Stats() Stats {
	c := &p.count
	return Stats{
		Sessions: c.sessions.Load(), Parked: c.parked.Load(), Accepted: c.accepted.Load(),
		Moved: c.moved.Load(), Resumed: c.resumed.Load(), Stayed: c.stayed.Load(),
		Unconfirmed: c.unconfirmed.Load(), InFlight: c.inFlight.Load(), Reset: c.reset.Load(),
		Replayed: c.replayed.Load(), Opaque: c.opaque.Load(), DialFailed: c.dialFailed.Load(),
		AcceptError: c.acceptError.Load(), Rejected: c.rejected.Load(), Idle: c.idle.Load(),
		BytesUp: c.up.Load(), BytesDown: c.down.Load(),
	}
}
