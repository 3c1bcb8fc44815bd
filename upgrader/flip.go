package upgrader

import (
	"encoding/gob"
	"fmt"
	"os"

	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/listener/notify"
	"github.com/upgrader/upgrader/upgrader/launch"
)

// flip is our side of what a program that uses tableflip shares with its
// parent, which we stand for.
type flip struct {
	ready *os.File // it writes one byte here when it is ready
	names *os.File // closing it says that its predecessor is gone; nil: that was said
}

// flipReady is that byte.
const flipReady = 42

// openFlip makes the pipes and says the names of the lanes; nil when the server
// does not speak tableflip's dialect. theirs are lent to the order.
func (s *Service) openFlip(o *launch.Order, lanes []dialect.Lane) (f *flip, theirs []*os.File, err error) {
	if !dialect.Flips(s.config.Dialects) {
		return nil, nil, nil
	}
	f = &flip{}
	var readyW, namesR *os.File
	if f.ready, readyW, err = os.Pipe(); err != nil {
		return nil, nil, fmt.Errorf("upgrader: a pipe for tableflip: %w", err)
	}
	if namesR, f.names, err = os.Pipe(); err != nil {
		return f, []*os.File{readyW}, fmt.Errorf("upgrader: a pipe for tableflip: %w", err)
	}
	o.Files = append(o.Files, launch.Passed{File: readyW, Number: 3}, launch.Passed{File: namesR, Number: 4})
	if err = gob.NewEncoder(f.names).Encode(dialect.FlipNames(lanes)); err != nil { // a pipe takes 64 KiB
		err = fmt.Errorf("upgrader: tell tableflip the names of its sockets: %w", err)
	}
	return f, []*os.File{readyW, namesR}, err
}

func (f *flip) close() {
	if f == nil {
		return
	}
	for _, file := range []*os.File{f.ready, f.names} {
		if file != nil {
			_ = file.Close() // all was written that was to be
		}
	}
}

// hearFlip takes the byte for READY=1.
func (s *Service) hearFlip(g *generation, first int, f *flip) {
	b := make([]byte, 1)
	if n, _ := f.ready.Read(b); n == 1 && b[0] == flipReady { // else it is gone, or does not use it
		s.heard(g, first, notify.Message{Pid: first, Ready: true})
	}
}

// predecessorsGone tells the only generation that is left that it is.
func (s *Service) predecessorsGone() {
	for _, g := range s.generations {
		if g.flip != nil && !g.ready.IsZero() && len(s.generations) == 1 && g.flip.names != nil {
			_ = g.flip.names.Close() // it was written
			g.flip.names = nil
		}
	}
}
