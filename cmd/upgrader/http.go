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
)

// httpAPI is the HTTP API of all services; nil: there is none.
type httpAPI struct {
	services atomic.Pointer[func() []control.Service] // nil: nothing answers yet
	http     *control.HTTP
	end      context.CancelFunc
	done     sync.WaitGroup
	log      *zap.Logger
}

// openHTTP claims the API's address, so that a mistake is told before the
// server starts.
func (f *flags) openHTTP(log *zap.Logger) (*httpAPI, error) {
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
	h, err := control.ListenHTTP(context.Background(), control.HTTPConfig{
		Address: f.http, Token: token,
		Services: func() []control.Service {
			if services := a.services.Load(); services != nil {
				return (*services)()
			}
			return nil
		},
		Observe: func(err error) { log.Debug("http", zap.Error(err)) },
	})
	if err != nil {
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
	a.end = end
	a.done.Go(func() {
		if err := a.http.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			a.log.Warn("http", zap.Error(err))
		}
	})
}

// close ends it and waits.
func (a *httpAPI) close() {
	switch {
	case a == nil:
	case a.end == nil:
		_ = a.http.Close() // it never answered
	default:
		a.end()
		a.done.Wait()
	}
}
