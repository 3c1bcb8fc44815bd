// Package tail gives a server a stderr that never breaks under it: an
// append-only file that outlives us, so that neither our death nor a reader
// that is slow can stop, fail or kill the server's writes (a pipe without a
// reader ends in SIGPIPE).
//
// One goroutine follows the file (follow.go) and keeps the last lines
// (lines.go); another forwards the bytes unchanged, at the pace of whoever
// takes them (forward.go). What was forwarded is given back to the disk
// (space.go): the file takes at most a few MiB, because what a slow taker has
// not had by then is left out and said to be.
//
// While no upgrader follows the file it grows without a bound.
//
// Positions are counted from the first byte that the server ever wrote; base
// is the position of the file's present first byte.
package tail
