package control

import "time"

// Segment is the shared memory of a service.
type Segment struct {
	Name           string `json:"name"`                       // as --shm names it, without the size
	Size           int64  `json:"size"`                       // bytes
	State          string `json:"state,omitempty"`            // fresh, live, saved, unsaved
	Generation     int    `json:"generation"`                 // that had the lease last, 0: none since the upgrader started
	Managed        bool   `json:"managed"`                    // it has taken the lease by itself
	Saves          uint64 `json:"saves"`                      // of all generations
	Schema         uint64 `json:"schema"`                     // of the bytes, 0: not told
	BackupDir      string `json:"backup_dir"`                 // where its snapshots are
	SecondPhase    string `json:"second_phase"`               // of a swap's snapshot: BesideStart or BeforeStart
	SecondPhaseWhy string `json:"second_phase_why,omitempty"` // it is before
	Error          string `json:"error,omitempty"`            // why the bridge page cannot be read
}

// When the second phase of a swap's snapshot runs, in which what the
// predecessor changed last is copied.
const (
	BesideStart = "beside" // the successor's start: it waits where it would reach the segment
	BeforeStart = "before" // the successor's start
)

// Snapshot is a file with a segment's bytes.
type Snapshot struct {
	Number     uint64    `json:"number"` // counts those of a segment
	Path       string    `json:"path"`
	Segment    string    `json:"segment"`    // whose bytes, as Segment.Name
	Size       int64     `json:"size"`       // of the segment, bytes
	Time       time.Time `json:"time"`       // when it was taken
	State      string    `json:"state"`      // of the segment then; live: somebody wrote meanwhile
	Generation int       `json:"generation"` // that had the lease, as the bridge page counts
	Schema     uint64    `json:"schema"`
	Saves      uint64    `json:"saves"`
	Error      string    `json:"error,omitempty"` // why it is refused
}
