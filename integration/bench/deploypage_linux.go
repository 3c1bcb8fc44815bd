package main

import "fmt"

// deploy is the section of the scenario of this name.
func (p *page) deploy() section {
	t := table{head: []string{"the new version", "rollbacks", "noticed to served again, ms, median / worst", "own start ms", "beyond own start", "longest gap ms, new connections, median / worst", "refused", "failed of requests"}}
	for _, who := range deployments() {
		at := func(measure string) series { return p.samples.get("deploy/%s/%s", who, measure) }
		beyond := "nothing is started"
		if who == crashCold || who == healthCold {
			beyond = spread(p.deployBeyond(who), 1)
		}
		t.add(who, fmt.Sprint(len(at("back"))), worst(at("back"), 2), number(at("start").median(), 1), beyond, worst(at("gap"), 1),
			number(at("refused").sum(), 0), fmt.Sprintf("%.0f of %.0f", at("failed").sum(), at("requests").sum()))
	}
	return section{"deploy", "Versions that fail after their commit", fmt.Sprintf(
		"16 clients with a new connection for each request, %.0f requests/s by the clock. The new version exits, or stands still, %v after it serves; a check of its health may take 500 ms, so that a hanging one is known as such "+
			"1 to 1.5 s later. From when that is noticed: the phase of the verdict, `revert` (killed, and the version before is started again from the executable that is held) or `steer-back` (with `--warm`). "+
			"Own start: exec to first answer of the same server alone, which waits for %v first, under the same load. What fails was in the hands of the version that failed.",
		p.options.amounts.Rate, "half a second", p.options.amounts.WarmUp), t}
}

// deployBeyond is how long a cold rollback took beyond the server's own start.
func (p *page) deployBeyond(who string) series {
	return p.samples.get("deploy/%s/back", who).less(p.samples.get("deploy/%s/start", who).median())
}

// deployGoals are the promises of rollbacks.
func (p *page) deployGoals() []goal {
	var all []goal
	for _, who := range deployments() {
		back := p.samples.get("deploy/%s/back", who)
		refused := p.samples.get("deploy/%s/refused", who)
		if who == crashCold || who == healthCold {
			all = append(all, atMost(who+": noticed to served again, beyond own start", "must", 20, "ms", p.deployBeyond(who)))
		} else {
			all = append(all, atMost(who+": noticed to served again", "must", 100, "ms", back))
		}
		all = append(all, goal{what: who + ": connections refused", limit: "must 0", figure: number(refused.sum(), 0), met: refused.sum() == 0, measured: len(refused) > 0})
	}
	return all
}
