package upgrader

import (
	"errors"
	"sync"

	"github.com/upgrader/upgrader/upgrader/process"
)

// lives tells whether a generation is gone or going, to whoever asks: the
// loop, which writes it, is not waited for.
type lives struct {
	mu  sync.RWMutex
	all map[int]life
}

type life struct {
	going bool          // it was asked to quit, or is being killed
	main  *process.Life // of its main process; nil: not known
}

// begin is told which process stands for a generation from now on.
func (l *lives) begin(generation int, main process.Identity) {
	now := life{}
	if main.Start != 0 {
		if seen, err := main.Life(); err == nil {
			now.main = seen
		} else {
			now.going = errors.Is(err, process.ErrGone)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[int]life{}
	}
	before := l.all[generation]
	now.going = now.going || before.going
	l.all[generation] = now
	before.close()
}

// leave is told that a generation will not serve any more.
func (l *lives) leave(generation int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if before, known := l.all[generation]; known {
		before.going = true
		l.all[generation] = before
	}
}

// end is told that nothing of a generation is left.
func (l *lives) end(generation int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[generation].close()
	delete(l.all, generation)
}

func (l life) close() {
	if l.main != nil {
		l.main.Close()
	}
}

// departed reports whether a generation is gone or going.
func (l *lives) departed(generation int) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	now, known := l.all[generation]
	return !known || now.going || now.main != nil && now.main.Ends()
}
