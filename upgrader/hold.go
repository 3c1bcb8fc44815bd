package upgrader

import "time"

// hold counts for how long nobody has served while nothing was starting or
// stopping, and has clients refused honestly when that is too long.
type hold struct {
	spent    time.Duration // in earlier times Down, since somebody served
	since    time.Time     // of the one under way
	timer    *time.Timer
	refusing bool
}

// turned is told of each new state.
func (h *hold) turned(s *Service) {
	h.end()
	if !h.since.IsZero() {
		h.spent += time.Since(h.since)
		h.since = time.Time{}
	}
	switch {
	case s.state.served():
		h.spent, h.refusing = 0, false
	case s.state == Down && s.config.HoldMax > 0 && !h.refusing:
		h.since = time.Now()
		h.timer = time.AfterFunc(max(0, s.config.HoldMax-h.spent), func() { s.tell(s.holdTooLong) })
	}
}

func (h *hold) end() {
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
}

// holdTooLong refuses clients until somebody serves.
func (s *Service) holdTooLong() {
	if s.state != Down || s.hold.refusing {
		return
	}
	s.hold.refusing = true
	s.refuseProxies()
	if err := s.set.Refuse(); err != nil {
		s.note(nil, "clients cannot be refused", err)
		return
	}
	s.observe(Event{What: EventRefusing, Warning: true, Message: "nobody has served for longer than hold-max"})
}
