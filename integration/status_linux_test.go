package integration

import "time"

// statusReport is what the tests use of `status --json`. It is written down
// here a second time, so that a field that changes its name is noticed.
type statusReport struct {
	Version     int                `json:"version"`
	Name        string             `json:"name"`
	Pid         int                `json:"pid"`
	State       string             `json:"state"`
	Strategy    string             `json:"strategy"`
	Generations []generationReport `json:"generations"`
	Claims      []claimReport      `json:"claims"`
	Verdicts    []verdictReport    `json:"verdicts"`
	Refusing    bool               `json:"refusing"`
	Restarts    int                `json:"restarts"`
	Parked      int                `json:"parked"`
	Proxies     []proxyReport      `json:"proxies"`
	Store       struct {
		Parked  int            `json:"parked"`
		Max     int            `json:"max"`
		Refused int            `json:"refused"`
		Dropped int            `json:"dropped"`
		Names   map[string]int `json:"names"`
	} `json:"store"`
	Message string `json:"message"`
	Segment struct {
		State      string `json:"state"`
		Generation int    `json:"generation"`
		Schema     uint64 `json:"schema"`
		Managed    bool   `json:"managed"`

		SecondPhase    string `json:"second_phase"`
		SecondPhaseWhy string `json:"second_phase_why"`
		Error          string `json:"error"`
	} `json:"segment"`
}

type generationReport struct {
	Number     int    `json:"number"`
	Pid        int    `json:"pid"`
	State      string `json:"state"`
	Executable string `json:"executable"`
	Members    int    `json:"members"`
}

type proxyReport struct {
	Address      string `json:"address"`
	Backend      string `json:"backend"`
	Policy       string `json:"policy"`
	Connections  int    `json:"connections"`
	Held         int    `json:"held"`
	Accepted     int    `json:"accepted"`
	Moved        int    `json:"moved"`
	Resumed      int    `json:"resumed"`
	Stayed       int    `json:"stayed"`
	Unconfirmed  int    `json:"unconfirmed"`
	InFlight     int    `json:"in_flight"`
	Reset        int    `json:"reset"`
	Replayed     int    `json:"replayed"`
	AcceptFailed int    `json:"accept_failed"`
	Idle         int    `json:"idle"`
	BytesUp      int    `json:"bytes_up"`
}

type claimReport struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Lanes   []struct {
		Generation int    `json:"generation"`
		State      string `json:"state"`
		Share      int    `json:"share"`
	} `json:"lanes"`
}

type verdictReport struct {
	Swap    int           `json:"swap"`
	Asked   string        `json:"asked"`
	Verdict string        `json:"verdict"`
	Reason  string        `json:"reason"`
	From    int           `json:"from"`
	To      int           `json:"to"`
	Took    time.Duration `json:"took_ns"`
	Exit    *struct {
		Code   int    `json:"code"`
		Signal string `json:"signal"`
	} `json:"exit"`
	Stderr []string `json:"stderr"`
	Phases []struct {
		Name     string        `json:"name"`
		Duration time.Duration `json:"duration_ns"`
	} `json:"phases"`
}

// serving gives the number of the generation that answers clients, 0 when none does.
func (s statusReport) serving() int { return s.server().Number }

// server gives the generation that answers clients.
func (s statusReport) server() generationReport {
	for _, g := range s.Generations {
		if g.State == "serving" && !s.Refusing {
			return g
		}
	}
	return generationReport{}
}

// lastVerdict gives the newest one, the zero value when there is none.
func (s statusReport) lastVerdict() verdictReport {
	if len(s.Verdicts) == 0 {
		return verdictReport{}
	}
	return s.Verdicts[len(s.Verdicts)-1]
}
