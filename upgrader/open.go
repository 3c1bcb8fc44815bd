package upgrader

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/process"
	"github.com/upgrader/upgrader/upgrader/state"
)

// files are what a service keeps in the file system and gives back at its end.
type files struct {
	dir     *state.Dir
	lock    *state.Lock
	pid     *state.PidFile
	status  *state.StatusFile
	control *control.Server
	save    chan saving // the newest state that is not written yet
}

// open takes everything that lasts as long as the service: the state dir and
// its lock, the claims, the files and the control socket. What a killed
// upgrader left behind is found here.
func (s *Service) open() error {
	dir, err := state.Open(s.config.StateDir)
	if err != nil {
		return err
	}
	s.files.dir = dir
	in := s.config.Self.Inherited()
	if in == nil {
		if s.files.lock, err = dir.Lock(s.config.Name, s.config.Command); err != nil {
			return err
		}
	}
	s.config.StateDir = dir.Path()
	if s.config.User != nil { // its notify socket lies there; all files in it are for their owner alone
		if err := os.Chmod(dir.Path(), 0o711); err != nil {
			return fmt.Errorf("upgrader: let the server reach its notify socket: %w", err)
		}
	}
	s.mark = rand.Text()
	if err := process.Subreaper(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if s.config.Fleet == nil {
		s.spawn(func() { _ = s.reaper.Run(s.run) }) // it ends with run
	}
	s.set = listener.NewSet(listener.Config{Observe: s.laneEvent, Held: s.held})
	if err := s.openStore(); err != nil {
		return err
	}
	var found remembered
	if in != nil {
		err = s.succeed(in)
	} else {
		found, err = s.remember()
	}
	if err != nil {
		return err
	}
	if err := s.adoptOutsider(); err != nil {
		return err
	}
	if f := s.config.Adopt; f != nil && len(found.Generations) == 0 && in == nil {
		if err := s.adoptForeign(*f); err != nil {
			return err
		}
	}
	err = s.openMemory()
	if errors.Is(err, shmbridge.ErrMapped) && len(found.Generations) == 0 && in == nil {
		// One that was being started when the last upgrader was killed had not executed its command at the first look.
		if late, e := s.remember(); e == nil && len(late.Generations) > 0 {
			found, err = late, s.openMemory()
		}
	}
	if err != nil {
		return err
	}
	s.recall(found)
	if s.serving != nil && len(found.Generations) == 0 && in == nil {
		s.lendTo(s.serving)
	}
	if s.config.Outsiders != nil {
		s.spawn(s.watchOutsiders)
	}
	if len(s.generations) == 0 && in == nil {
		s.sweep()
	}
	for _, a := range s.config.Listen {
		c, err := s.set.Claim(s.run, a)
		if err != nil {
			return err
		}
		s.claims = append(s.claims, c)
		s.observe(Event{What: EventClaimed, Message: c.String()})
	}
	if err := s.openProxies(found.Private); err != nil {
		return err
	}
	if s.serving != nil {
		s.serveProxies(s.serving)
	}
	s.intercepts = s.config.Intercept == InterceptOn || s.config.Intercept == InterceptAuto && len(s.claims) == 0
	if in != nil {
		s.intercepts = s.intercepts && s.inheritance.handed.Intercepts
		return nil // the rest is the old upgrader's, until we are in charge
	}
	if s.config.Intercept == InterceptOff && len(s.claims)+len(s.config.Proxies) == 0 {
		s.note(nil, "no address is claimed and no bind taken over: no port is kept for the server", nil)
	}
	if s.config.PidFile != "" {
		if s.files.pid, err = state.WritePidFile(state.PidFileConfig{Path: s.config.PidFile}); err != nil {
			return err
		}
	}
	if s.config.StatusFile != "" {
		s.files.status = state.NewStatusFile(s.config.StatusFile)
		if err := s.files.status.Write(nil); err != nil {
			return err
		}
	}
	if s.config.Fleet == nil {
		server, err := control.Listen(s.config.StateDir, handler{s})
		if err != nil {
			return err
		}
		s.answerQuestions(server)
	}
	s.keepStates()
	close(s.charge)
	return nil
}

// answerQuestions runs the control socket.
func (s *Service) answerQuestions(server *control.Server) {
	s.files.control = server
	s.spawn(func() {
		if err := server.Run(s.run); err != nil {
			s.tell(func() { s.note(nil, "the control socket is gone", err) })
		}
	})
}

// keepStates has states written down from now on.
func (s *Service) keepStates() {
	s.files.save = make(chan saving, 1)
	s.spawn(s.saveStates)
}

// closeFiles gives back what open took from the file system. The lock is the
// last: until then nobody else writes there.
func (s *Service) closeFiles() {
	f := &s.files
	if f.status != nil {
		_ = f.status.Remove() // it is rewritten by the next one
	}
	if f.pid != nil {
		_ = f.pid.Remove() // a stale one is recognised
	}
	if f.dir != nil && f.lock != nil && s.state == Stopped { // else a server may be left, and is to be found
		s.sweep()
		_ = f.dir.Forget() // a state without living processes is ignored
	}
	if f.lock != nil {
		_ = f.lock.Release() // the kernel does at exit
	}
}

// leftovers are what the names begin with of what a generation has in the state dir.
var leftovers = []string{"notify.", "einhorn.", "stderr.", "script-"}

// sweep removes what generations that are gone left in the state dir.
func (s *Service) sweep() {
	entries, err := os.ReadDir(s.config.StateDir)
	if err != nil {
		return // what is there stays until the next start
	}
	for _, e := range entries {
		if slices.ContainsFunc(leftovers, func(prefix string) bool { return strings.HasPrefix(e.Name(), prefix) }) {
			_ = os.Remove(filepath.Join(s.config.StateDir, e.Name())) // tried again at the next start
		}
	}
}

// laneEvent passes on what the lanes have to tell.
func (s *Service) laneEvent(e listener.Event) {
	if e.Kind == listener.Steered || e.Kind == listener.Closed {
		return
	}
	message := string(e.Kind)
	if e.Claim != nil {
		message += " on " + e.Claim.String()
	}
	go s.tell(func() {
		switch e.Kind {
		case listener.Rescued:
			s.totals.Relayed++
		case listener.RescueLost:
			s.totals.Lost++
		}
		s.observe(Event{What: EventNote, Generation: e.Generation, Message: message, Err: e.Err, Warning: e.Err != nil})
	})
}

// writeStatusFile tells which generations run that were ready once: who waits
// for a swap by reading it must not take a start that fails for one.
func (s *Service) writeStatusFile() {
	if s.files.status == nil {
		return
	}
	pids := map[int]int{}
	for n, g := range s.generations {
		if g.pid() != 0 && !g.ready.IsZero() {
			pids[n] = g.pid()
		}
	}
	if err := s.files.status.Write(pids); err != nil {
		s.note(nil, "the status file cannot be written", err)
	}
}

// save has what a next upgrader needs to know written down, soon: the newest
// state wins.
func (s *Service) save() { s.saveFor() }

// saving is a state, and who waits until it, or a newer one, is written.
type saving struct {
	state   []byte
	waiting []chan<- struct{} // closed then
}

// saveFor is save, with somebody who waits.
func (s *Service) saveFor(waiting ...chan<- struct{}) {
	if s.files.save == nil || s.set == nil || s.handing != nil && s.handing.sealed {
		for _, w := range waiting {
			close(w)
		}
		return
	}
	b, err := json.Marshal(s.remembered())
	if err != nil {
		s.note(nil, "the state cannot be written", err)
		for _, w := range waiting {
			close(w)
		}
		return
	}
	select {
	case old := <-s.files.save:
		waiting = append(old.waiting, waiting...)
	default:
	}
	s.files.save <- saving{state: b, waiting: waiting}
}

// saved is closed when the state as it is now is written: what must be found
// again comes after that. It is for goroutines.
func (s *Service) saved() <-chan struct{} {
	done := make(chan struct{})
	if !s.tell(func() { s.saveFor(done) }) {
		close(done)
	}
	return done
}

func (s *Service) saveStates() {
	failed := false
	for {
		select {
		case next := <-s.files.save:
			err := s.files.dir.Save(next.state)
			for _, w := range next.waiting {
				close(w)
			}
			if err != nil && !failed {
				s.tell(func() { s.note(nil, "", fmt.Errorf("the state cannot be written: %w", err)) })
			}
			failed = err != nil
		case <-s.run.Done():
			return
		}
	}
}
