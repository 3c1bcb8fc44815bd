package upgrader

import "sync"

// hub hands events to subscribers. One that does not keep up loses the oldest
// of its events, never ours.
type hub struct {
	mu   sync.Mutex
	subs map[chan Event]struct{}
}

// subscribe gives a channel of what happens from now on and a func that ends
// it. The channel is never closed.
func (h *hub) subscribe() (<-chan Event, func()) {
	c := make(chan Event, 256)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subs == nil {
		h.subs = make(map[chan Event]struct{})
	}
	h.subs[c] = struct{}{}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.subs, c)
	}
}

func (h *hub) publish(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.subs {
		for {
			select {
			case c <- e:
			default:
				select {
				case <-c:
				default:
				}
				continue
			}
			break
		}
	}
}
