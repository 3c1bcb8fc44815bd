// Package upgrader swaps the processes of one service: the serving generation
// is retired only after its successor has said that it is ready, and when two
// may not run at once the successor starts only after its predecessor is known
// to be gone.
//
// The pure machine (machine.go) says which moves are legal. One loop
// (service.go) owns all that changes and learns of the world by facts on one
// channel; whatever can block (starting, probing, settling, stopping, killing)
// runs in goroutines that report a fact when they end. Callers never wait for
// the loop: they get a one-slot reply.
//
// A generation moves through the files in this order: recipe.go (what is run),
// start.go (its lanes, environment and process), readiness.go (what proves it),
// swap.go (the verdict), retire.go (settle, stop signal, KILL).
//
// A new upgrader takes over by handover.go (the old side), handed.go (what
// passes between them) and succeed.go (the new side).
package upgrader
