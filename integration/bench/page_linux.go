package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// page is what was measured, for people.
type page struct {
	options options
	machine machine
	began   time.Time
	took    time.Duration
	samples *samples
}

// write puts the page into out, with its plot beside it. "" writes nothing.
func (p *page) write(out string) error {
	if out == "" {
		return nil
	}
	if err := os.WriteFile(p.plotFile(), []byte(p.plot()), 0o644); err != nil {
		return err
	}
	return os.WriteFile(out, []byte(p.markdown()), 0o644)
}

func (p *page) plotFile() string { return strings.TrimSuffix(p.options.out, ".md") + ".svg" }

// table is one of the page. Rows that have fewer cells say why they have no figures.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t table) String() string {
	var b strings.Builder
	line := func(cells []string) {
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	line(t.head)
	line(strings.Fields(strings.Repeat("--- ", len(t.head))))
	for _, r := range t.rows {
		for len(r) < len(t.head) {
			r = append(r, "")
		}
		line(r)
	}
	return strings.TrimSpace(b.String())
}

// number writes one, "–" if there is none.
func number(v float64, digits int) string {
	if math.IsNaN(v) {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, v)
}

// spread is a median with its interval.
func spread(s series, digits int) string {
	if len(s) < 2 {
		return number(s.median(), digits)
	}
	low, high := s.interval()
	return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, s.median(), digits, low, digits, high)
}

// worst is a median and the largest.
func worst(s series, digits int) string {
	return number(s.median(), digits) + " / " + number(s.max(), digits)
}

func (p *page) markdown() string {
	var b strings.Builder
	say := func(format string, arguments ...any) { fmt.Fprintf(&b, format+"\n\n", arguments...) }
	say("# Measured")
	say("Written by `%s` (`make bench`) on %s, in %.0f s. **Believe ratios and differences within one table, not absolute figures**: "+
		"client and server share the cores, and another machine has others. Figures in parentheses are the 95 %% interval of the median.",
		p.options.command, p.began.UTC().Format(time.DateOnly), p.took.Seconds())
	if p.options.brief {
		say("This was a brief run: tiny counts, which show that everything works. Its figures mean little.")
	}
	m := p.machine
	isolated := "each scenario in a network namespace of its own"
	if !m.root {
		isolated = "not as root: the machine's own loopback"
	}
	say("%s, %d cores; %s; %s; %s; load average before the run %s; %s. Peers: %s.",
		m.cpu, m.cores, m.kernel, m.system, goVersion(), m.load, isolated, strings.Join(m.peers, ", "))
	if p.options.out != "" {
		say("![Ratios of requests per second by block, and the longest gap of each swap](%s)", filepath.Base(p.plotFile()))
	}
	say("## Goals")
	goals := table{head: []string{"what", "limit", "median", ""}}
	for _, g := range p.goals() {
		if p.options.only != nil && !g.measured {
			continue
		}
		goals.add(g.what, g.limit, g.figure, g.verdict())
	}
	say("%s", goals)
	for _, s := range p.sections() {
		if !p.options.wants(s.scenario) {
			continue
		}
		say("## %s", s.title)
		say("%s", s.text)
		say("%s", s.table)
	}
	return strings.TrimSpace(b.String()) + "\n"
}
