package monitor

import (
	"slices"
	"strings"
	"time"

	"github.com/upgrader/upgrader/upgrader/control"
)

// A Board is what is known of the services of an upgrader. The zero value knows nothing.
type Board struct {
	services []*service
	lost     []control.Event // of services that are not known yet
}

// service is what is known of one.
type service struct {
	status control.Status
	steps  []control.Event // of the swap that is under way, or was the last
	heard  time.Time       // when something happened last
}

// stepsKept is how many steps of a swap are remembered: a canary has many.
const stepsKept = 40

// Know takes the statuses of all services.
func (b *Board) Know(all []control.Status) {
	services := make([]*service, 0, len(all))
	for _, st := range all {
		i := slices.IndexFunc(b.services, func(s *service) bool { return s.status.Name == st.Name })
		s := &service{}
		if i >= 0 {
			s = b.services[i]
		}
		s.status = st
		services = append(services, s)
	}
	slices.SortStableFunc(services, func(a, b *service) int { return strings.Compare(a.status.Name, b.status.Name) })
	b.services = services
	lost := b.lost
	b.lost = nil
	for _, e := range lost {
		b.Happened(e)
	}
}

// Happened takes an event.
func (b *Board) Happened(e control.Event) {
	s := b.of(e)
	if s == nil {
		if len(b.lost) < stepsKept {
			b.lost = append(b.lost, e)
		}
		return
	}
	s.heard = e.Time
	s.status.State = e.State // the rest is asked for soon
	switch begins := e.What == "swapping" || e.What == "upgrading" || e.What == "died" && !s.under(); {
	case begins:
		s.steps = []control.Event{e}
	case len(s.steps) > 0 && e.What != "status" && len(s.steps) < stepsKept:
		s.steps = append(s.steps, e)
	}
}

// under reports whether the last swap is still under way.
func (s *service) under() bool {
	if len(s.steps) == 0 {
		return false
	}
	for _, e := range s.steps {
		switch e.What {
		case "rolled-back", "failed", "proved":
			return false
		}
	}
	return true
}

// of finds the service that an event is of.
func (b *Board) of(e control.Event) *service {
	for _, s := range b.services {
		if e.Service == "" || e.Service == s.status.Name {
			return s
		}
	}
	return nil
}
