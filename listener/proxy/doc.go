// Package proxy keeps every client's connection while the server behind it is swapped: each byte of a
// client goes to exactly one server connection, once, in order, and no byte that a server connection
// took is ever sent to another without being counted.
//
// A session is one client connection. It has at most one leg at a time: its connection to a server of
// one generation. A session without a leg is parked: its client's bytes wait in the kernel, so many as
// the socket's receive buffer takes, and TCP's own flow control stops the client.
//
// What "in flight" means, and what is known of it. Bytes that were written to a leg, and that nothing
// came back for since, may have been processed or not when the leg ends: nobody but the server knows.
// Linux tells one thing more: a server that dies with bytes unread resets its connection instead of
// ending it in good order. In flight is therefore: the server's last word is older than the client's
// last byte, or the leg was reset after it got bytes, or a write to it failed. A session that was quiet
// (Drain, Move) has nothing in flight. What is in flight when a leg is lost is counted (Stats.InFlight)
// and, by Config.InFlight, the client is reset or the session goes on without it.
package proxy
