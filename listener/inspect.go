package listener

// LanesOn are the lanes of all generations on c, in the order in which they
// were made.
func (s *Set) LanesOn(c *Claim) []*Lane { return s.sys.lanesOn(c) }

// Steered tells whether new connections go to the lane.
func (l *Lane) Steered() bool { return l.isSteered() }
