package control

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseShares reads the steps of a canary: percentages between commas, with
// or without a sign, each larger than the one before, as in 5%,25%,100%. That
// the last one is 100 goes without saying. Its errors are one line.
func ParseShares(s string) ([]int, error) {
	var steps []int
	for _, word := range strings.Split(s, ",") {
		n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(word), "%"))
		if err != nil {
			return nil, fmt.Errorf("%.64q: want percentages such as 5%%,25%%,100%%", s)
		}
		steps = append(steps, n)
	}
	return steps, CheckShares(steps)
}

// CheckShares refuses steps that are none.
func CheckShares(steps []int) error {
	last := 0
	for _, n := range steps {
		if n <= last || n > 100 {
			return fmt.Errorf("%d%% after %d%%: the steps of a canary grow from 1%% to 100%%", n, last)
		}
		last = n
	}
	return nil
}

// check refuses arguments that cannot be.
func (a Args) check() *Error {
	if err := CheckShares(a.Canary); err != nil {
		return &Error{CodeBadRequest, err.Error()}
	}
	if a.Step < 0 || a.Step > 0 && len(a.Canary) == 0 {
		return &Error{CodeBadRequest, "step is how long a share of a canary is kept: more than nothing, and only with canary"}
	}
	return nil
}

// canary understands the parameters canary=5%,25%,100% and step=10s.
func (a *Args) canary(shares, step string) *Error {
	var err error
	if shares != "" {
		if a.Canary, err = ParseShares(shares); err != nil {
			return &Error{CodeBadRequest, "canary: " + err.Error()}
		}
	}
	if step != "" {
		if a.Step, err = time.ParseDuration(step); err != nil {
			return &Error{CodeBadRequest, fmt.Sprintf("step: %.64q is no duration", step)}
		}
	}
	return a.check()
}
