package winevents

import "strconv"

// Signal is what an event says to the process whose id its name ends in.
type Signal string

// The signals. All but KillSuccess go to the server that is asked; KillSuccess
// is its confirmation.
const (
	Kill        Signal = "Kill"        // save, confirm, quit: a successor wants to start
	KillSuccess Signal = "KillSuccess" // saved, go ahead
	Reload      Signal = "Reload"      // read the configuration again
	Stop        Signal = "Stop"        // stop the services and quit
	Quit        Signal = "Quit"        // the same, in a hurry
)

// Name is the event's name for a process id: NFServer_Kill_4242. Names are case
// sensitive; the id is decimal.
func (s Signal) Name(pid int) string {
	return "NFServer_" + string(s) + "_" + strconv.Itoa(pid)
}

// Namespace is the part of the kernel's name space that a name is looked up in.
type Namespace string

// The two name spaces. In session 0 (services) both are the same; in any other
// session they are two, and a peer that uses the other one sees nothing.
const (
	Local  Namespace = ""        // the session's own, as the documents' bare names
	Global Namespace = `Global\` // the machine's
)

// namespaces is what a nil list means: both.
func namespaces(list []Namespace) []Namespace {
	if len(list) == 0 {
		return []Namespace{Local, Global}
	}
	return list
}
