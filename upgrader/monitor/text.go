package monitor

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/upgrader/upgrader/upgrader/control"
)

const (
	verdictsShown = 4 // of each service
	stepsShown    = 4 // of a swap at least, however small the screen is
)

// Text gives the board as lines for a screen of that size, the service that changed last on top. Nothing in them moves a cursor.
func (b *Board) Text(width, height int, now time.Time) []string {
	lines := []string{"upgrader monitor, " + now.Format(time.TimeOnly) + "   (q leaves)", ""}
	if len(b.services) == 0 {
		lines = append(lines, "nothing is known yet")
	}
	if len(b.services) > 1 {
		lines = append(append(lines, b.table(now)...), "")
	}
	byChange := slices.Clone(b.services)
	slices.SortStableFunc(byChange, func(a, b *service) int { return b.heard.Compare(a.heard) })
	for _, s := range byChange {
		lines = append(append(lines, s.text(now, height-len(lines))...), "")
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) > height {
		lines = append(lines[:max(height-1, 0)], "...")
	}
	for i, line := range lines {
		if r := []rune(line); len(r) > width {
			lines[i] = string(r[:max(width, 0)])
		}
	}
	return lines[:min(len(lines), max(height, 0))]
}

// table is a line for each of several services.
func (b *Board) table(now time.Time) []string {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tSTATE\tSERVES\tQUEUED\tIN FLIGHT\tLAST VERDICT")
	for _, s := range b.services {
		queued, busy := s.load()
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", control.Clean(s.status.Name), s.status.State, s.serves(), queued, busy, s.last(now))
	}
	_ = w.Flush() // a buffer takes everything
	return strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
}

// serves names the generation that answers clients.
func (s *service) serves() string {
	for _, g := range s.status.Generations {
		if g.State == control.GenerationServing {
			return fmt.Sprintf("%d", g.Number)
		}
	}
	return "-"
}

// load is what waits in the queues, and what is in flight; "-": not known.
func (s *service) load() (queued, busy string) {
	q, f := -1, -1
	for _, c := range s.status.Claims {
		if c.InFlight >= 0 {
			f = max(f, 0) + c.InFlight
		}
		for _, l := range c.Lanes {
			if l.Queue >= 0 {
				q = max(q, 0) + l.Queue
			}
		}
	}
	return known(q), known(f)
}

func known(n int) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// last is the last verdict.
func (s *service) last(now time.Time) string {
	if len(s.status.Verdicts) == 0 {
		return "-"
	}
	v := s.status.Verdicts[len(s.status.Verdicts)-1]
	text := fmt.Sprintf("%s, %s", v.Verdict, control.Ago(v.Start, now))
	if v.Reason != "" {
		text += ": " + control.Clean(v.Reason)
	}
	return text
}

// text is one service at length. Where there is not room for all, the last steps of its swap matter more than the first, and than
// verdicts.
func (s *service) text(now time.Time, room int) []string {
	lines := written(func(w io.Writer) error { return control.RenderNow(w, s.status, now) })
	verdicts := written(func(w io.Writer) error { return control.RenderVerdicts(w, s.status.Verdicts, now, verdictsShown) })
	if len(s.steps) == 0 {
		return append(lines, verdicts...)
	}
	title := "THE LAST SWAP"
	if s.under() {
		title = "THE SWAP UNDER WAY"
	}
	first, steps := s.steps[0], s.steps
	if most := max(room-2-min(len(steps), stepsShown), 2); most < len(lines) {
		lines = lines[:most]
	}
	lines = append(lines, "", title+", since "+first.Time.Local().Format(time.TimeOnly))
	if len(lines)+min(len(steps), stepsShown)+len(verdicts) > room {
		verdicts = nil
	}
	if most := max(room-len(lines)-len(verdicts), stepsShown); most < len(steps) {
		steps = steps[len(steps)-most+1:]
		lines = append(lines, "  ...")
	}
	for _, e := range steps {
		lines = append(lines, fmt.Sprintf("  %10s  %s", "+"+control.Took(e.Time.Sub(first.Time)), Describe(e)))
	}
	return append(lines, verdicts...)
}

// written gives what is written, in lines.
func written(write func(io.Writer) error) []string {
	var out bytes.Buffer
	_ = write(&out) // a buffer takes everything
	if out.Len() == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
}

// Describe says in words what happened, without when and to which service.
func Describe(e control.Event) string {
	var b strings.Builder
	b.WriteString(e.What)
	if e.Generation != 0 {
		fmt.Fprintf(&b, " generation %d", e.Generation)
	}
	if e.Pid != 0 {
		fmt.Fprintf(&b, " (pid %d)", e.Pid)
	}
	if e.Took != 0 {
		b.WriteString(", took " + control.Took(e.Took))
	}
	for _, text := range []string{e.Message, e.Error} {
		if text != "" {
			b.WriteString(": " + control.Clean(text))
		}
	}
	return b.String()
}
