// Package shmbridge keeps a segment of shared memory that outlives its writers: at any time at most one generation
// holds a lease that is not void, and only that generation can mark the segment as saved.
//
// The upgrader opens the segment ([Open]), holds it for its life, grants the lease to one generation after the other
// ([Segment.Lease]) and is told or notices how each ended ([Segment.Ended]). A guest joins with [Attach] (or, in C and
// C++, with upgrader_shm.h), takes the lease, and says when the bytes are consistent. What they tell one another lies on
// the bridge page ([Page], docs/bridge.md); the segment's own bytes belong to the guests alone.
//
// Snapshots ([Store], docs/snapshots.md) are taken in two phases, the first while the predecessor still runs, and put
// back in place, such that a restore which was cut short is noticed and finished.
//
// Segments exist on Linux, and on Windows as named sections. Elsewhere everything compiles and [Open] and [Attach] answer [ErrUnsupported].
package shmbridge
