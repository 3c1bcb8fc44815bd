//go:build !goroutines

package proxy

// add what another process has counted.
func (c *counters) add(n Stats) {
	c.accepted.Add(n.Accepted)
	c.moved.Add(n.Moved)
	c.resumed.Add(n.Resumed)
	c.stayed.Add(n.Stayed)
	c.unconfirmed.Add(n.Unconfirmed)
	c.inFlight.Add(n.InFlight)
	c.reset.Add(n.Reset)
	c.replayed.Add(n.Replayed)
	c.opaque.Add(n.Opaque)
	c.dialFailed.Add(n.DialFailed)
	c.acceptError.Add(n.AcceptError)
	c.rejected.Add(n.Rejected)
	c.idle.Add(n.Idle)
	c.up.Add(n.BytesUp)
	c.down.Add(n.BytesDown)
}

// export is what another process needs to know.
func (x *exchange) export() *Exchange {
	if x == nil {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return &Exchange{
		Up: x.up.export(), Down: x.down.export(), Asking: x.asking, Owed: x.owed, Began: x.began,
		Asked: x.asked.export(), Again: x.again, Keep: x.keep, Stuck: x.stuck,
	}
}

// exchange makes it again.
func (e Exchange) exchange() *exchange {
	x := newExchange()
	x.asking, x.owed, x.began, x.asked, x.again, x.keep, x.stuck = e.Asking, e.Owed, e.Began, e.Asked.facts(), e.Again, e.Keep, e.Stuck
	x.up.restore(e.Up)
	x.down.restore(e.Down)
	return x
}

func (f *framer) export() Framer {
	return Framer{Step: int(f.step), Line: f.line, Head: f.head, Left: f.left, Facts: f.facts.export(), Length: f.length, Coded: f.coded, Chunks: f.chunks}
}

func (f *framer) restore(e Framer) {
	f.step, f.line, f.head, f.left, f.facts = step(e.Step), e.Line, e.Head, e.Left, e.Facts.facts()
	f.length, f.coded, f.chunks = e.Length, e.Coded, e.Chunks
}

func (f facts) export() Facts {
	return Facts{Head: f.head, Connect: f.connect, Safe: f.safe, Body: f.body, Status: f.status, Tunnel: f.tunnel}
}

func (f Facts) facts() facts {
	return facts{head: f.Head, connect: f.Connect, safe: f.Safe, body: f.Body, status: f.Status, tunnel: f.Tunnel}
}
