package main

import (
	"fmt"
	"math"
)

// proxyMeasures are what is taken in each round, in the order of the page.
var proxyMeasures = [...]struct {
	name, title string
	digits      int
	each        string  // what its processor time is told of
	unit        float64 // of that time, in seconds
}{
	{"down", "down, GB/s", 2, "ms/GB down", 1e-3},
	{"up", "up, GB/s", 2, "ms/GB up", 1e-3},
	{"requests", "requests/s", 0, "µs/request", 1e-6},
	{"connections", "connections/s", 0, "µs/connection", 1e-6},
}

func (p *page) proxied(who, measure string) series {
	return p.samples.get("proxy/%s/%s", who, measure)
}

// better is round by round the better of the two peers; empty if one is missing.
func (p *page) better(measure string) series {
	a, b := p.proxied(haproxyTCP, measure), p.proxied(nginxStream, measure)
	var out series
	for i := range min(len(a), len(b)) {
		out = append(out, math.Max(a[i], b[i]))
	}
	return out
}

func (p *page) proxy() section {
	t := table{head: []string{"who"}}
	for _, m := range proxyMeasures {
		t.head = append(t.head, m.title, "of no proxy")
	}
	for _, n := range p.options.amounts.ProxyIdle {
		t.head = append(t.head, fmt.Sprintf("kB/connection, %d idle", n), "descriptors")
	}
	for _, who := range proxies() {
		if p.lacks(&t, "proxy", who) {
			continue
		}
		row := []string{who}
		for _, m := range proxyMeasures {
			s := p.proxied(who, m.name)
			row = append(row, number(s.median(), m.digits), number(s.over(p.proxied(noProxy, m.name)).median(), 2))
		}
		for _, n := range p.options.amounts.ProxyIdle {
			at := fmt.Sprintf("idle %d/", n)
			row = append(row, number(p.proxied(who, at+"kB").median(), 2), number(p.proxied(who, at+"descriptors").median(), 2))
		}
		t.add(row...)
	}
	return section{"proxy", "Between clients and a server", fmt.Sprintf(
		"%d bulk streams, %d clients with kept connections that wait for each answer (%d bytes), as many with a new connection for each request; %d rounds in which all take turns, %v for each measure. "+
			"Clients, proxy and server share the cores. Memory (PSS without pages of files) and descriptors are of the proxy's own processes, beyond what they had before the connections came, each of which was used once. "+
			"haproxy (splice-auto) has a thread and nginx a worker for each core.",
		bulkStreams, talkers, messageSize, p.options.amounts.ProxyRounds, p.options.amounts.ProxySlice), t}
}

// proxyTime is what the proxies themselves spend: the machine's noise is less in it than in rates.
func (p *page) proxyTime() section {
	t := table{head: []string{"who"}}
	for _, m := range proxyMeasures {
		t.head = append(t.head, m.each, "of haproxy")
	}
	for _, who := range proxies()[1:] {
		if p.lacks(&t, "proxy", who) {
			continue
		}
		row := []string{who}
		for _, m := range proxyMeasures {
			s := p.proxied(who, m.name+"/time")
			row = append(row, number(s.median()/m.unit, 1), spread(s.over(p.proxied(haproxyTCP, m.name+"/time")), 2))
		}
		t.add(row...)
	}
	return section{"proxy", "What a proxy spends", "The processor time of the proxy's own processes in the same rounds, system calls included. It depends less on what else the machine does than a rate.", t}
}

// proxyGoals compare with the better of both peers in the same rounds.
func (p *page) proxyGoals() []goal {
	var all []goal
	for _, m := range proxyMeasures {
		ratio := p.proxied(proxied, m.name).over(p.better(m.name))
		_, high := ratio.interval()
		all = append(all, goal{
			what: "upgrader --proxy: " + m.title + ", of the better of haproxy and nginx", limit: "goal ≥ 1.00 within noise",
			figure: spread(ratio, 2), met: high >= 1, measured: len(ratio) > 0,
		})
	}
	for _, n := range p.options.amounts.ProxyIdle {
		all = append(all, atMost(fmt.Sprintf("upgrader --proxy: memory of one of %d idle connections", n), "goal", 3, "kB",
			p.proxied(proxied, fmt.Sprintf("idle %d/kB", n))))
	}
	return all
}
