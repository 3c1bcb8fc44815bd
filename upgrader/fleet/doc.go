// Package fleet runs several services in one process: what happens to one of
// them, its end included, changes nothing for the others.
//
// Each service is an upgrader.Service with a state dir of its own below the
// fleet's; the fleet has what a process can have only once: the reaper, the
// control socket, the lock and the pid file. It ends when none of its services
// runs any more.
//
// A service that ended by itself, because its first generation failed or its
// retries are exhausted, can be started again: that is what a restart of it
// then does.
package fleet
