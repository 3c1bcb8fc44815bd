package main

import (
	"context"
	"sync"

	"go.uber.org/zap"

	"github.com/upgrader/upgrader/upgrader"
	"github.com/upgrader/upgrader/upgrader/fleet"
)

// runFleet runs the services of a file.
func (h *host) runFleet() (upgrader.Exit, error) {
	own, handedOver := h.plan.own, sync.Once{}
	c := fleet.Config{
		Name: own.config.Name, Command: []string{"--config", own.configFile}, StateDir: own.config.StateDir, PidFile: own.config.PidFile,
		Self: h.self, NoSelf: h.noSelf, Carry: h.carry,
		Observe: func(service string, e upgrader.Event) {
			h.saw(h.log.With(zap.String("service", service)), service, e)
			if e.What == upgrader.EventHandedOver { // all of them, to one
				handedOver.Do(func() { h.succeeded(e.Pid) })
			}
		},
		Ended: func(e fleet.Ended) {
			if reason := e.Reason(); reason != nil {
				h.log.Error("a service has ended", zap.String("service", e.Service), zap.Int("exit", e.Exit.Code), zap.Error(reason))
			}
			h.up.ended(e.Service)
		},
		Up: func(failed []fleet.Ended) {
			code := 0
			for _, e := range failed {
				if code == 0 {
					code = max(1, e.Exit.Code)
				}
			}
			h.cameUp(code)
		},
	}
	for _, s := range h.plan.services {
		c.Services = append(c.Services, h.adapt(s))
	}
	return fleet.Run(context.Background(), c, func(f *fleet.Fleet) {
		h.obey(f, f.InCharge(), f.Services)
	})
}
