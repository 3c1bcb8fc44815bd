package control

import (
	"slices"
	"time"
)

// StatusVersion is Status.Version of this schema.
const StatusVersion = 1

// Status is one service as it was at one moment.
type Status struct {
	Version     int          `json:"version"`            // StatusVersion
	Name        string       `json:"name"`               // of the service
	ID          string       `json:"id,omitempty"`       // as --id names it
	Zone        string       `json:"zone,omitempty"`     // --zone
	Type        string       `json:"type,omitempty"`     // --type
	Command     []string     `json:"command"`            // what is wrapped
	Pid         int          `json:"pid"`                // of the upgrader
	State       string       `json:"state"`              // of the machine: down, starting, serving, swapping, sharing, preparing, probation, leaving, replacing, reverting, handing, taking, stopping, stopped
	Since       time.Time    `json:"since"`              // when State was entered
	Started     time.Time    `json:"started"`            // when the upgrader took the service on
	Strategy    string       `json:"strategy"`           // overlap or exclusive
	Generations []Generation `json:"generations"`        // those with processes, by number; never null
	Claims      []Claim      `json:"claims"`             // never null
	Swaps       Counters     `json:"swaps"`              // since the upgrader started
	Totals      Totals       `json:"totals"`             // of those swaps
	Verdicts    []Verdict    `json:"verdicts"`           // the last 50, oldest first; never null
	Parked      int          `json:"parked"`             // descriptors in the store
	Restarts    int          `json:"restarts"`           // starts after the server died by itself
	Refusing    bool         `json:"refusing,omitempty"` // nobody served for too long: clients are refused
	Segment     *Segment     `json:"segment,omitempty"`  // that generations share; null: none
	Proxies     []Proxy      `json:"proxies,omitempty"`  // addresses whose clients keep their connections
	Store       *Store       `json:"store,omitempty"`    // what the server parked; null: nothing can be
	Message     string       `json:"message,omitempty"`  // what the server said last (STATUS=), or why nothing runs
}

// Serves reports whether some generation answers clients.
func (s Status) Serves() bool {
	for _, g := range s.Generations {
		if g.State == GenerationServing {
			return !s.Refusing
		}
	}
	return false
}

// The values of Generation.State.
const (
	GenerationStarting = "starting" // not ready yet
	GenerationCanary   = "canary"   // ready, a share of the new connections goes to it
	GenerationServing  = "serving"  // new connections go to it
	GenerationWarm     = "warm"     // steered away, kept for a rollback
	GenerationLeaving  = "leaving"  // about to be asked to quit, its successor waits
	GenerationDraining = "draining" // left behind, finishes what it has
	GenerationGone     = "gone"     // no process is left
)

// Generation is one run of the command.
type Generation struct {
	Number     int       `json:"number"` // from 1
	Pid        int       `json:"pid"`    // of its main process, 0 before there is one
	State      string    `json:"state"`
	Started    time.Time `json:"started"`
	Ready      time.Time `json:"ready,omitzero"` // zero: not yet
	Executable string    `json:"executable"`
	Lanes      int       `json:"lanes"`   // that it has on all claims
	Members    int       `json:"members"` // its processes
	Message    string    `json:"message,omitempty"`
}

// Claim is an address that is held for the service.
type Claim struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	// InFlight is how many connections seem to have a request under way, of all generations; -1: not known (Unix sockets,
	// datagrams, other systems than Linux).
	InFlight int        `json:"in_flight"`
	Lanes    []LaneInfo `json:"lanes"` // in the order of the group; never null
}

// LaneInfo is the socket of one generation on a claim.
type LaneInfo struct {
	Generation int    `json:"generation"`
	State      string `json:"state"`            // steered, shared, waiting, held
	Share      int    `json:"share,omitempty"`  // percentage of new connections of a shared one
	Queue      int    `json:"queue"`            // connections that nobody accepted yet, -1: not known (datagrams, other systems than Linux)
	Cookie     uint64 `json:"cookie,omitempty"` // SO_COOKIE
}

// Proxy is an address on which the upgrader accepts the clients itself. What
// is counted is counted since it started.
type Proxy struct {
	Address       string `json:"address"`
	Backend       string `json:"backend"` // an address, or intercepted
	Policy        string `json:"policy"`
	Connections   int64  `json:"connections"`    // clients that are connected now
	Held          int64  `json:"held"`           // of them without a server
	Accepted      int64  `json:"accepted"`       // clients
	Moved         int64  `json:"moved"`          // connections that went from a living server to its successor
	Resumed       int64  `json:"resumed"`        // connections that went on after their server was gone
	Stayed        int64  `json:"stayed"`         // times that a connection was not moved in time
	Unconfirmed   int64  `json:"unconfirmed"`    // moves without the predecessor's own end of the connection
	InFlight      int64  `json:"in_flight"`      // connections whose server was lost with bytes in flight
	Reset         int64  `json:"reset"`          // clients that we reset
	Replayed      int64  `json:"replayed"`       // safe HTTP requests that were sent again
	NotUnderstood int64  `json:"not_understood"` // connections whose HTTP was not understood
	DialFailed    int64  `json:"dial_failed"`    // attempts to connect to the server
	AcceptFailed  int64  `json:"accept_failed"`  // times that no client could be accepted
	Rejected      int64  `json:"rejected"`       // PROXY headers of clients
	Idle          int64  `json:"idle"`           // connections that were ended because nothing moved
	BytesUp       int64  `json:"bytes_up"`       // from clients
	BytesDown     int64  `json:"bytes_down"`     // to clients
}

// Store is what the server parked with the upgrader.
type Store struct {
	Parked  int            `json:"parked"`  // descriptors
	Max     int            `json:"max"`     // as many as there may be
	Refused int            `json:"refused"` // descriptors that could not be parked
	Dropped int            `json:"dropped"` // descriptors whose other end is gone
	Names   map[string]int `json:"names"`   // how many under each name; of many names the first 100
}

// Counters count verdicts.
type Counters struct {
	Committed  int `json:"committed"`
	RolledBack int `json:"rolled_back"`
	Failed     int `json:"failed"`
}

// Total is how many swaps got a verdict.
func (c Counters) Total() int { return c.Committed + c.RolledBack + c.Failed }

// fill makes what a handler left out what the schema says.
func (s *Status) fill() {
	s.Version = StatusVersion
	s.Command = notNil(s.Command)
	s.Generations = notNil(s.Generations)
	s.Claims = notNil(s.Claims)
	s.Verdicts = notNil(s.Verdicts)
	s.Totals.Phases = notNil(s.Totals.Phases)
	for i := range s.Claims {
		if s.Claims[i].Lanes == nil {
			// The handler's own slice is not written to: others may read it.
			s.Claims = slices.Clone(s.Claims)
			for j := range s.Claims {
				s.Claims[j].Lanes = notNil(s.Claims[j].Lanes)
			}
			return
		}
	}
}

func notNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
