package control

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// A family is one metric with its samples.
type family struct {
	name, kind, help string
	samples          []string
}

func (f *family) add(value float64, labels ...string) { f.addAs("", value, labels...) }

// addAs adds a sample whose name ends in suffix, as those of a summary do.
func (f *family) addAs(suffix string, value float64, labels ...string) {
	var b strings.Builder
	b.WriteString(f.name + suffix)
	for i := 0; i+1 < len(labels); i += 2 {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(labels[i] + `="` + escape(labels[i+1]) + `"`)
	}
	if len(labels) > 0 {
		b.WriteByte('}')
	}
	b.WriteString(" " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
	f.samples = append(f.samples, b.String())
}

// escape writes a label's value, see the Prometheus text format 0.0.4.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(strings.ToValidUTF8(s, "\uFFFD"))
}

// exposition gathers the metrics of all services.
type exposition struct{ families []*family }

func (x *exposition) family(name, kind, help string) *family {
	for _, f := range x.families {
		if f.name == name {
			return f
		}
	}
	f := &family{name: name, kind: kind, help: help}
	x.families = append(x.families, f)
	return f
}

// add adds one service.
func (x *exposition) add(s Service, st Status, now time.Time) {
	name := s.Server
	if name == "" {
		name = st.Name
	}
	labels := func(more ...string) []string { return append([]string{"service", name, "id", s.ID}, more...) }
	serves := 0.0
	if st.Serves() {
		serves = 1
	}
	x.family("upgrader_serving", "gauge", "Whether some generation answers clients.").add(serves, labels()...)
	x.family("upgrader_state", "gauge", "1 for the state that the service is in.").add(1, labels("state", st.State)...)
	x.family("upgrader_state_seconds", "gauge", "How long it has been in that state.").add(now.Sub(st.Since).Seconds(), labels()...)
	// No counter: a committed swap that is rolled back on probation changes over.
	swaps := x.family("upgrader_swaps", "gauge", "Swaps since the upgrader started, by their verdict.")
	swaps.add(float64(st.Swaps.Committed), labels("verdict", Committed)...)
	swaps.add(float64(st.Swaps.RolledBack), labels("verdict", RolledBack)...)
	swaps.add(float64(st.Swaps.Failed), labels("verdict", Failed)...)
	x.totals(st, labels)
	x.family("upgrader_restarts_total", "counter", "Starts after the server died by itself.").add(float64(st.Restarts), labels()...)
	x.family("upgrader_parked_descriptors", "gauge", "Descriptors in the store.").add(float64(st.Parked), labels()...)
	x.addStore(st, labels)
	for _, p := range st.Proxies {
		x.addProxy(p, labels)
	}
	states := x.family("upgrader_generations", "gauge", "Generations with processes, by their state.")
	count := map[string]int{}
	for _, g := range st.Generations {
		count[g.State]++
		if g.State == GenerationServing {
			x.family("upgrader_serving_generation", "gauge", "Number of the generation that serves.").add(float64(g.Number), labels()...)
			x.family("upgrader_processes", "gauge", "Processes of the generation that serves.").add(float64(g.Members), labels()...)
		}
	}
	for _, state := range []string{GenerationStarting, GenerationServing, GenerationWarm, GenerationLeaving, GenerationDraining} {
		states.add(float64(count[state]), labels("state", state)...)
	}
	for _, c := range st.Claims {
		queued, lanes := 0, map[string]int{}
		for _, l := range c.Lanes {
			queued += max(l.Queue, 0)
			lanes[l.State]++
		}
		for _, state := range []string{"steered", "waiting", "held"} {
			x.family("upgrader_lanes", "gauge", "Lanes of a claim, by their state.").add(float64(lanes[state]), labels("claim", c.Name, "address", c.Address, "state", state)...)
		}
		x.family("upgrader_queue", "gauge", "Connections of a claim that nobody accepted yet.").add(float64(queued), labels("claim", c.Name, "address", c.Address)...)
	}
	if n := len(st.Verdicts); n > 0 {
		v := st.Verdicts[n-1]
		committed := 0.0
		if v.Verdict == Committed {
			committed = 1
		}
		x.family("upgrader_last_swap_committed", "gauge", "Whether the last swap was committed.").add(committed, labels()...)
		x.family("upgrader_last_swap_duration_seconds", "gauge", "How long the last swap took.").add(v.Took.Seconds(), labels()...)
		x.family("upgrader_last_swap_timestamp_seconds", "gauge", "When the last swap began.").add(float64(v.Start.UnixMilli())/1000, labels()...)
	}
}

// totals adds what is summed up over all swaps.
func (x *exposition) totals(st Status, labels func(...string) []string) {
	all := float64(st.Swaps.Total())
	x.family("upgrader_swaps_total", "counter", "Swaps since the upgrader started.").add(all, labels()...)
	x.family("upgrader_swap_successes", "gauge", "Those that were committed and stood.").add(float64(st.Swaps.Committed), labels()...)
	x.family("upgrader_swap_timeouts", "gauge", "Those that were rolled back or failed because something was late.").add(float64(st.Totals.Timeouts), labels()...)
	x.family("upgrader_swap_errors", "gauge", "Those that were rolled back or failed for any other reason.").add(float64(st.Totals.Errors), labels()...)
	took := x.family("upgrader_swap_duration_seconds", "summary", "How long swaps took.")
	took.addAs("_sum", st.Totals.Took.Seconds(), labels()...)
	took.addAs("_count", all, labels()...)
	mean := 0.0
	if all > 0 {
		mean = st.Totals.Took.Seconds() / all
	}
	x.family("upgrader_swap_duration_mean_seconds", "gauge", "How long a swap took on average.").add(mean, labels()...)
	phases := x.family("upgrader_swap_phase_seconds", "summary", "How long the phases of swaps took.")
	for _, p := range st.Totals.Phases {
		phases.addAs("_sum", p.Duration.Seconds(), labels("phase", p.Name)...)
		phases.addAs("_count", float64(p.Count), labels("phase", p.Name)...)
	}
	x.family("upgrader_relayed_total", "counter", "Clients that a generation left behind and another one got.").add(float64(st.Totals.Relayed), labels()...)
	x.family("upgrader_relay_lost_total", "counter", "Such clients that nobody could be given.").add(float64(st.Totals.Lost), labels()...)
}

// bytes writes everything.
func (x *exposition) bytes() []byte {
	var b bytes.Buffer
	for _, f := range x.families {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n%s", f.name, f.help, f.name, f.kind, strings.Join(f.samples, ""))
	}
	return b.Bytes()
}

// metrics answers a scrape.
func (h *HTTP) metrics(w http.ResponseWriter, r *http.Request, p url.Values) {
	services, e := h.choose(p, true)
	if e != nil {
		h.answer(w, statusOf(e), results{Error: e})
		return
	}
	var x exposition
	for _, s := range services {
		st, err := s.Handler.Status(r.Context())
		if err != nil {
			e := toError(err)
			h.answer(w, statusOf(e), results{Error: e})
			return
		}
		x.add(s, st, time.Now())
	}
	x.family("go_goroutines", "gauge", "Goroutines of the upgrader.").add(float64(runtime.NumGoroutine()))
	h.put(w, http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", x.bytes())
}
