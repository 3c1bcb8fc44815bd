package shmbridge

import "fmt"

// State says what the segment's bytes are worth.
type State uint32

// The states, as they lie on the bridge page. Zero and all others are impossible there.
const (
	Fresh   State = 1 // nobody has written yet: all bytes are zero
	Live    State = 2 // a generation holds the lease and may be writing
	Saved   State = 3 // consistent: the last writer said so, or it was unmanaged and ended in good order
	Unsaved State = 4 // the last writer ended without saying so
)

// String returns the word that UPGRADER_SHM_STATE holds.
func (s State) String() string {
	switch s {
	case Fresh:
		return "fresh"
	case Live:
		return "live"
	case Saved:
		return "saved"
	case Unsaved:
		return "unsaved"
	}
	return fmt.Sprintf("state %d", uint32(s))
}

func (s State) possible() bool { return s >= Fresh && s <= Unsaved }

// Exit says how a generation ended.
type Exit int

// The ways in which a generation ends.
const (
	ExitClean    Exit = iota + 1 // by itself, with status 0: an unmanaged writer has saved by that
	ExitCrash                    // any other way
	ExitNeverRan                 // it was never executed: the segment is as it was found
)

// ended returns the state after a generation that left word and had found, and had taken the lease by itself, ended.
func ended(state, found State, managed bool, how Exit) State {
	switch {
	case state != Live:
		return state
	case how == ExitNeverRan && !managed:
		return found
	case how == ExitClean && !managed:
		return Saved
	}
	return Unsaved
}

// word packs a generation and a state as the bridge page holds them.
func word(generation uint32, s State) uint64 { return uint64(generation)<<32 | uint64(s) }

func unword(w uint64) (uint32, State) { return uint32(w >> 32), State(uint32(w)) }
