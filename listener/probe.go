package listener

import "context"

// Probe connects to the lanes of gen, one on each stream claim, and waits
// until a process of it has accepted. Nobody else's connections go there: the
// program of the group knows the probe by its source port. It tries until ctx
// ends, and says then which address was not served.
func (s *Set) Probe(ctx context.Context, gen int) error { return s.sys.probe(ctx, gen) }
