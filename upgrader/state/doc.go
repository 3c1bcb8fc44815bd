// Package state keeps what outlives an upgrader: at any time at most one
// upgrader holds the lock of a state dir, and what lies in it was written whole
// by an upgrader of the same user in the same boot, or is not used.
//
// # Where
//
// The state dir of a service is BASE/NAME, BASE being the first of these that
// can be used:
//
//	/run/upgrader                  as root
//	$XDG_RUNTIME_DIR/upgrader      as anybody else, when it is a directory of ours
//	/tmp/upgrader-UID
//	%LOCALAPPDATA%\upgrader        on Windows
//
// NAME is what --name says, or made by Name from the command: its base name
// and a hash of the directory and all arguments, so that two commands never
// share a dir, and the same command from the same directory finds its dir
// again, also after kill -9. Two upgraders that wrap the same command from the
// same directory do collide, and the second is told so: give one a --name.
//
// # What
//
//	lock          flock; "PID START NAME" and the command, of its holder
//	state.json    the last state
//	control.sock  see package control
package state
