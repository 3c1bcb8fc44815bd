package control

import (
	"slices"
	"testing"
)

func TestParseShares(t *testing.T) {
	for _, c := range []struct {
		text string
		want []int // nil: refused
	}{
		{"5%,25%,100%", []int{5, 25, 100}},
		{"5, 25", []int{5, 25}},
		{"100", []int{100}},
		{"", nil},
		{"0", nil},
		{"101", nil},
		{"-1", nil},
		{"5,5", nil},
		{"25,5", nil},
		{"5,", nil},
		{"half", nil},
		{"0.5", nil},
	} {
		got, err := ParseShares(c.text)
		if (err == nil) != (c.want != nil) || err == nil && !slices.Equal(got, c.want) {
			t.Errorf("%q: %v, %v, want %v", c.text, got, err, c.want)
		}
	}
}

func TestCanaryParameters(t *testing.T) {
	for _, c := range []struct {
		shares, step string
		ok           bool
	}{
		{"", "", true},
		{"5%,100%", "", true},
		{"5%,100%", "2s", true},
		{"", "2s", false},
		{"5%", "-2s", false},
		{"5%", "soon", false},
		{"much", "2s", false},
	} {
		var a Args
		if e := a.canary(c.shares, c.step); (e == nil) != c.ok {
			t.Errorf("canary %q, step %q: %v", c.shares, c.step, e)
		}
	}
}
