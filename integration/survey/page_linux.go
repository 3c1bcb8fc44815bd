package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/integration/load"
)

// intro opens the page; what it says of numbers is asked for by render.
const intro = `# Servers

What clients saw while unmodified servers were swapped. This page is made by

    go run ./integration/survey

which wraps each server as it is installed, swaps it %d times under two loads, and counts every single request:
*new* clients make a connection for each request (%g a second by 8 clients; %g by 4 to a database), *keep-alive* clients stay on theirs
(%g a second by 4). Nothing is retried, except where a column says so. Made on %s.

- **new**: requests on new connections, answered; and those that failed, by class (reset, eof, timeout, wrong).
- **refused**: connects that found nobody. The address stays claimed, so there should be none.
- **keep-alive**: requests on lasting connections, answered; those that failed; how many connections ended.
  Such a connection belongs to the process that accepted it and ends with it: one end for each client and swap is what there can
  be. It costs a request only where the server ends it with a request on its way; HTTP clients ask again by themselves then
  (as the clients of this survey do, once, where they can know that the request was not answered), others do not.
- **gap**: the longest time in which none of the new clients was answered, the server's own start included (exclusive).
- **swap**: the median from the wish to the commit.
`

// titles of the tables.
var titles = map[string]string{
	asRoot:      "As root",
	asNobody:    "As uid 65534, without capabilities",
	inContainer: "In a container",
}

var preambles = map[string]string{
	asRoot:      "The upgrader and the server run as root, the databases as their own users by `--user`.",
	asNobody:    "The upgrader and the server run as nobody, the databases too. A server that is setuid is not so here: the kernel wants `no_new_privs` for what takes its bind over.",
	inContainer: "`USER 65534`, Docker's default seccomp profile and capabilities, a root that is read-only, the upgrader as PID 1. The image is FROM scratch with the static upgrader; /usr and /etc of the machine are mounted into it, read-only, for servers that need them.",
}

// render writes the page.
func render(o options, rows []Row, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, intro, o.Swaps, 200*o.Pace, 40*o.Pace, 40*o.Pace, machine())
	if o.SettleMax != 0 || o.ReadyTimeout != 0 {
		fmt.Fprintf(&b, "\nEvery row ran with `--settle-max %v --ready-timeout %v`.\n", o.SettleMax, o.ReadyTimeout)
	}
	for _, w := range []string{asRoot, asNobody, inContainer} {
		table(&b, w, rows)
	}
	b.WriteString("\n## How each was started\n\n`DIR` is a folder of its own; what else a server needs is its ordinary configuration for one address.\n\n")
	told := map[string]bool{}
	for _, r := range rows {
		if r.Command == "" || told[r.Server] {
			continue
		}
		told[r.Server] = true
		fmt.Fprintf(&b, "- %s", r.Server)
		if r.Version != "" {
			fmt.Fprintf(&b, " (%s)", r.Version)
		}
		fmt.Fprintf(&b, ": `%s`\n", r.Command)
	}
	fmt.Fprintf(&b, "\nThe whole survey took %v.\n", took.Round(time.Second))
	return b.String()
}

func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u) // it cannot fail on memory of ours
	text := func(b []byte) string { return strings.TrimRight(string(b), "\x00") }
	busy := ""
	if f, err := os.ReadFile("/proc/loadavg"); err == nil {
		busy = ", load average " + strings.Fields(string(f))[0]
	}
	return fmt.Sprintf("Linux %s, %s, %d CPUs%s, loopback", text(u.Release[:]), text(u.Machine[:]), runtime.NumCPU(), busy)
}

// table writes the rows of one way, and what there is to say about them.
func table(b *strings.Builder, way string, rows []Row) {
	var notes []string
	wrote := false
	for _, r := range rows {
		if r.Way != way {
			continue
		}
		if !wrote {
			fmt.Fprintf(b, "\n## %s\n\n%s\n\n", titles[way], preambles[way])
			b.WriteString("| server | strategy, signal | committed | new: answered | failed | refused | keep-alive: answered | failed | ended | gap | swap |\n")
			b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
			wrote = true
		}
		mark := ""
		if text := footnote(r); text != "" {
			notes = append(notes, text)
			mark = fmt.Sprintf(" [%d]", len(notes))
		}
		line(b, r, mark)
	}
	for i, n := range notes {
		if i == 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(b, "%d. %s\n", i+1, n)
	}
}

func line(b *strings.Builder, r Row, mark string) {
	fmt.Fprintf(b, "| %s%s | %s, %s |", r.Server, mark, r.Strategy, r.Signal)
	switch {
	case r.Skipped != "":
		fmt.Fprintf(b, " not measured: %s | | | | | | | | |\n", r.Skipped)
		return
	case r.Error != "":
		fmt.Fprintf(b, " **%d of %d, then the row failed** |", r.Committed, r.Swaps)
	default:
		fmt.Fprintf(b, " %d of %d |", r.Committed, r.Swaps)
	}
	fresh, isFresh := r.load(newConnections)
	if u, is := r.load(datagrams); is && !isFresh {
		fresh, isFresh = u, true
	}
	if isFresh {
		refused := fresh.Failed[load.Refused]
		others := map[load.Outcome]int{}
		for o, n := range fresh.Failed {
			if o != load.Refused {
				others[o] = n
			}
		}
		fmt.Fprintf(b, " %d | %s | %d |", fresh.OK, classes(others), refused)
	} else {
		b.WriteString(" | | |")
	}
	if k, is := r.load(keepAlive); is {
		fmt.Fprintf(b, " %d | %s | %d |", k.OK, classes(k.Failed), k.Ended)
	} else {
		b.WriteString(" – | – | – |")
	}
	swap := "–"
	if len(r.Took) > 0 {
		swap = fmt.Sprintf("%d ms", r.median().Milliseconds())
	}
	fmt.Fprintf(b, " %d ms | %s |\n", fresh.Gap.Milliseconds(), swap)
}

// footnote is what the table has no column for.
func footnote(r Row) string {
	var parts []string
	add := func(format string, a ...any) { parts = append(parts, fmt.Sprintf(format, a...)) }
	if r.Error != "" {
		add("It went wrong: %s", strings.SplitN(r.Error, "\n", 2)[0])
	}
	if u, is := r.load(datagrams); is {
		add("Datagrams: %d answered, %s failed, %d had to be sent again", u.OK, classes(u.Failed), u.Resent)
	}
	for _, l := range r.Loads {
		if l.Busy > 0 {
			add("%d times the server told a %s client that it was not ready for it, and the client asked again", l.Busy, l.Kind)
		}
		if l.Routed > 0 {
			add("%d %s requests were answered by an older generation than had to be", l.Routed, l.Kind)
		}
	}
	if r.Fallback && r.Error == "" {
		add("Its bind cannot be taken over: a successor finds the address in use, the swap rolls back, and whoever served serves on")
	} else if r.Skipped == "" && r.Error == "" && len(r.Claims) == 0 {
		add("Nothing was taken over")
	}
	if r.Hurried > 0 {
		add("%d predecessors were told to quit with requests on their way, because `--settle-max` was over", r.Hurried)
	}
	for _, reason := range r.Reasons {
		add("Not committed: %s", reason)
	}
	for _, w := range r.Warnings {
		add("Warned: %s", w)
	}
	parts = append(parts, r.Notes...)
	if len(parts) == 0 {
		return ""
	}
	return strings.Join(strings.Fields(strings.Join(parts, ". ")), " ") + "."
}
