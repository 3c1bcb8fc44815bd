package main

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/upgrader/upgrader/integration/load"
)

func workers() int { return runtime.GOMAXPROCS(0) }

// copyBy copies with so many workers, each a part of its own.
func copyBy(workers int, to, from []byte) {
	var all sync.WaitGroup
	part := (len(from) + workers - 1) / workers
	for at := 0; at < len(from); at += part {
		end := min(at+part, len(from))
		all.Go(func() { copy(to[at:end], from[at:end]) })
	}
	all.Wait()
}

// segmentSwaps are those who are swapped.
func segmentSwaps() []string { return []string{stopThenStart, exclusiveBare, withShm, mapsFirst} }

// segment is the section of the scenario of this name.
func (p *page) segment() section {
	a := p.options.amounts
	t := table{head: []string{"who", "ms", "GiB/s", "of memcpy on all cores", "failed of requests", "longest gap ms, new connections, median / worst", "beyond own stop + start", "phase stop", "phase start"}}
	for _, who := range segmentCopies() {
		ms := p.samples.get("segment/%s", who)
		t.add(who, spread(ms, 1), number(float64(a.SegmentSize)/(1<<30)/ms.median()*1000, 2), number(p.copyRate(who).median(), 2), "", "", "", "", "")
	}
	for _, who := range segmentSwaps() {
		at := func(format string, arguments ...any) series {
			return p.samples.get("segment/"+who+"/"+format, arguments...)
		}
		stop, start, beyond := at("phase stop"), at("phase start"), spread(p.segmentBeyond(who), 2)
		if who == stopThenStart {
			stop, start, beyond = at("stop"), at("start"), ""
		}
		t.add(who, number(at("swaps").sum(), 0)+" swaps", "", "", p.failed("segment", who), worst(at("%s/gap", newMode), 1), beyond, number(stop.median(), 1), number(start.median(), 1))
	}
	return section{"segment", "A large segment", fmt.Sprintf(
		"Copies of a segment of %d MiB, segment and targets in memory, %d rounds in which all take turns. The second phase is what nobody may write in: it reads all, and copies what changed. "+
			"Below, exclusive swaps of a guest under the same load as above: without a segment, with one that it leaves alone, and with one that it maps and writes to before anything else, "+
			"which waits for the second phase. With `--settle 0` nobody waits for what the server has in hand: requests that net/http has accepted, but not read, when it is told to quit end in eof, "+
			"with the upgrader and without it.",
		a.SegmentSize>>20, a.SegmentRounds), t}
}

// copyRate is how fast somebody copies, memcpy on all cores being 1.
func (p *page) copyRate(who string) series {
	return p.samples.get("segment/%s", memcpyAll).over(p.samples.get("segment/%s", who))
}

// segmentBeyond is somebody's gap beyond the server's own stop and start.
func (p *page) segmentBeyond(who string) series {
	own := p.samples.get("segment/%s/stop", stopThenStart).median() + p.samples.get("segment/%s/start", stopThenStart).median()
	return p.gapOf(who).less(own)
}

func (p *page) gapOf(who string) series { return p.samples.get("segment/%s/%s/gap", who, newMode) }

// unrefused is the goal that clients may have to wait, but never find nobody.
func (p *page) unrefused(scenario, who string) goal {
	refused, asked := p.total(scenario, who, string(load.Refused)), p.total(scenario, who, "requests")
	return goal{what: who + ": connections refused", limit: "must 0", figure: fmt.Sprintf("%.0f of %.0f", refused, asked), met: refused == 0, measured: asked > 0}
}

// segmentGoals are its promises. They are of a whole GiB.
func (p *page) segmentGoals() []goal {
	of := ""
	if a := p.options.amounts; a.SegmentSize != 1<<30 {
		of = fmt.Sprintf(" (of 1 GiB; here %d MiB)", a.SegmentSize>>20)
	}
	rate := p.copyRate(fullCopy)
	return []goal{
		atMost("segment: second phase, 1 % changed"+of, "must", 60, "ms", p.samples.get("segment/%s", second)),
		{what: "segment: full copy into a reused target, of memcpy on all cores" + of, limit: "must ≥ 0.70", figure: spread(rate, 2), met: rate.median() >= 0.7, measured: len(rate) > 0},
		p.unrefused("segment", withShm),
		p.unrefused("segment", mapsFirst),
		atMost("segment: gap of new connections beyond own stop + start"+of, "must", 5, "ms", p.segmentBeyond(withShm)),
		atMost("segment: the same gap, beyond that without a segment"+of, "goal", 5, "ms", p.gapOf(withShm).less(p.gapOf(exclusiveBare).median())),
	}
}
