package listener

// load looks at the sockets of a claim.
func (s *system) load(c *Claim) (Load, error) {
	s.lock()
	at, closed := c.at, s.closed
	ours := map[uint64]bool{}
	for _, l := range c.all {
		ours[l.cookie] = l.state == laneMember
	}
	s.unlock()
	out := Load{Queues: map[uint64]int{}, InFlight: -1}
	if closed {
		return out, ErrClosed
	}
	listening := func(d diagSocket) {
		if d.state == stateListen && ours[d.cookie] {
			out.Queues[d.cookie] = int(d.unread)
		}
	}
	switch at.network {
	case "tcp":
		sockets, err := diagInet(at, 1<<stateListen|1<<stateEstablished|1<<stateCloseWait, true)
		if err != nil {
			return out, err
		}
		out.InFlight = 0
		for _, d := range sockets {
			listening(d)
			if d.state != stateListen && d.inode != 0 && d.busy() {
				out.InFlight++
			}
		}
	case "unix":
		return out, diagUnix(1<<stateListen, listening)
	}
	return out, nil
}
