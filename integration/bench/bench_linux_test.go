package main

import (
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The test binary is the benchmark's own child in its roles.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		os.Exit(inRole(role))
	}
	os.Exit(m.Run())
}

// Everything is measured, if with the least of counts: every row is there, and
// those that are not installed are named. What the figures are is not the point.
func TestBrief(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs go, to build what is measured")
	}
	out := filepath.Join(t.TempDir(), "bench.md")
	p, err := run(t.Context(), options{amounts: least(), command: "go test", brief: true, out: out}, func(what string) { t.Log(what) })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.write(out); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	plot, err := os.ReadFile(p.plotFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"## Goals", filepath.Base(p.plotFile()), "go1."} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page has no %s", want)
		}
	}
	if !strings.Contains(string(plot), "</svg>") {
		t.Error("the plot has no end")
	}
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) { checkRows(t, p, s.name) })
	}
	for _, g := range p.goals() {
		if strings.HasPrefix(g.what, proxied) && (p.samples.Missing["proxy/"+haproxyTCP] != "" || p.samples.Missing["proxy/"+nginxStream] != "") {
			continue
		}
		missing := p.samples.Missing["swaps/"+wrappedNginx] != "" && strings.HasPrefix(g.what, wrappedNginx)
		if !g.measured && !missing {
			t.Errorf("no figure for %s", g.what)
		}
	}
	if t.Failed() {
		t.Logf("the page:\n%s", text)
	}
}

// rows are those that each section must have.
func rows() map[string][]string {
	return map[string][]string{
		"throughput": {bare, bareAgain, listens, ownBind, bare, bareAgain, listens, ownBind},
		"swaps":      {besideGuest, listens, ownBind, starter, stopThenStart, besideNginx, wrappedNginx, reload},
		"exclusive":  {stopThenStart, exclusive, exclusiveBare},
		"start-up":   {bare, floor, linked, listens, ownBind, tini, dumbInit, starter},
		"memory":     {listens, ownBind, starter},
		"calls":      timedCalls(),
		"proxy":      proxies(),
		"deploy":     deployments(),
		"segment":    append(segmentCopies(), segmentSwaps()...),
	}
}

func checkRows(t *testing.T, p *page, scenario string) {
	for _, s := range p.sections() {
		if s.scenario != scenario {
			continue
		}
		want := rows()[scenario]
		if len(s.table.rows) != len(want) {
			t.Fatalf("%d rows, want %d: %v", len(s.table.rows), len(want), s.table.rows)
		}
		for i, r := range s.table.rows {
			if r[0] != want[i] {
				t.Errorf("row %d is %q, want %q", i, r[0], want[i])
			}
			if why, missing := p.samples.Missing[scenario+"/"+r[0]]; missing {
				t.Run(r[0], func(t *testing.T) { t.Skip(why) })
				continue
			}
			if len(r) != len(s.table.head) {
				t.Errorf("%s: %d cells, want %d", r[0], len(r), len(s.table.head))
			}
			if r[1] == "–" || strings.Contains(strings.Join(r, " "), "NaN") {
				t.Errorf("%s has no figure: %v", r[0], r)
			}
		}
		return
	}
	t.Fatal("no such section")
}

func TestInterval(t *testing.T) {
	count := func(n int) series {
		var s series
		for i := range n {
			s = append(s, float64(i+1))
		}
		return s
	}
	// Ranks from tables of the sign test, 95 %.
	for _, c := range []struct {
		n         int
		low, high float64
	}{{1, 1, 1}, {5, 1, 5}, {6, 1, 6}, {9, 2, 8}, {15, 4, 12}, {20, 6, 15}, {40, 14, 27}} {
		if low, high := count(c.n).interval(); low != c.low || high != c.high {
			t.Errorf("of %d: %g to %g, want %g to %g", c.n, low, high, c.low, c.high)
		}
	}
	if low, high := (series{}).interval(); !math.IsNaN(low) || !math.IsNaN(high) {
		t.Errorf("of none: %g to %g", low, high)
	}
}

func TestQuantile(t *testing.T) {
	s := series{3, 1, 2, 4}
	for _, c := range []struct{ q, want float64 }{{0, 1}, {0.5, 2.5}, {1, 4}} {
		if got := s.quantile(c.q); got != c.want {
			t.Errorf("quantile %g is %g, want %g", c.q, got, c.want)
		}
	}
	if got := s.over(series{1, 1, 2}); len(got) != 3 || got[2] != 1 {
		t.Errorf("ratios %v", got)
	}
}
