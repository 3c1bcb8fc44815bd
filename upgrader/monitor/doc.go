// Package monitor follows a running upgrader for a person: a Board is what was last heard of its services, and showing it
// asks nobody and waits for nothing.
//
// Follow asks for the status when something has happened, and otherwise once in a while, since queues and counters change
// without an event. An upgrader that hands over to another one is followed to that.
package monitor
