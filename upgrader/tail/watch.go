package tail

import (
	"sync"
	"time"
)

// A watcher tells that a file has changed, or may have.
type watcher interface {
	changed() <-chan struct{} // one slot
	close()
}

// every is how often a file is looked at where nothing tells of changes.
const every = 50 * time.Millisecond

// poller is the watcher that only looks.
type poller struct {
	ticks chan struct{}
	stop  chan struct{}
	join  sync.WaitGroup
}

func newPoller(interval time.Duration) *poller {
	p := &poller{ticks: make(chan struct{}, 1), stop: make(chan struct{})}
	p.join.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				select {
				case p.ticks <- struct{}{}:
				default:
				}
			case <-p.stop:
				return
			}
		}
	})
	return p
}

func (p *poller) changed() <-chan struct{} { return p.ticks }

func (p *poller) close() {
	close(p.stop)
	p.join.Wait()
}
