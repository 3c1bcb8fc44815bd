package control

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// verdictsShown is how many verdicts Render shows, the newest first.
const verdictsShown = 10

// Render writes s for people: aligned columns, times relative to now.
func Render(w io.Writer, s Status, now time.Time) error {
	if err := RenderNow(w, s, now); err != nil {
		return err
	}
	return RenderVerdicts(w, s.Verdicts, now, verdictsShown)
}

// RenderNow is Render without the verdicts.
func RenderNow(w io.Writer, s Status, now time.Time) error {
	var b bytes.Buffer
	pairs := columns(&b)
	pairs.row("service", s.Name)
	state := s.State + " for " + Span(now.Sub(s.Since))
	if s.Refusing {
		state += ", clients are refused"
	}
	pairs.row("state", state)
	if s.Message != "" {
		pairs.row("message", s.Message)
	}
	pairs.row("command", strings.Join(s.Command, " "))
	pairs.row("upgrader", fmt.Sprintf("pid %d, strategy %s, up %s", s.Pid, s.Strategy, Span(now.Sub(s.Started))))
	pairs.row("swaps", fmt.Sprintf("%d committed, %d rolled back, %d failed", s.Swaps.Committed, s.Swaps.RolledBack, s.Swaps.Failed))
	if s.Restarts > 0 {
		pairs.row("restarts", fmt.Sprint(s.Restarts))
	}
	if s.Parked > 0 {
		parked := count(s.Parked, "descriptor")
		if s.Store != nil {
			parked += fmt.Sprintf(" of at most %d, %d refused, %d dropped", s.Store.Max, s.Store.Refused, s.Store.Dropped)
		}
		pairs.row("parked", parked)
	}
	pairs.end()

	if len(s.Generations) > 0 {
		t := table(&b, "GENERATION", "PID", "STATE", "STARTED", "READY AFTER", "PROCESSES", "LANES", "EXECUTABLE")
		for _, g := range s.Generations {
			ready := "-"
			if !g.Ready.IsZero() {
				ready = Took(g.Ready.Sub(g.Started))
			}
			t.row(fmt.Sprint(g.Number), number(g.Pid), g.State, Ago(g.Started, now), ready, fmt.Sprint(g.Members), fmt.Sprint(g.Lanes), g.Executable)
		}
		t.end()
	}
	if len(s.Claims) > 0 {
		t := table(&b, "CLAIM", "ADDRESS", "IN FLIGHT", "LANES")
		for _, c := range s.Claims {
			lanes := make([]string, len(c.Lanes))
			for i, l := range c.Lanes {
				lanes[i] = fmt.Sprintf("%d %s", l.Generation, l.State)
				if l.Share > 0 {
					lanes[i] += fmt.Sprintf(" (%d%%)", l.Share)
				}
				if l.Queue > 0 {
					lanes[i] += fmt.Sprintf(" (%d queued)", l.Queue)
				}
			}
			busy := "-"
			if c.InFlight >= 0 {
				busy = fmt.Sprint(c.InFlight)
			}
			t.row(c.Name, c.Address, busy, strings.Join(lanes, ", "))
		}
		t.end()
	}
	if len(s.Proxies) > 0 {
		t := table(&b, "PROXY", "BACKEND", "POLICY", "CONNECTIONS", "HELD", "ACCEPTED", "MOVED", "RESUMED", "IN FLIGHT", "RESET")
		for _, p := range s.Proxies {
			t.row(p.Address, p.Backend, p.Policy, fmt.Sprint(p.Connections), fmt.Sprint(p.Held), fmt.Sprint(p.Accepted),
				fmt.Sprint(p.Moved), fmt.Sprint(p.Resumed), fmt.Sprint(p.InFlight), fmt.Sprint(p.Reset))
		}
		t.end()
	}
	_, err := w.Write(b.Bytes())
	return err
}

