package main

import (
	"fmt"
	"math"
)

// settle is the default of --settle, in milliseconds.
const settle = 100

// goal is one promise beside its figure.
type goal struct {
	what, limit, figure string
	met                 bool
	measured            bool
}

func (g goal) verdict() string {
	switch {
	case !g.measured:
		return "not measured"
	case g.met:
		return "met"
	}
	return "**not met**"
}

// atMost is a goal that a median keeps or does not.
func atMost(what, word string, limit float64, unit string, s series) goal {
	return goal{
		what: what, limit: fmt.Sprintf("%s ≤ %g %s", word, limit, unit), figure: spread(s, 2) + " " + unit,
		met: s.median() <= limit, measured: len(s) > 0,
	}
}

// goals are all of them, in the order of the page.
func (p *page) goals() []goal {
	var all []goal
	for _, who := range []string{listens, ownBind} {
		for _, mode := range modes() {
			low, high := p.ratio(mode, who, "rate").interval()
			all = append(all, goal{
				what: fmt.Sprintf("%s: requests/s, %s, of the server alone", who, mode), limit: "goal 1.00 within noise",
				figure: spread(p.ratio(mode, who, "rate"), 3), met: high >= 1, measured: !math.IsNaN(low),
			})
			low, high = p.ratio(mode, who, "p99.9").interval()
			all = append(all, goal{
				what: fmt.Sprintf("%s: p99.9, %s, of the server alone", who, mode), limit: "goal 1.00 within noise",
				figure: spread(p.ratio(mode, who, "p99.9"), 3), met: low <= 1, measured: !math.IsNaN(high),
			})
		}
	}
	for _, who := range []string{listens, ownBind, wrappedNginx} {
		all = append(all,
			p.lossless("swaps", who),
			atMost(who+": asked to first new answer, beyond the server's own start", "goal", 10, "ms", p.beyondStart(who)))
		if who != wrappedNginx {
			all = append(all, atMost(who+": asked to predecessor gone, beyond own start, settle and own stop", "goal", 10, "ms", p.beyondAll(who)))
		}
		all = append(all, atMost(who+": longest gap during a swap, new connections", "goal", 10, "ms", p.samples.get("swaps/%s/%s/gap", who, newMode)))
	}
	for _, who := range []string{listens, ownBind} {
		over := p.startOver(who)
		all = append(all,
			atMost(who+": exec to first answer, over a bare exec", "must", 8, "ms", over),
			atMost(who+": exec to first answer, over a bare exec", "goal", 4, "ms", over))
	}
	for _, who := range []string{listens, ownBind} {
		for _, when := range []string{"started", "swapped"} {
			mb := p.samples.get("memory/%s/%s", who, when)
			all = append(all,
				atMost(fmt.Sprintf("%s: PSS, %s", who, when), "must", 10, "MB", mb),
				atMost(fmt.Sprintf("%s: PSS, %s", who, when), "goal", 6, "MB", mb))
		}
	}
	beyond := p.exclusiveBeyond(exclusive)
	all = append(all, p.proxyGoals()...)
	all = append(all, p.deployGoals()...)
	return append(append(all, p.segmentGoals()...),
		p.lossless("exclusive", exclusive),
		atMost("exclusive, --settle 0: gap beyond own stop + start", "must", 5, "ms", p.exclusiveBeyond(exclusiveBare)),
		atMost("exclusive: gap beyond own stop + start + the settle that it took", "must", 5, "ms", beyond.less(p.samples.get("exclusive/%s/phase settle", exclusive).median())),
		atMost("exclusive: gap beyond own stop + start, settle counted as ours", "must", 5, "ms", beyond))
}

// lossless is the goal that nothing failed.
func (p *page) lossless(scenario, who string) goal {
	return goal{
		what: who + ": failed requests during swaps", limit: "must 0", figure: p.failed(scenario, who),
		met: p.total(scenario, who, "failed") == 0, measured: p.total(scenario, who, "requests") > 0,
	}
}

// ratio is a measure of the throughput scenario to that of the server alone in
// the same blocks.
func (p *page) ratio(mode, who, measure string) series {
	return p.samples.get("throughput/%s/%s/%s", mode, who, measure).over(p.samples.get("throughput/%s/%s/%s", mode, bare, measure))
}

// ownStart is how long the server of a swapper takes from exec to first answer
// while another one serves the same load, and ownStop from TERM to gone.
func (p *page) ownStart(who string) float64 {
	switch who {
	case wrappedNginx:
		return p.samples.get("swaps/%s/start", besideNginx).median()
	case reload:
		return 0 // a reload starts no server
	case stopThenStart:
		return p.samples.get("swaps/%s/start", stopThenStart).median()
	}
	return p.samples.get("swaps/%s/start", besideGuest).median()
}

func (p *page) ownStop() float64 { return p.samples.get("swaps/%s/stop", stopThenStart).median() }

func (p *page) beyondStart(who string) series {
	return p.samples.get("swaps/%s/new", who).less(p.ownStart(who))
}

func (p *page) beyondAll(who string) series {
	return p.samples.get("swaps/%s/gone", who).less(p.ownStart(who) + settle + p.ownStop())
}

func (p *page) startOver(who string) series {
	return p.samples.get("start-up/%s", who).less(p.samples.get("start-up/%s", bare).median())
}

// exclusiveBeyond is the gap of new connections beyond the server's own stop and start under
// the same load.
func (p *page) exclusiveBeyond(who string) series {
	own := p.samples.get("exclusive/%s/stop", stopThenStart).median() + p.samples.get("exclusive/%s/start", stopThenStart).median()
	return p.samples.get("exclusive/%s/%s/gap", who, newMode).less(own)
}
