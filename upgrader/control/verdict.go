package control

import "time"

// The values of Verdict.Verdict.
const (
	Committed  = "committed"   // the successor serves
	RolledBack = "rolled-back" // what served before serves
	Failed     = "failed"      // nothing serves, or there was no swap at all
)

// The values of Verdict.Asked: who wanted the swap.
const (
	AskedSignal  = "signal USR2"
	AskedCommand = "command"
	AskedCrash   = "crash"
	AskedWatch   = "watch"
	AskedHTTP    = "http"
)

// Verdict is how one swap ended.
type Verdict struct {
	Swap    int           `json:"swap"` // from 1; 0: none was begun
	Verdict string        `json:"verdict"`
	Reason  string        `json:"reason,omitempty"` // one line; empty when committed, save for what a crash was
	Late    bool          `json:"late,omitempty"`   // because something took too long
	Asked   string        `json:"asked"`
	From    int           `json:"from"` // generation that served, 0: none
	To      int           `json:"to"`   // generation that was to serve, 0: none was started
	Start   time.Time     `json:"start"`
	Took    time.Duration `json:"took_ns"`
	Phases  []Phase       `json:"phases,omitempty"` // in order
	Gap     time.Duration `json:"gap_ns,omitempty"` // for how long nobody listened on the ports that a server binds by itself; 0: not at all, or not known
	Exit    *ExitStatus   `json:"exit,omitempty"`   // of the generation that failed
	Stderr  []string      `json:"stderr,omitempty"` // the last lines of the successor, at most 20
}

// Phase is one step of a swap.
type Phase struct {
	Name     string        `json:"name"`
	Duration time.Duration `json:"duration_ns"`
}

// ExitStatus is how a process ended.
type ExitStatus struct {
	Code   int    `json:"code"`             // exit status, -1 if a signal ended it
	Signal string `json:"signal,omitempty"` // its name, as in KILL
}

// ExitCode is the exit status of a command that asked for a swap: 0 committed,
// or begun and not waited for; 1 rolled back; 2 failed.
func ExitCode(v Verdict) int {
	switch v.Verdict {
	case Committed, "":
		return 0
	case RolledBack:
		return 1
	default:
		return 2
	}
}

// Event is one thing that happened. What names it; the other fields are set
// where they mean something.
type Event struct {
	Time       time.Time     `json:"time"`
	What       string        `json:"what"`
	Service    string        `json:"service,omitempty"` // of a fleet
	State      string        `json:"state"`             // of the machine, then
	Generation int           `json:"generation,omitempty"`
	Pid        int           `json:"pid,omitempty"`
	Message    string        `json:"message,omitempty"`
	Took       time.Duration `json:"took_ns,omitempty"`
	Error      string        `json:"error,omitempty"`
	Warning    bool          `json:"warning,omitempty"`
}
