package proxy

import "context"

// A Parcel is a part of what a frozen proxy consists of, for another process that goes on with it. All of
// its parcels together are the whole.
type Parcel struct {
	Sessions []Session `json:"sessions,omitempty"`
	Sockets  []int     `json:"-"` // of the sessions, in order, of each one: its client's, its leg's, the next leg's, as far as it has them
	LastID   uint64    `json:"last_id"`
	Count    *Stats    `json:"count,omitempty"` // so far, in one of the parcels
}

// Session is one client's connection with all that is known of it, but for its sockets.
type Session struct {
	ID       uint64    `json:"id"`
	Entered  bool      `json:"entered,omitempty"` // its header was read
	Header   []byte    `json:"header,omitempty"`  // what came of one that is not complete
	Until    int64     `json:"until,omitempty"`   // for the rest of that, in ns since 1970
	Greet    []byte    `json:"greet,omitempty"`
	Carry    []byte    `json:"carry,omitempty"`
	Up       []byte    `json:"up,omitempty"`   // read from the client, not taken by the leg yet
	Down     []byte    `json:"down,omitempty"` // read from the leg, not taken by the client yet
	Sent     uint64    `json:"sent,omitempty"`
	Answered uint64    `json:"answered,omitempty"`
	Turns    uint64    `json:"turns,omitempty"`
	Outcome  int       `json:"outcome,omitempty"`
	Finished bool      `json:"finished,omitempty"`
	Ended    bool      `json:"ended,omitempty"` // the server has ended its direction
	Left     bool      `json:"left,omitempty"`
	Client   Socket    `json:"client"`
	Leg      *Socket   `json:"leg,omitempty"`
	Next     *Socket   `json:"next,omitempty"`
	Last     int64     `json:"last,omitempty"`  // until when the last words on the leg are waited for, in ns since 1970
	Quiet    int64     `json:"quiet,omitempty"` // and the pause that ends them, in ns
	HTTP     *Exchange `json:"http,omitempty"`
}

// Socket is what is known of one, but for itself.
type Socket struct {
	TCP        bool  `json:"tcp,omitempty"`
	Final      bool  `json:"final,omitempty"`
	Broken     bool  `json:"broken,omitempty"`
	Nagle      bool  `json:"nagle,omitempty"`      // it has no TCP_NODELAY yet
	Sent       bool  `json:"sent,omitempty"`       // something, since
	Generation int   `json:"generation,omitempty"` // of a leg
	Bytes      int64 `json:"bytes,omitempty"`      // sent on a leg
	Settled    bool  `json:"settled,omitempty"`
}

// Exchange is how far an HTTP/1.1 session is.
type Exchange struct {
	Up     Framer `json:"up"`
	Down   Framer `json:"down"`
	Asking bool   `json:"asking,omitempty"`
	Owed   bool   `json:"owed,omitempty"`
	Began  bool   `json:"began,omitempty"`
	Asked  Facts  `json:"asked"`
	Again  []byte `json:"again,omitempty"`
	Keep   bool   `json:"keep,omitempty"`
	Stuck  bool   `json:"stuck,omitempty"`
}

// Framer is how far one direction of it is.
type Framer struct {
	Step   int    `json:"step,omitempty"`
	Line   []byte `json:"line,omitempty"`
	Head   int    `json:"head,omitempty"`
	Left   int64  `json:"left,omitempty"`
	Facts  Facts  `json:"facts"`
	Length int64  `json:"length"`
	Coded  bool   `json:"coded,omitempty"`
	Chunks bool   `json:"chunks,omitempty"`
}

// Facts of one message.
type Facts struct {
	Head    bool `json:"head,omitempty"`
	Connect bool `json:"connect,omitempty"`
	Safe    bool `json:"safe,omitempty"`
	Body    bool `json:"body,omitempty"`
	Status  int  `json:"status,omitempty"`
	Tunnel  bool `json:"tunnel,omitempty"`
}

// Freeze has nothing happen until Thaw or Leave: no byte is moved, no client is accepted. What comes
// meanwhile waits in the kernel. Operations that are under way go on when it thaws.
//
// Preconditions: Run runs, and its listener is one of package net. errors.ErrUnsupported where sessions
// cannot be handed over (see Transferable). After an error it is thawed.
func (p *Proxy) Freeze(ctx context.Context) error { return p.freeze(ctx) }

// Thaw ends Freeze: all goes on where it was.
func (p *Proxy) Thaw() { p.thaw(false) }

// Leave ends a frozen proxy whose sessions another process has: its sockets are closed here without a
// word to anybody, and Run returns.
func (p *Proxy) Leave() { p.thaw(true) }

// HandOver gives a frozen proxy to each in parcels of at most most sessions, at least one. The sockets are
// lent: who wants to have them duplicates them before it returns. Its error ends it. Nothing is changed.
func (p *Proxy) HandOver(most int, each func(Parcel) error) error { return p.handOver(most, each) }

// Land has a proxy that does not run yet go on with a parcel. It takes the sockets, which do not block,
// also when it fails.
func (p *Proxy) Land(parcel Parcel) error { return p.land(parcel) }
