package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// The plot's measures, in pixels.
const (
	plotWidth  = 900
	plotLeft   = 300
	plotRight  = 30
	plotRow    = 24
	plotHeader = 44
	plotGap    = 46
)

// strip is a line of dots, one for each value, with a bar at their median.
type strip struct {
	label string
	s     series
	ours  bool
}

// panel is strips over one axis.
type panel struct {
	title     string
	strips    []strip
	low, high float64
	log       bool
	ticks     []float64
	mark      float64 // a line that goals are about
}

// plot draws the ratios of throughput by block and the gaps by swap.
func (p *page) plot() string {
	ratios := panel{title: "requests/s, to the server alone in the same block (right is better)", low: 0.9, high: 1.1, mark: 1}
	for _, mode := range modes() {
		for _, who := range []string{bareAgain, listens, ownBind} {
			s := p.ratio(mode, who, "rate")
			ratios.strips = append(ratios.strips, strip{who + ", " + strings.Fields(mode)[0], s, who != bareAgain})
			for _, v := range s {
				ratios.low, ratios.high = min(ratios.low, math.Floor(v*20)/20), max(ratios.high, math.Ceil(v*20)/20)
			}
		}
	}
	step := 0.05
	for (ratios.high-ratios.low)/step > 12 {
		step *= 2
	}
	for v := math.Ceil(ratios.low/step) * step; v <= ratios.high+step/10; v += step {
		ratios.ticks = append(ratios.ticks, v)
	}
	gaps := panel{title: "longest gap of each swap in ms, new connections (left is better; logarithmic)", low: 1, high: 1000, log: true, ticks: []float64{1, 3, 10, 30, 100, 300, 1000}, mark: 10}
	for _, who := range []string{besideGuest, listens, ownBind, starter, stopThenStart, besideNginx, wrappedNginx, reload} {
		gaps.strips = append(gaps.strips, strip{who, p.samples.get("swaps/%s/%s/gap", who, newMode), who == listens || who == ownBind || who == wrappedNginx})
	}
	var b strings.Builder
	height := 10
	panels := []panel{ratios, gaps}
	for _, x := range panels {
		height += plotHeader + plotRow*len(x.strips) + plotGap
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">`+"\n", plotWidth, height, plotWidth, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", plotWidth, height)
	top := 10
	for _, x := range panels {
		x.draw(&b, top)
		top += plotHeader + plotRow*len(x.strips) + plotGap
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// at is where a value lies, off the axis none.
func (x panel) at(v float64) float64 {
	v = min(max(v, x.low), x.high)
	share := (v - x.low) / (x.high - x.low)
	if x.log {
		share = math.Log(v/x.low) / math.Log(x.high/x.low)
	}
	return plotLeft + share*(plotWidth-plotLeft-plotRight)
}

func (x panel) draw(b *strings.Builder, top int) {
	bottom := top + plotHeader + plotRow*len(x.strips)
	fmt.Fprintf(b, `<text x="16" y="%d" font-weight="bold" fill="#1a1a1a">%s</text>`+"\n", top+20, html.EscapeString(x.title))
	for _, v := range x.ticks {
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#e2e2e2"/>`+"\n", x.at(v), top+plotHeader-8, x.at(v), bottom)
		fmt.Fprintf(b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#5a5a5a">%s</text>`+"\n", x.at(v), bottom+18, strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), "."))
	}
	fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#8a8a8a" stroke-dasharray="4 3"/>`+"\n", x.at(x.mark), top+plotHeader-8, x.at(x.mark), bottom)
	for i, s := range x.strips {
		y := top + plotHeader + plotRow*i + plotRow/2
		colour := "#7f7f7f"
		if s.ours {
			colour = "#0b6fa4"
		}
		fmt.Fprintf(b, `<text x="%d" y="%d" text-anchor="end" fill="#1a1a1a">%s</text>`+"\n", plotLeft-12, y+4, html.EscapeString(s.label))
		if len(s.s) == 0 {
			fmt.Fprintf(b, `<text x="%d" y="%d" fill="#8a8a8a">not measured</text>`+"\n", plotLeft+6, y+4)
			continue
		}
		for _, v := range s.s {
			fmt.Fprintf(b, `<circle cx="%.1f" cy="%d" r="3.5" fill="%s" fill-opacity="0.45"/>`+"\n", x.at(v), y, colour)
		}
		fmt.Fprintf(b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="%s" stroke-width="2.5"/>`+"\n", x.at(s.s.median()), y-8, x.at(s.s.median()), y+8, colour)
	}
}
