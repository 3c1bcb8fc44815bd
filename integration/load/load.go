package load

import (
	"context"
	"sync"
	"time"
)

// client asks one request after the other. It is used by one goroutine.
type client interface {
	// ask makes one request and says what became of it. It may not take longer
	// than the timeout.
	ask() answer
	close()
}

// Load is clients that ask until they are told to stop.
type Load struct {
	config  Config
	stop    context.CancelFunc
	clients sync.WaitGroup

	mu      sync.Mutex
	account *account
	asked   int           // requests begun, for Limit
	changed chan struct{} // closed and made anew whenever an answer came
}

// Start begins to ask. Whoever starts must Stop.
func Start(c Config) (*Load, error) {
	c, err := c.check()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	start := time.Now()
	l := &Load{config: c, stop: cancel, account: newAccount(start), changed: make(chan struct{})}
	for i := range c.Clients {
		l.clients.Go(func() { l.run(ctx, l.newClient(), start, i) })
	}
	return l, nil
}

func (l *Load) newClient() client {
	switch l.config.Protocol {
	case UDP:
		return &udpClient{config: l.config}
	case Lines:
		return &streamClient{config: l.config, exchange: exchangeLine}
	default:
		return &streamClient{config: l.config, exchange: exchangeHTTP}
	}
}

// run asks until the end of ctx or the limit. A request under way is not cut
// short: it is accounted for.
func (l *Load) run(ctx context.Context, c client, start time.Time, index int) {
	defer c.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for n := 0; ctx.Err() == nil; n++ {
		intended := time.Now()
		if l.config.Rate > 0 {
			turn := float64(n*l.config.Clients+index) / l.config.Rate
			intended = start.Add(time.Duration(turn * float64(time.Second)))
			timer.Reset(time.Until(intended))
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
		}
		if !l.ticket() {
			return
		}
		w := c.ask()
		w.intended = intended
		l.add(w)
	}
}

func (l *Load) ticket() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.config.Limit > 0 && l.asked >= l.config.Limit {
		return false
	}
	l.asked++
	return true
}

func (l *Load) add(w answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.account.add(w, time.Now())
	close(l.changed)
	l.changed = make(chan struct{})
}

// Now gives the account so far.
func (l *Load) Now() Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.account.result(time.Now())
}

// Await waits until the account satisfies enough, or for the end of ctx.
func (l *Load) Await(ctx context.Context, enough func(Result) bool) error {
	for {
		l.mu.Lock()
		done, changed := enough(l.account.Result), l.changed
		l.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// AwaitMore waits for n more good answers than there are now.
func (l *Load) AwaitMore(ctx context.Context, n int) error {
	l.mu.Lock()
	goal := l.account.Outcomes[OK] + n
	l.mu.Unlock()
	return l.Await(ctx, func(r Result) bool { return r.Outcomes[OK] >= goal })
}

// Wait waits until the limit is reached.
func (l *Load) Wait() Result {
	l.clients.Wait()
	l.stop()
	return l.Now()
}

// Stop lets no further request begin, waits for those under way and gives the
// account of all.
func (l *Load) Stop() Result {
	l.stop()
	return l.Wait()
}
