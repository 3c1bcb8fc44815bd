package control

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
)

// Result is what became of a request for one service.
type Result struct {
	Server    string     `json:"server"`
	ID        string     `json:"id,omitempty"`
	Status    *Status    `json:"status,omitempty"`
	Verdict   *Verdict   `json:"verdict,omitempty"`
	Message   string     `json:"message,omitempty"`
	Snapshots []Snapshot `json:"snapshots,omitempty"`
	Error     *Error     `json:"error,omitempty"`
}

// ListenFor is Listen for a fleet: a request says which of the services it is
// for, and each answer says of which one it is. What services gives is asked
// for with each request; names in it are unique and never empty.
//
// Preconditions: those of Listen.
func ListenFor(dir string, services func() []Service) (*Server, error) {
	s, err := Listen(dir, nil)
	if err == nil {
		s.services = services
	}
	return s, err
}

// InheritFor is Inherit for a fleet.
func InheritFor(f *os.File, dir string, services func() []Service) (*Server, error) {
	s, err := Inherit(f, dir, nil)
	if err == nil {
		s.services = services
	}
	return s, err
}

// chosen gives the services that q is for. Who asks how things are, or for an
// end, means all of them unless some are named.
func (s *Server) chosen(ctx context.Context, q Request) ([]Service, *Error) {
	all := []Service{{Handler: s.handler}}
	if s.services != nil {
		all = s.services()
	} else if len(q.Services) > 0 {
		st, err := s.handler.Status(ctx)
		if err != nil {
			return nil, toError(err)
		}
		all[0].Server, all[0].ID = st.Name, st.ID
	}
	if len(q.Services) == 0 {
		switch general := q.Do == DoStatus || q.Do == DoEvents || q.Do == DoStop || q.Do == DoSelfUpgrade; {
		case len(all) == 1, q.All, general:
			return all, nil
		default:
			return nil, &Error{CodeBadRequest, "there are several services: name those that are meant, or say --all: " + names(all)}
		}
	}
	var some []Service
	for _, want := range q.Services {
		before := len(some)
		for _, one := range all {
			if one.Server == want || one.ID == want && want != "" {
				some = append(some, one)
			}
		}
		if len(some) == before {
			return nil, &Error{CodeUnknown, fmt.Sprintf("there is no service %.64q here, only %s", want, names(all))}
		}
	}
	if q.Do == DoSelfUpgrade {
		return all, nil // whoever is named, their upgrader is meant
	}
	slices.SortStableFunc(some, func(a, b Service) int { return strings.Compare(a.Server, b.Server) })
	return slices.CompactFunc(some, func(a, b Service) bool { return a.Server == b.Server }), nil
}

func names(all []Service) string {
	list := make([]string, len(all))
	for i, s := range all {
		list[i] = s.Server
	}
	return strings.Join(list, ", ")
}

// answerFleet gives the last line for q to a fleet.
func (s *Server) answerFleet(ctx context.Context, q Request, services []Service, l *lines) reply {
	last := reply{Done: true, Results: make([]Result, len(services))}
	each := func(i int) {
		one := services[i]
		r := Result{Server: one.Server, ID: one.ID}
		switch q.Do {
		case DoStatus:
			st, err := one.Handler.Status(ctx)
			if err != nil {
				r.Error = toError(err)
				break
			}
			st.fill()
			r.Status = &st
		case DoEvents:
			err := one.Handler.Events(ctx, func(e Event) error {
				e.Service = one.Server
				return l.write(reply{Event: &e})
			})
			if err != nil && ctx.Err() == nil {
				r.Error = toError(err)
			}
		default:
			r, _ = ask(ctx, one, q)
		}
		last.Results[i] = r
	}
	if q.Do != DoEvents && q.Do != DoStop && q.Do != DoSelfUpgrade { // restarts come one after the other
		for i := range services {
			each(i)
		}
		return last
	}
	var all sync.WaitGroup
	for i := range services {
		all.Go(func() { each(i) })
	}
	all.Wait()
	return last
}

// only gives the one result of a fleet's answer the place that a single
// service's has.
func (p reply) only() (reply, error) {
	switch {
	case p.Results == nil:
		return p, nil
	case len(p.Results) != 1:
		return reply{}, &Error{CodeBadRequest, "several services answered"}
	}
	r := p.Results[0]
	if r.Error != nil {
		return reply{}, fmt.Errorf("control: %s: %w", r.Server, r.Error)
	}
	p.Status, p.Verdict, p.Message, p.Snapshots = r.Status, r.Verdict, r.Message, r.Snapshots
	return p, nil
}

// For gives a client whose requests are for the services that are called so,
// by name or ID; without any, for the only one, or for whichever a request
// means that names none.
func (c *Client) For(services ...string) *Client {
	clone := *c
	clone.services = services
	return &clone
}

// All gives a client whose requests are for all services of a fleet, unless
// some are named.
func (c *Client) All() *Client {
	clone := *c
	clone.all = true
	return &clone
}

// Some reports whether requests name services.
func (c *Client) Some() bool { return len(c.services) > 0 }

// Each asks for q and gives what became of it for each service. fleet: it is
// an upgrader of several, though only one may have been meant.
func (c *Client) Each(ctx context.Context, q Request) (results []Result, fleet bool, err error) {
	p, err := c.converse(ctx, q, nil)
	switch {
	case err != nil:
		return nil, false, err
	case p.Results != nil:
		return p.Results, true, nil
	}
	r := Result{Status: p.Status, Verdict: p.Verdict, Message: p.Message, Snapshots: p.Snapshots}
	if p.Status != nil {
		r.Server, r.ID = p.Status.Name, p.Status.ID
	}
	return []Result{r}, false, nil
}
