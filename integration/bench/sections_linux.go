package main

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/upgrader/upgrader/integration/load"
)

func goVersion() string { return runtime.Version() }

// section is one scenario on the page.
type section struct {
	scenario, title, text string
	table                 table
}

func (p *page) sections() []section {
	return []section{p.throughput(), p.swaps(), p.exclusive(), p.startUp(), p.memory(), p.calls(), p.segment(), p.proxy(), p.proxyTime(), p.deploy()}
}

// lacks adds the row of somebody who was not measured, and tells whether it did.
func (p *page) lacks(t *table, scenario, who string) bool {
	why, missing := p.samples.Missing[scenario+"/"+who]
	if missing {
		t.add(who, why)
	}
	return missing
}

func (p *page) throughput() section {
	a := p.options.amounts
	t := table{head: []string{"who", "clients", "requests/s", "of the server alone", "p99.9 ms", "of the server alone", "failed"}}
	for _, mode := range modes() {
		for _, who := range []string{bare, bareAgain, listens, ownBind} {
			at := func(measure string) series { return p.samples.get("throughput/%s/%s/%s", mode, who, measure) }
			rate, tail := "1", "1"
			if who != bare {
				rate, tail = spread(p.ratio(mode, who, "rate"), 3), spread(p.ratio(mode, who, "p99.9"), 3)
			}
			t.add(who, mode, number(at("rate").median(), 0), rate, number(at("p99.9").median(), 2), tail, number(at("failed").sum(), 0))
		}
	}
	return section{"throughput", "With and without the upgrader", fmt.Sprintf(
		"A closed loop of %d clients asks a Go server (net/http) as fast as it answers. %d blocks with servers of their own; in each, all take turns twice, forth and back, "+
			"%v at a time. A ratio is taken within a block. The server alone takes part twice: how far it is from itself is the noise. A goal of 1.00 counts as met where the interval holds it or is better.",
		a.Clients, a.Blocks, a.Slice), t}
}

func (p *page) swaps() section {
	a := p.options.amounts
	t := table{head: []string{"who", "swaps", "failed of requests", "stale", "asked to new answers, ms, median / worst", "beyond own start", "asked to old gone", "beyond own start, settle, own stop",
		"longest gap ms, new connections, median / worst", "kept connections", "p99.9 ms, new", "kept"}}
	for _, who := range []string{besideGuest, listens, ownBind, starter, stopThenStart, besideNginx, wrappedNginx, reload} {
		if p.lacks(&t, "swaps", who) {
			continue
		}
		at := func(format string, arguments ...any) series {
			return p.samples.get("swaps/"+who+"/"+format, arguments...)
		}
		beyond, all := "–", "–"
		if who == listens || who == ownBind || who == starter || who == wrappedNginx {
			beyond = number(p.beyondStart(who).median(), 1)
		}
		if who == listens || who == ownBind {
			all = number(p.beyondAll(who).median(), 1)
		}
		t.add(who, number(at("swaps").sum(), 0), p.failed("swaps", who), number(at("%s/stale", keptMode).sum(), 0),
			worst(at("new"), 1), beyond, worst(at("gone"), 1), all, worst(at("%s/gap", newMode), 1), worst(at("%s/gap", keptMode), 1),
			number(at("%s/p99.9", newMode).median(), 1), number(at("%s/p99.9", keptMode).median(), 1))
	}
	return section{"swaps", "Swaps", fmt.Sprintf(
		"16 clients with a new connection for each request and 16 that keep theirs, %.0f requests/s each by the clock. The Go server warms up for %v. Everybody is asked by signal; "+
			"own start is exec to first answer of the same server beside one that serves the same load: %s ms (Go), %s ms (nginx); own stop is TERM to gone under it: %s ms. "+
			"The upgrader waits for its settle (%d ms) before it asks the old server to quit; Server::Starter waits a second by itself. A reload of nginx starts workers, no server. "+
			"Stale: kept connections that the client found closed, and replaced before it asked.",
		a.Rate, a.WarmUp, number(p.ownStart(listens), 1), number(p.ownStart(wrappedNginx), 1), number(p.ownStop(), 1), settle), t}
}