// RenderVerdicts writes the last verdicts, at most so many, below an empty line; nothing if there is none.
func RenderVerdicts(w io.Writer, all []Verdict, now time.Time, most int) error {
	if len(all) == 0 {
		return nil
	}
	var b bytes.Buffer
	t := table(&b, "SWAP", "VERDICT", "WHEN", "TOOK", "ASKED BY", "FROM", "TO", "REASON")
	for i := len(all) - 1; i >= 0 && len(all)-i <= most; i-- {
		v := all[i]
		t.row(number(v.Swap), v.Verdict, Ago(v.Start, now), Took(v.Took), v.Asked, number(v.From), number(v.To), v.Reason)
	}
	t.end()
	_, err := w.Write(b.Bytes())
	return err
}

// RenderVerdict writes v for people, with the end of the successor's stderr
// when it was not committed.
func RenderVerdict(w io.Writer, v Verdict) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s: ", v.Verdict)
	switch {
	case v.Verdict == Committed && v.From > 0:
		fmt.Fprintf(&b, "generation %d serves in place of %d, after %s", v.To, v.From, Took(v.Took))
	case v.Verdict == Committed:
		fmt.Fprintf(&b, "generation %d serves, after %s", v.To, Took(v.Took))
	default:
		b.WriteString(Clean(v.Reason))
	}
	if v.Verdict != Committed && v.Exit != nil {
		if v.Exit.Signal != "" {
			fmt.Fprintf(&b, " (killed by %s)", Clean(v.Exit.Signal))
		} else {
			fmt.Fprintf(&b, " (exit status %d)", v.Exit.Code)
		}
	}
	b.WriteByte('\n')
	if len(v.Phases) > 0 {
		phases := make([]string, len(v.Phases))
		for i, p := range v.Phases {
			phases[i] = Clean(p.Name) + " " + Took(p.Duration)
		}
		fmt.Fprintf(&b, "  %s\n", strings.Join(phases, ", "))
	}
	if v.Gap > 0 {
		fmt.Fprintf(&b, "  gap %s: nobody listened for so long\n", Took(v.Gap))
	}
	if v.Verdict != Committed && len(v.Stderr) > 0 {
		b.WriteString("  its last lines on stderr:\n")
		for _, line := range v.Stderr {
			fmt.Fprintf(&b, "    %s\n", Clean(line))
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// rows are aligned columns.
type rows struct{ *tabwriter.Writer }

func columns(b *bytes.Buffer) rows {
	return rows{tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)}
}

func table(b *bytes.Buffer, head ...string) rows {
	b.WriteByte('\n')
	t := columns(b)
	t.row(head...)
	return t
}

func (r rows) row(cells ...string) {
	for i, c := range cells {
		cells[i] = Clean(c)
	}
	fmt.Fprintln(r, strings.TrimRight(strings.Join(cells, "\t"), "\t"))
}

func (r rows) end() { _ = r.Flush() } // a buffer takes everything

// Clean replaces what a terminal would act upon: servers write what they like.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == unicode.ReplacementChar:
			return '?'
		}
		return r
	}, s)
}

func number(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Ago says how long before now t was.
func Ago(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	if d := now.Sub(t); d >= time.Second {
		return Span(d) + " ago"
	}
	return "now" // or in the future: clocks are set
}

// Span writes a long duration by its largest unit, or two.
func Span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return pair(d, time.Minute, "m", time.Second, "s")
	case d < 24*time.Hour:
		return pair(d, time.Hour, "h", time.Minute, "m")
	default:
		return pair(d, 24*time.Hour, "d", time.Hour, "h")
	}
}

func pair(d, large time.Duration, l string, small time.Duration, s string) string {
	if rest := d % large / small; rest > 0 {
		return fmt.Sprintf("%d%s%d%s", d/large, l, rest, s)
	}
	return fmt.Sprintf("%d%s", d/large, l)
}

// Took writes a short duration with three digits.
func Took(d time.Duration) string {
	switch {
	case d >= time.Minute:
		return Span(d)
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	default:
		return d.Round(time.Microsecond).String()
	}
}
