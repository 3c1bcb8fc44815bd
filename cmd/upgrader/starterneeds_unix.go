//go:build unix

package main

import (
	"context"
	"os"
	"time"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/upgrader"
)

// listen gives all the addresses, and the descriptor numbers that were asked
// for by their index.
func (s *starter) listen() ([]listener.Address, map[int]int, error) {
	var all []listener.Address
	numbers := map[int]int{}
	for _, spec := range s.ports {
		a, fd, err := parsePort(spec, s.backlog)
		if err != nil {
			return nil, nil, err
		}
		if fd >= 0 {
			numbers[len(all)] = fd
		}
		all = append(all, a)
	}
	for _, path := range s.paths {
		a, err := parsePath(path, s.backlog)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, a)
	}
	return all, numbers, nil
}

// timeout reads one of our own variables.
func timeout(key string, otherwise time.Duration) (time.Duration, error) {
	v := os.Getenv(key)
	if v == "" {
		return otherwise, nil
	}
	n, err := parseSeconds(v)
	if err != nil {
		return 0, err
	}
	return time.Duration(n), nil
}

// run asks for swaps until ctx ends. Whether any are wanted can change at any
// time: the directory of variables says so too.
func (a *autoRestart) run(ctx context.Context, s *upgrader.Service) {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if a.due(now) {
				s.Swap("auto-restart")
			}
		}
	}
}
