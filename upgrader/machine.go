package upgrader

import "fmt"

// State says what the service as a whole is doing.
type State string

// The states. In Serving, Swapping, Sharing, Preparing, Probation, Handing and Taking
// somebody serves; in the others clients wait in a lane.
const (
	Down      State = "down"      // nothing runs, nothing starts: before the first start, or waiting to retry
	Starting  State = "starting"  // a generation starts, nobody serves
	Serving   State = "serving"   // one generation serves
	Swapping  State = "swapping"  // a successor starts beside the serving predecessor (overlap)
	Sharing   State = "sharing"   // the successor is ready and gets a share of the new connections, its predecessor the rest
	Preparing State = "preparing" // the segment is copied while its writer still serves (exclusive, with a segment)
	Probation State = "probation" // the successor serves; if it fails it is rolled back
	Leaving   State = "leaving"   // the predecessor was asked to quit, clients queue for its successor (exclusive)
	Replacing State = "replacing" // the successor starts, its predecessor is gone (exclusive)
	Reverting State = "reverting" // the predecessor's held executable starts again, nobody serves
	Handing   State = "handing"   // a new upgrader starts its generation beside the serving one: nothing else is begun, a stop neither
	Taking    State = "taking"    // we are that new upgrader, and not in charge yet
	Stopping  State = "stopping"  // everything was asked to quit
	Stopped   State = "stopped"   // nothing is left
)

// Move is something that happened and that may change the State.
type Move string

// The moves.
const (
	BeginAsked      Move = "begin"     // start a generation: the first one, or a retry that is due
	Ready           Move = "ready"     // the generation that was starting is ready
	StartFailed     Move = "failed"    // the generation that was starting died, or was late
	ServerDied      Move = "died"      // the serving generation died by itself
	ShareAsked      Move = "share"     // the successor is ready for a share of the new connections
	OverlapAsked    Move = "overlap"   // a swap beside the predecessor
	PrepareAsked    Move = "prepare"   // a swap after the predecessor, whose memory is copied first
	ExclusiveAsked  Move = "exclusive" // a swap after the predecessor
	PredecessorGone Move = "gone"      // the predecessor that was asked to quit is gone
	Proved          Move = "proved"    // probation is over
	Unhealthy       Move = "unhealthy" // the health check failed on probation
	SteeredBack     Move = "back"      // the warm predecessor serves again
	HandAsked       Move = "hand"      // a new upgrader is to take over
	HandedOver      Move = "handed"    // it is in charge
	HandFailed      Move = "kept"      // it is not, and nothing of it is left
	TakeAsked       Move = "take"      // to take over from an old upgrader
	Taken           Move = "taken"     // in charge, our generation is ready beside the serving one (overlap)
	TakenOver       Move = "adopted"   // in charge of the serving generation; ours comes after it (exclusive)
	StopAsked       Move = "stop"      // full stop, or no more retries
	AllGone         Move = "all-gone"  // no process of any generation is left
)

// next is the whole machine. A pair that is not in it is not legal.
var next = map[State]map[Move]State{
	Down:      {BeginAsked: Starting, TakeAsked: Taking, StopAsked: Stopping},
	Starting:  {Ready: Serving, StartFailed: Down, StopAsked: Stopping},
	Serving:   {OverlapAsked: Swapping, PrepareAsked: Preparing, ExclusiveAsked: Leaving, ServerDied: Down, HandAsked: Handing, StopAsked: Stopping},
	Swapping:  {Ready: Probation, ShareAsked: Sharing, StartFailed: Serving, ServerDied: Starting, StopAsked: Stopping},
	Sharing:   {Ready: Probation, StartFailed: Serving, StopAsked: Stopping},
	Preparing: {ExclusiveAsked: Leaving, StartFailed: Serving, StopAsked: Stopping},
	Probation: {Proved: Serving, ServerDied: Reverting, Unhealthy: Reverting, SteeredBack: Serving, OverlapAsked: Swapping, ExclusiveAsked: Leaving, StopAsked: Stopping},
	Leaving:   {PredecessorGone: Replacing, StopAsked: Stopping},
	Replacing: {Ready: Probation, StartFailed: Reverting, StopAsked: Stopping},
	Reverting: {Ready: Serving, StartFailed: Down, StopAsked: Stopping},
	Handing:   {HandedOver: Stopped, HandFailed: Serving},
	Taking:    {Taken: Swapping, TakenOver: Serving, StartFailed: Stopped, StopAsked: Stopped},
	Stopping:  {AllGone: Stopped},
	Stopped:   {},
}

// Next gives the state that m leads to from s, and an error when the table has
// no such move.
func Next(s State, m Move) (State, error) {
	to, ok := next[s][m]
	if !ok {
		return s, fmt.Errorf("upgrader: %s is no move from %s", m, s)
	}
	return to, nil
}

// served reports whether some generation answers clients in s.
func (s State) served() bool {
	switch s {
	case Serving, Swapping, Sharing, Preparing, Probation, Handing, Taking:
		return true
	}
	return false
}

// busy reports whether a swap is under way in s: another one has to queue.
func (s State) busy() bool {
	switch s {
	case Swapping, Sharing, Preparing, Leaving, Replacing, Reverting, Starting, Handing, Taking:
		return true
	}
	return false
}

// ending reports whether the service is on its way out in s.
func (s State) ending() bool { return s == Stopping || s == Stopped }
