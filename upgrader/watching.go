package upgrader

import (
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/watch"
)

// watchCommand asks for a swap whenever the command's file is another one.
func (s *Service) watchCommand() {
	if !s.config.Watch {
		return
	}
	held, err := launch.HoldIn(s.config.Dir, s.config.Command[0])
	if err != nil {
		s.note(nil, "the command's file cannot be watched", err)
		return
	}
	path := held.Name
	_ = held.Close() // it was only looked for
	w, err := watch.New(watch.Config{
		Path:    path,
		Changed: func() { s.tell(s.deployed) },
		Refused: func(err error) { s.tell(func() { s.note(nil, "a new file is there, but is not deployed", err) }) },
	})
	if err != nil {
		s.note(nil, "the command's file cannot be watched", err)
		return
	}
	s.spawn(func() {
		if err := w.Run(s.run); err != nil {
			s.tell(func() { s.note(nil, "the command's file is no longer watched", err) })
		}
	})
}

// deployed is told that the command's file is another one. Somebody may have
// asked for a swap to it already.
func (s *Service) deployed() {
	for _, g := range []*generation{s.starting, s.serving} {
		if g == nil || g.recipe == nil {
			continue
		}
		if g.recipe.held.Same() {
			return
		}
		break
	}
	s.askSwap(control.AskedWatch, nil, nil)
}
