// Package winevents asks a running server to save and quit, and is asked: a
// successor is told that it may start only after its predecessor, proved by
// creation time or executable to be the process meant, has confirmed or is
// gone, unless the caller chose the policy that says otherwise.
//
// Two processes talk through named kernel events of Windows, whose names end in
// the asked process's id: the asking side (program A, [Ask]) sets
// NFServer_Kill_{pid} and waits for NFServer_KillSuccess_{pid}; the asked side
// (program B, [NewAsked]) stops its services, saves, confirms and lingers.
// [Send] sets the events that nobody confirms. The names, the kind of the
// events and the times are those of unmodified peers, and each side works with
// an unmodified other; what is repaired, and why it stays compatible, is in
// docs/windows-protocol.md.
//
// The files: ask.go and answer.go are program A, asked.go is program B; both
// are written against the few kernel calls of kernel.go, which exist on Windows
// (kernel_windows.go) and in the tests. On other systems everything that needs
// the kernel answers [ErrUnsupported].
package winevents
