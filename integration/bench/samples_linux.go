package main

import (
	"fmt"
	"math"
	"slices"
)

// samples are what scenarios measured, by name, in the order of measuring.
// Names are made of a scenario, who was measured and what: "swap/nginx reload/gap".
type samples struct {
	Series  map[string][]float64
	Missing map[string]string // who was not measured, by name, and why
}

func newSamples() *samples {
	return &samples{Series: map[string][]float64{}, Missing: map[string]string{}}
}

func (s *samples) add(name string, values ...float64) {
	s.Series[name] = append(s.Series[name], values...)
}

func (s *samples) merge(other *samples) {
	for name, values := range other.Series {
		s.add(name, values...)
	}
	for name, why := range other.Missing {
		s.Missing[name] = why
	}
}

// get gives a series; an empty one if nothing was measured.
func (s *samples) get(format string, arguments ...any) series {
	return slices.Clone(s.Series[fmt.Sprintf(format, arguments...)])
}

// series is one measure, taken several times.
type series []float64

// quantile gives the value below which q (0 to 1) of the series lies; NaN of an empty one.
func (s series) quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	at := q * float64(len(sorted)-1)
	low := int(at)
	if low+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[low] + (at-float64(low))*(sorted[low+1]-sorted[low])
}

func (s series) median() float64 { return s.quantile(0.5) }
func (s series) max() float64    { return s.quantile(1) }

func (s series) sum() float64 {
	total := 0.0
	for _, v := range s {
		total += v
	}
	return total
}

// interval is where the true median lies with 95 % probability, by order
// statistics: it supposes nothing of the distribution. Of fewer than six
// values it is their whole range, which is less sure.
func (s series) interval() (low, high float64) {
	n := len(s)
	if n == 0 {
		return math.NaN(), math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	// The largest k so that fewer than k of n fair coins show heads with at most 2.5 %.
	k, below, term := 0, 0.0, math.Pow(0.5, float64(n))
	for k < n/2 {
		below += term
		if below > 0.025 {
			break
		}
		term *= float64(n-k) / float64(k+1)
		k++
	}
	k = max(k, 1)
	return sorted[k-1], sorted[n-k]
}

// over divides pairwise: both series were measured in the same rounds.
func (s series) over(base series) series {
	out := make(series, 0, len(s))
	for i := range min(len(s), len(base)) {
		out = append(out, s[i]/base[i])
	}
	return out
}

// less subtracts one number from each.
func (s series) less(n float64) series {
	out := make(series, 0, len(s))
	for _, v := range s {
		out = append(out, v-n)
	}
	return out
}
