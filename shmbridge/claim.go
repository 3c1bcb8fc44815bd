package shmbridge

import "os"

// Claim writes this process into the bridge page as the upgrader that holds the segment: again, after another one that
// was handed it (Config.Inherited) is gone.
func (s *Segment) Claim() error {
	return s.words.guard(func() error {
		s.words.store(atUpgrader, uint64(os.Getpid()))
		return s.words.flush()
	})
}
