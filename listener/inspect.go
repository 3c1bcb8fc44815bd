package listener

// LanesOn are the lanes of all generations on c, in the order in which they
// were made.
func (s *Set) LanesOn(c *Claim) []*Lane { return s.sys.lanesOn(c) }

// Steered tells whether new connections go to the lane.
func (l *Lane) Steered() bool { return l.isSteered() }

// Meets tells whether a guest that binds sock by itself means the address of c, or one that overlaps
// with it.
func (c *Claim) Meets(sock Socket) bool { return c.meets(sock) }
