package upgrader

import "time"

// Event tells an observer one thing that happened. What names it; the other
// fields are set where they mean something.
type Event struct {
	Time       time.Time     `json:"time"`
	What       string        `json:"what"`
	State      State         `json:"state"`
	Generation int           `json:"generation,omitempty"`
	Pid        int           `json:"pid,omitempty"`
	Message    string        `json:"message,omitempty"`
	Took       time.Duration `json:"took,omitempty"` // nanoseconds
	Err        error         `json:"-"`
	Error      string        `json:"error,omitempty"`
	Warning    bool          `json:"warning,omitempty"`
}

// What happens, as Event.What.
const (
	EventClaimed     = "claimed"     // an address is held
	EventStarting    = "starting"    // a generation was started
	EventBound       = "bound"       // a bind(2) of the server was taken over
	EventReady       = "ready"       // a generation is ready
	EventSteered     = "steered"     // new connections go to a generation
	EventShared      = "shared"      // a canary gets a share of the new connections
	EventLeaving     = "leaving"     // a predecessor was asked to quit
	EventUnconfirmed = "unconfirmed" // it has not, and its successor starts beside it
	EventConfirmed   = "confirmed"   // it has saved and lingers: its successor may start
	EventInsist      = "insist"      // one that was asked to quit was told once more
	EventKilled      = "killed"      // a generation was killed at its deadline
	EventGone        = "gone"        // no process of a generation is left
	EventSwapping    = "swapping"    // a swap begins
	EventCommitted   = "committed"   // its verdict
	EventRolled      = "rolled-back"
	EventFailed      = "failed"
	EventProved      = "proved"      // probation is over
	EventDied        = "died"        // the serving generation died by itself
	EventRetry       = "retry"       // a start will be tried again
	EventRefusing    = "refusing"    // nobody served for too long
	EventAdopted     = "adopted"     // a generation of an upgrader that died was found
	EventUpgrading   = "upgrading"   // a self-upgrade begins
	EventHandedOver  = "handed-over" // another upgrader, Pid, is in charge
	EventStopping    = "stopping"    // a full stop begins
	EventStopped     = "stopped"     // it is over
	EventWatchdog    = "watchdog"    // the server no longer says that it lives: it is aborted
	EventStatus      = "status"      // the server said STATUS=
	EventHeld        = "held"        // clients of a proxy wait for the successor of a generation
	EventMoved       = "moved"       // clients of a proxy went on at a generation
	EventSave        = "save"        // the predecessor was asked to save the segment and quit
	EventConfirm     = "confirm"     // it is gone: what became of the segment
	EventRestore     = "restore"     // a generation serves on the segment
	EventSnapshot    = "snapshot"    // one was taken
	EventRestored    = "restored"    // a snapshot was put back into the segment
	EventOutsider    = "outsider"    // a process of this server that we did not start was found
	EventMigrated    = "migrated"    // the segment is in the schema of the successor
	EventNote        = "note"        // something that an operator may want to know
)

// observe tells the observer.
func (s *Service) observe(e Event) {
	e.Time = time.Now()
	e.State = s.state
	if e.Err != nil && e.Error == "" {
		e.Error = e.Err.Error()
	}
	s.events.publish(e)
	if s.config.Observe != nil {
		s.config.Observe(e)
	}
}
