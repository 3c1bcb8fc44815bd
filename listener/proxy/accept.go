package proxy

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// Accept waits from leastPause to mostPause after it failed for a reason that passes.
const leastPause, mostPause = 5 * time.Millisecond, time.Second

// accept until the listener is closed. A lack of descriptors or memory passes: the clients wait in the queue.
func (p *Proxy) accept() error {
	pause := leastPause
	for {
		if p.room != nil {
			select {
			case p.room <- struct{}{}:
			case <-p.ctx.Done():
				return nil
			}
		}
		c, err := p.config.Public.Accept()
		if err == nil {
			pause = leastPause
			p.begin(c)
			continue
		}
		p.leaveRoom()
		if errors.Is(err, net.ErrClosed) || p.ctx.Err() != nil {
			return nil
		}
		if !passing(err) {
			return fmt.Errorf("proxy: accept: %w", err)
		}
		p.count.acceptError.Add(1)
		p.config.Observe(Event{Kind: AcceptFailed, Err: err})
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.ctx.Done():
			timer.Stop()
			return nil
		}
		pause = min(pause*2, mostPause)
	}
}