// failed tells how many requests of both modes failed, and how.
func (p *page) failed(scenario, who string) string {
	text := fmt.Sprintf("%.0f of %.0f", p.total(scenario, who, "failed"), p.total(scenario, who, "requests"))
	var classes []string
	for _, o := range load.Failures() {
		if n := p.total(scenario, who, string(o)); n > 0 {
			classes = append(classes, fmt.Sprintf("%s %.0f", o, n))
		}
	}
	if len(classes) > 0 {
		text += " (" + strings.Join(classes, ", ") + ")"
	}
	return text
}

// total is the sum of a measure over both modes.
func (p *page) total(scenario, who, measure string) float64 {
	sum := 0.0
	for _, mode := range modes() {
		sum += p.samples.get("%s/%s/%s/%s", scenario, who, mode, measure).sum()
	}
	return sum
}

func (p *page) exclusive() section {
	t := table{head: []string{"who", "swaps", "failed of requests", "longest gap ms, new connections, median / worst", "beyond own stop + start", "kept connections", "settle", "stop", "start"}}
	for _, who := range []string{stopThenStart, exclusive, exclusiveBare} {
		at := func(format string, arguments ...any) series {
			return p.samples.get("exclusive/"+who+"/"+format, arguments...)
		}
		quiet, stop, start := at("phase settle"), at("phase stop"), at("phase start")
		if who == stopThenStart {
			stop, start = at("stop"), at("start")
		}
		t.add(who, number(at("swaps").sum(), 0), p.failed("exclusive", who), worst(at("%s/gap", newMode), 1), spread(p.exclusiveBeyond(who), 2),
			worst(at("%s/gap", keptMode), 1), number(quiet.median(), 1), number(stop.median(), 1), number(start.median(), 1))
	}
	return section{"exclusive", "Swaps without overlap",
		"The same load. Here a gap is bound to be: the successor starts when the predecessor is gone. What the server alone takes from TERM to gone and from exec to first answer " +
			"is measured in turns with the swaps; the last columns are the phases of the verdict (medians, ms). Clients of the upgrader wait in the queue meanwhile, those of the server alone are refused.", t}
}

func (p *page) startUp() section {
	t := table{head: []string{"who", "exec to first answer ms", "over a bare exec", "worst"}}
	for _, who := range []string{bare, floor, linked, listens, ownBind, tini, dumbInit, starter} {
		if p.lacks(&t, "start-up", who) {
			continue
		}
		s := p.samples.get("start-up/%s", who)
		t.add(who, number(s.median(), 2), spread(p.startOver(who), 2), number(s.max(), 1))
	}
	return section{"start-up", "Start", fmt.Sprintf("From the exec of the wrapper to the first answer of the Go server in it, %d rounds in which all take turns.", p.options.amounts.Starts), t}
}

func (p *page) memory() section {
	t := table{head: []string{"who", "at rest after the start, MB", fmt.Sprintf("at rest after %d swaps under load, MB", p.options.amounts.MemorySwaps)}}
	for _, who := range []string{listens, ownBind, starter} {
		if p.lacks(&t, "memory", who) {
			continue
		}
		t.add(who, number(p.samples.get("memory/%s/started", who).median(), 2), number(p.samples.get("memory/%s/swapped", who).median(), 2))
	}
	return section{"memory", "Memory", "Proportional set size of the supervising process (Pss of `/proc/PID/smaps_rollup`), its own program's pages included, three seconds after its last work.", t}
}

func (p *page) calls() section {
	t := table{head: []string{"call", "the server alone, ns", "its bind taken over, ns", "difference, ns", "ratio"}}
	for _, call := range timedCalls() {
		alone, filtered := p.samples.get("calls/%s/%s", bare, call), p.samples.get("calls/%s/%s", ownBind, call)
		t.add(call, number(alone.median(), 0), number(filtered.median(), 0), number(filtered.median()-alone.median(), 0), spread(filtered.over(alone), 3))
	}
	return section{"calls", "System calls of a server whose bind is taken over",
		"Medians, in processes that take turns. Only bind, listen and a few options of setsockopt are looked at; the kernel lets the rest pass by a bitmap, but setsockopt by the filter.", t}
}
