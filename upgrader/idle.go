package upgrader

import "time"

// Idle is a setting that has no effect, given the others.
type Idle struct {
	Flag string // its name
	Why  string // one line
}

// Idle tells which of the settings that were given do nothing beside the
// others. What Check refuses has none.
func (c Config) Idle(given func(flag string) bool) (idle []Idle) {
	if c.check() != nil {
		return nil
	}
	never := func(d time.Duration) bool { return d >= max(c.StopTimeout, c.DrainTimeout, c.SwapTimeout) }
	if c.StopTimeout == 0 || c.DrainTimeout == 0 || c.SwapTimeout == 0 { // one of them waits for ever
		never = func(time.Duration) bool { return false }
	}
	for _, r := range []struct {
		flag string
		off  bool
		why  string
	}{
		{"retire-delay", c.Strategy == Exclusive && c.Quit == nil, "with --strategy exclusive the predecessor is gone before the commit"},
		{"graceful-timeout", never(c.Insist), "KILL comes first, after --stop-timeout or --drain-timeout"},
		{"linger-timeout", never(c.Linger) && c.Quit == nil, "KILL comes first, after --stop-timeout or --drain-timeout"},
		{"retry-interval", c.RetryMax <= 1 && !c.Persistent, "it is the pause before the second retry, and --retry-max allows no second one"},
	} {
		if r.off && given(r.flag) {
			idle = append(idle, Idle{r.flag, r.why})
		}
	}
	return idle
}
