package shmbridge

import "errors"

// What can be wrong with a segment, its page or a lease.
var (
	// ErrUnsupported: this system, or this kernel, has no such thing.
	ErrUnsupported = errors.New("not supported by this system")
	// ErrSpec: the text is not the name of a segment.
	ErrSpec = errors.New("bad segment")
	// ErrNotShared: the environment holds no segment, so the process was not started by an upgrader that shares one.
	ErrNotShared = errors.New("no segment in the environment")
	// ErrLocked: another upgrader holds the segment.
	ErrLocked = errors.New("held by another upgrader")
	// ErrSize: the segment exists with another size, or has changed its size.
	ErrSize = errors.New("another size")
	// ErrOwner: the segment or its bridge page belongs to another user.
	ErrOwner = errors.New("another owner")
	// ErrRemoved: the segment is marked for removal, or its name stands for something else now.
	ErrRemoved = errors.New("removed")
	// ErrNoSpace: there is not enough memory, or file system, for the segment.
	ErrNoSpace = errors.New("not enough space")
	// ErrPage: the bridge page is none, or holds what nobody may have written.
	ErrPage = errors.New("not a sound bridge page")
	// ErrVoid: the lease is void, because a later generation has it, or because it was given up.
	ErrVoid = errors.New("the lease is void")
	// ErrBusy: an older generation is still writing.
	ErrBusy = errors.New("an older generation is still writing")
	// ErrRestoring: a restore was begun and not finished, so the segment's bytes are of two times.
	ErrRestoring = errors.New("a restore was not finished")
	// ErrMapped: a process that is not ours maps the segment.
	ErrMapped = errors.New("still mapped")
	// ErrSchema: the bytes are in a schema that is not declared.
	ErrSchema = errors.New("schema not declared")
)

// Why a snapshot is refused.
var (
	// ErrNotSnapshot: the file is something else.
	ErrNotSnapshot = errors.New("not a snapshot")
	// ErrVersion: the layout is of a version that is not known here.
	ErrVersion = errors.New("unknown layout version")
	// ErrTruncated: the file is shorter than its header says.
	ErrTruncated = errors.New("truncated")
	// ErrTooLarge: the file is longer than its header says, or the snapshot larger than the segment.
	ErrTooLarge = errors.New("too large")
	// ErrCorrupt: a checksum does not match.
	ErrCorrupt = errors.New("corrupt")
	// ErrForeign: the snapshot is of another segment.
	ErrForeign = errors.New("of another segment")
	// ErrNoSnapshot: there is none.
	ErrNoSnapshot = errors.New("no snapshot")
)
