package listener

// LanesOn are the lanes of all generations on c, in the order in which they
// were made.
func (s *Set) LanesOn(c *Claim) []*Lane { return s.sys.lanesOn(c) }

// Steered tells whether new connections go to the lane.
func (l *Lane) Steered() bool { return l.isSteered() }

// Share is the percentage of new connections that go to the lanes of its
// generation beside the steered ones; 0: none.
func (l *Lane) Share() int { return l.sharePercent() }

// Meets tells whether a guest that binds sock by itself means the address of c, or one that overlaps
// with it.
func (c *Claim) Meets(sock Socket) bool { return c.meets(sock) }
