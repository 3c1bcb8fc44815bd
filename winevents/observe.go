package winevents

// Event tells an observer one thing that happened. What names it, the other
// fields are set where they mean something.
type Event struct {
	What   string
	Pid    int    // the asked process
	Object string // the kernel object's name
	Err    error
}

// What happens, as Event.What.
const (
	EventProved     = "proved"     // asking: the process is the one meant; nothing was signalled yet
	EventStale      = "stale"      // both: an event existed before us and was reset
	EventSignalled  = "signalled"  // asking: an event was set
	EventRetracted  = "retracted"  // asking: the asking was given up before the server had seen Kill
	EventDoubted    = "doubted"    // asking: a confirmation that the saved marker does not bear out (Err)
	EventDeadline   = "deadline"   // asking: no confirmation in time; the policy decides
	EventUnnoticed  = "unnoticed"  // asking: at the deadline nobody had even taken Kill
	EventTerminated = "terminated" // asking: the process was ended by force
	EventReceived   = "received"   // asked: a signal came
	EventCut        = "cut"        // asked: the services have not stopped in time
	EventStopped    = "stopped"    // asked: the services have stopped (Err: with what)
	EventSaved      = "saved"      // asked: saved
	EventConfirmed  = "confirmed"  // asked: the confirmation was set; asking: it was received
	EventLingered   = "lingered"   // asked: the lingering is over
	EventExited     = "exited"     // asking: the process is gone
)
