package main

import (
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/upgrader/upgrader/integration/load"
)

// A swapper is somebody who can be swapped under load.
type swapper struct {
	recipe
	swap func(*bench, *server) error // asks for it
	// beside is no swap: what is started meanwhile, and stopped again.
	beside *recipe
	server *server
	all    map[string]*hdrhistogram.Histogram // latency by mode
}

// window loads a server by the clock, new connections and kept ones at the
// same time, swaps it in the middle, and waits until its successor answers and
// the old process is gone.
func (b *bench) window(scenario string, w *swapper) error {
	loads := map[string]*load.Load{}
	for _, mode := range modes() {
		c := load.Config{Address: w.server.address, Clients: 16, Rate: b.Amounts.Rate, Timeout: patience}
		if mode == newMode {
			c.PerConnection = 1
		}
		l, err := load.Start(c)
		if err != nil {
			return err
		}
		defer l.Stop()
		loads[mode] = l
	}
	ctx, cancel := b.within()
	defer cancel()
	await := func(d time.Duration) error {
		for _, l := range loads {
			if err := l.AwaitMore(ctx, int(b.Amounts.Rate*d.Seconds())); err != nil {
				return fmt.Errorf("load on %s: %w: %v", w.name, err, l.Now())
			}
		}
		return nil
	}
	if err := await(b.Amounts.Lead); err != nil {
		return err
	}
	at := scenario + "/" + w.name
	if w.beside != nil {
		if err := b.startAndStop(at, *w.beside); err != nil {
			return err
		}
	} else if err := b.timeSwap(ctx, at, w); err != nil {
		return err
	}
	if err := await(b.Amounts.Tail); err != nil {
		return err
	}
	for mode, l := range loads {
		r := l.Stop()
		at := at + "/" + mode
		b.samples.add(at+"/requests", float64(r.Requests))
		b.samples.add(at+"/failed", float64(r.Failed()))
		for _, o := range load.Failures() {
			b.samples.add(at+"/"+string(o), float64(r.Outcomes[o]))
		}
		b.samples.add(at+"/stale", float64(r.Stale))
		b.samples.add(at+"/gap", millis(r.LongestGap))
		if w.all == nil {
			w.all = map[string]*hdrhistogram.Histogram{}
		}
		if w.all[mode] == nil {
			w.all[mode] = newHistogram()
		}
		w.all[mode].Merge(r.Latency)
	}
	b.samples.add(at+"/swaps", 1)
	return nil
}

// timeSwap swaps, and takes the time until the first answer of another
// process and until the old one is gone.
func (b *bench) timeSwap(ctx context.Context, at string, w *swapper) error {
	old, err := ask(w.server.address)
	if err != nil {
		return err
	}
	process, err := watch(old)
	if err != nil {
		return err
	}
	defer func() { _ = process.Close() }() // only watched
	began := time.Now()
	gone := make(chan error, 1)
	var goneAfter time.Duration
	go func() {
		err := awaitGone(process, began.Add(patience))
		goneAfter = time.Since(began)
		gone <- err
	}()
	if err := w.swap(b, w.server); err != nil {
		<-gone
		return err
	}
	for {
		pid, err := ask(w.server.address)
		if err == nil && pid != old {
			break
		}
		if ctx.Err() != nil {
			<-gone
			return fmt.Errorf("%s: no successor answers: %w (%v)\n%s", w.name, ctx.Err(), err, w.server.output())
		}
		pause(time.Millisecond)
	}
	b.samples.add(at+"/new", millis(time.Since(began)))
	if err := <-gone; err != nil {
		return fmt.Errorf("%s: %w\n%s", w.name, err, w.server.output())
	}
	b.samples.add(at+"/gone", millis(goneAfter))
	return nil
}

// startAndStop takes the time from the exec of a server to its first answer.
func (b *bench) startAndStop(at string, r recipe) error {
	began := time.Now()
	s, err := b.serve(r)
	if err != nil {
		return err
	}
	b.samples.add(at+"/start", millis(time.Since(began)))
	return s.stop()
}

// finish adds what is known at the end only, and stops the server.
func (b *bench) finish(scenario string, w *swapper) error {
	for mode, h := range w.all {
		b.samples.add(scenario+"/"+w.name+"/"+mode+"/p99.9", float64(h.ValueAtQuantile(99.9))/1000)
	}
	return w.server.stop()
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// stopAndStart is a swap by somebody who has no upgrader. Both times are the
// server's own, under the same load.
func stopAndStart(scenario string) func(*bench, *server) error {
	return func(b *bench, s *server) error {
		at := scenario + "/" + stopThenStart
		began := time.Now()
		if err := s.stop(); err != nil {
			return err
		}
		stopped := time.Now()
		if err := s.again(); err != nil {
			return err
		}
		if _, err := b.firstAnswer(s); err != nil {
			return err
		}
		b.samples.add(at+"/stop", millis(stopped.Sub(began)))
		b.samples.add(at+"/start", millis(time.Since(stopped)))
		return nil
	}
}
