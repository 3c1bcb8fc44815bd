package main

import (
	"fmt"
	"runtime"
	"sync"
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

// segment is the section of the scenario of this name.
func (p *page) segment() section {
	a := p.options.amounts
	t := table{head: []string{"who", "ms", "GiB/s", "of memcpy on all cores", "failed of requests", "longest gap ms, new connections, median / worst", "beyond own stop + start", "phase stop", "phase start"}}
	for _, who := range segmentCopies() {
		ms := p.samples.get("segment/%s", who)
		t.add(who, spread(ms, 1), number(float64(a.SegmentSize)/(1<<30)/ms.median()*1000, 2), number(p.copyRate(who).median(), 2), "", "", "", "", "")
	}
	for _, who := range []string{stopThenStart, withShm} {
		at := func(format string, arguments ...any) series {
			return p.samples.get("segment/"+who+"/"+format, arguments...)
		}
		stop, start, beyond := at("phase stop"), at("phase start"), spread(p.segmentBeyond(), 2)
		if who == stopThenStart {
			stop, start, beyond = at("stop"), at("start"), ""
		}
		t.add(who, number(at("swaps").sum(), 0)+" swaps", "", "", p.failed("segment", who), worst(at("%s/gap", newMode), 1), beyond, number(stop.median(), 1), number(start.median(), 1))
	}
	return section{"segment", "A large segment", fmt.Sprintf(
		"Copies of a segment of %d MiB, segment and targets in memory, %d rounds in which all take turns. The second phase is what nobody may write in: it reads all, and copies what changed. "+
			"Below, swaps of a guest with such a segment, which it leaves alone, under the same load as above: phase start of the upgrader has the second phase in it.",
		a.SegmentSize>>20, a.SegmentRounds), t}
}

// copyRate is how fast somebody copies, memcpy on all cores being 1.
func (p *page) copyRate(who string) series {
	return p.samples.get("segment/%s", memcpyAll).over(p.samples.get("segment/%s", who))
}

// segmentBeyond is the gap beyond the server's own stop and start.
func (p *page) segmentBeyond() series {
	own := p.samples.get("segment/%s/stop", stopThenStart).median() + p.samples.get("segment/%s/start", stopThenStart).median()
	return p.samples.get("segment/%s/%s/gap", withShm, newMode).less(own)
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
		p.lossless("segment", withShm),
		atMost("segment: gap of new connections beyond own stop + start"+of, "must", 5, "ms", p.segmentBeyond()),
	}
}
