// Package self replaces a running upgrader by a new one of itself, and
// whatever becomes of the new one, exactly one of the two is in charge: the
// old one until it has let everything go, the new one from then on.
//
// tableflip (flip.go, the only file that knows it) starts the new program,
// waits until that is ready, kills it when it is late, and holds the next
// upgrade back until the old program is gone. Of tableflip's Fds one file is
// used, the link (link.go): a socket over which everything else goes, since
// what Fds was given once it cannot remove, so that each attempt that failed
// would leave its duplicates of lanes behind, and a lane of UDP of which a
// duplicate is open never leaves its group.
//
//	old                                   new
//	Upgrade: start, Bundle       ──▶      New: Inherited
//	                                      ... its generation becomes ready
//	Upgrade returns an Heir      ◀──      Inheritance.Ready (or Failed: then it ends)
//	... lets go; Heir.Release    ──▶      Ready returns: in charge
//	ends
//
// The same package splits off the small init (init_linux.go), so that the
// process that a container or a terminal started stays the same one.
package self
