package proxy

import "sync"

// maxReplay is the longest request that is kept until its response begins.
const maxReplay = 16 << 10

// exchange is what both directions of an HTTP/1.1 session know of one another.
type exchange struct {
	up   framer // the up pump's, while it runs
	down framer // the owner's

	mu     sync.Mutex
	asking bool   // a request was begun and is not complete
	owed   bool   // a request was begun, and its response is not complete
	began  bool   // the response has begun
	asked  facts  // the request's
	again  []byte // the request as it was sent, while it may be sent again
	keep   bool   // again is whole so far
	stuck  bool   // no more messages are followed: a tunnel, or not understood
}

func newExchange() *exchange {
	x := &exchange{}
	x.down.response = true
	x.up.length, x.down.length = -1, -1
	return x
}

func (x *exchange) pinned() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.stuck
}

func (x *exchange) pin() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stuck, x.again, x.keep = true, nil, false
}

// boundary is true when nothing is owed in either direction.
func (x *exchange) boundary() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.owed && !x.asking
}

// started is true when a response has begun and is not complete.
func (x *exchange) started() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.owed && x.began
}

// request takes bytes of one request, before they are sent.
func (x *exchange) request(b []byte) (int, error) {
	n, done, err := x.up.feed(b)
	if err != nil {
		return 0, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.asking {
		x.asking, x.owed, x.began, x.keep, x.again = true, true, false, true, x.again[:0]
	}
	x.asked = x.up.facts
	if x.keep = x.keep && !x.began && len(x.again)+n <= maxReplay; x.keep {
		x.again = append(x.again, b[:n]...)
	}
	if done {
		x.asking = false
		x.keep = x.keep && x.asked.safe && !x.asked.body
		if x.began && x.down.between() { // answered before it was complete
			x.owed = false
		}
	}
	return n, nil
}

// response takes bytes of responses; complete: one ends with them. Bytes after the end of a response
// that nobody asked for are an error.
func (x *exchange) response(b []byte) (complete bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.owed {
		return false, malformed("a response that was not asked for")
	}
	x.began, x.keep = true, false
	x.down.facts.head, x.down.facts.connect = x.asked.head, x.asked.connect
	n, done, err := x.down.feed(b)
	if err != nil {
		return false, err
	}
	if !done {
		return false, nil
	}
	if x.down.facts.tunnel {
		x.stuck, x.again = true, nil
		return true, nil
	}
	if n < len(b) {
		return false, malformed("bytes after a response")
	}
	if cap(x.again) > 2048 {
		x.again = nil
	}
	if !x.asking {
		x.owed = false
	}
	return true, nil
}

// untilEnd is true within a response that the end of the connection completes.
func (x *exchange) untilEnd() bool { return x.down.step == stepUntilEnd }

// replay gives the request that was sent and not answered at all, if it is safe to send it again, and
// forgets it.
func (x *exchange) replay() ([]byte, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.owed || x.began || x.asking || !x.keep {
		return nil, false
	}
	b := x.again
	x.owed, x.keep, x.again = false, false, nil
	return b, true
}
