package control

import (
	"strings"
	"testing"
	"time"
)

// A commit that is undone on probation counts once, as what it became.
func TestTotals(t *testing.T) {
	phases := []Phase{{"prepare", time.Second}, {"start", 3 * time.Second}}
	var all Totals
	kept := Verdict{Verdict: Committed, Took: 4 * time.Second, Phases: phases}
	all.Add(kept, 1)
	all.Add(kept, 1)
	all.Add(kept, -1)
	all.Add(Verdict{Verdict: RolledBack, Took: 6 * time.Second, Phases: append(phases, Phase{"revert", 2 * time.Second})}, 1)
	all.Add(Verdict{Verdict: RolledBack, Late: true, Took: 60 * time.Second}, 1)
	if all.Timeouts != 1 || all.Errors != 1 || all.Took != 70*time.Second {
		t.Errorf("%+v", all)
	}
	if p := all.Phases; len(p) != 3 || p[0] != (PhaseTotal{"prepare", 2, 2 * time.Second}) || p[2] != (PhaseTotal{"revert", 1, 2 * time.Second}) {
		t.Errorf("%+v", p)
	}
	copied := all.Clone()
	copied.Add(kept, 1)
	if all.Phases[0].Count != 2 {
		t.Error("a clone shares its phases")
	}
}

// What a scrape finds of the totals.
func TestTotalsMetrics(t *testing.T) {
	var x exposition
	st := Status{Name: "web", Swaps: Counters{Committed: 3, RolledBack: 1}, Restarts: 2}
	st.Totals = Totals{Timeouts: 1, Took: 10 * time.Second, Phases: []PhaseTotal{{"start", 4, 8 * time.Second}}, Relayed: 5, Lost: 1}
	st.Claims = []Claim{{Name: "a", Address: "tcp://:1", Lanes: []LaneInfo{{State: "steered"}, {State: "held"}, {State: "held"}}}}
	x.add(Service{}, st, time.Now())
	text := string(x.bytes())
	for _, want := range []string{
		`upgrader_swaps_total{service="web",id=""} 4`,
		`upgrader_swap_successes{service="web",id=""} 3`,
		`upgrader_swap_timeouts{service="web",id=""} 1`,
		`upgrader_swap_errors{service="web",id=""} 0`,
		"# TYPE upgrader_swap_duration_seconds summary\n" + `upgrader_swap_duration_seconds_sum{service="web",id=""} 10` + "\n" + `upgrader_swap_duration_seconds_count{service="web",id=""} 4`,
		`upgrader_swap_duration_mean_seconds{service="web",id=""} 2.5`,
		`upgrader_swap_phase_seconds_sum{service="web",id="",phase="start"} 8`,
		`upgrader_swap_phase_seconds_count{service="web",id="",phase="start"} 4`,
		`upgrader_lanes{service="web",id="",claim="a",address="tcp://:1",state="held"} 2`,
		`upgrader_relayed_total{service="web",id=""} 5`,
		`upgrader_relay_lost_total{service="web",id=""} 1`,
		`upgrader_restarts_total{service="web",id=""} 2`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
