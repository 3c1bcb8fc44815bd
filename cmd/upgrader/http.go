package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/self"
)

// httpAPI is the HTTP API of all services; nil: there is none.
type httpAPI struct {
	services atomic.Pointer[func() []control.Service] // nil: nothing answers yet
	mu       sync.Mutex                               // of end and carried
	http     *control.HTTP
	end      context.CancelFunc
	carried  *os.File // the duplicate that was lent last
	done     sync.WaitGroup
	log      *zap.Logger
}

// openHTTP claims the API's address, so that a mistake is told before the
// server starts.
// Of a predecessor's, in, it takes over the socket.
func (f *flags) openHTTP(log *zap.Logger, in *self.Inheritance) (*httpAPI, error) {
	if f.http == "" || f.http == "off" {
		return nil, nil
	}
	token := ""
	if f.httpToken != "" {
		b, err := os.ReadFile(f.httpToken)
		if err != nil {
			return nil, &exit{exitUsage, fmt.Errorf("--http-token-file: %w", err)}
		}
		if token = strings.TrimSpace(string(b)); token == "" {
			return nil, &exit{exitUsage, fmt.Errorf("--http-token-file %s: the file is empty", f.httpToken)}
		}
	}
	a := &httpAPI{log: log}
	config := control.HTTPConfig{
		Address: f.http, Token: token,
		Services: func() []control.Service {
			if services := a.services.Load(); services != nil {
				return (*services)()
			}
			return nil
		},
		Observe: func(err error) { log.Debug("http", zap.Error(err)) },
	}
	var h *control.HTTP
	var err error
	if socket := in.File("http"); socket != nil {
		h, err = control.InheritHTTP(socket, config)
	} else {
		h, err = control.ListenHTTP(context.Background(), config)
	}
	switch {
	case errors.Is(err, control.ErrAddress):
		return nil, &exit{exitUsage, fmt.Errorf("--http %s: %w", f.http, err)}
	case errors.Is(err, control.ErrNoToken):
		return nil, &exit{exitUsage, fmt.Errorf("--http %s: %w: give --http-token-file", f.http, err)}
	case err != nil:
		return nil, &exit{exitSystem, fmt.Errorf("--http %s: %w", f.http, err)}
	}
	a.http = h
	return a, nil
}

// serve answers from now on, for what services gives at each request.
func (a *httpAPI) serve(services func() []control.Service) {
	if a == nil {
		return
	}
	a.services.Store(&services)
	a.log.Info("http", zap.String("address", a.http.Addr().String()))
	ctx, end := context.WithCancel(context.Background())
	a.mu.Lock()
	a.end = end
	a.mu.Unlock()
	a.done.Go(func() {
		if err := a.http.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			a.log.Warn("http", zap.Error(err))
		}
	})
}

// carry is the socket, for an upgrader that takes over.
func (a *httpAPI) carry() []self.File {
	if a == nil {
		return nil
	}
	f, err := a.http.File()
	if err != nil {
		a.log.Warn("http", zap.Error(err))
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.carried != nil {
		_ = a.carried.Close() // of an attempt that failed
	}
	a.carried = f
	return []self.File{{Name: "http", File: f}}
}

// hangUp takes no more requests; those that came are answered.
func (a *httpAPI) hangUp() {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.end != nil {
		a.end()
	}
}

// close ends it and waits.
func (a *httpAPI) close() {
	if a == nil {
		return
	}
	a.mu.Lock()
	end := a.end
	a.mu.Unlock()
	if end == nil {
		_ = a.http.Close() // it never answered
		return
	}
	end()
	a.done.Wait()
}
