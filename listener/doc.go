// Package listener keeps every claimed address bound, and sends each new connection of a claim to a
// lane of the generation that was steered to last, from the first claim to Close.
//
// A Claim is an address that is held for a service. A Lane is the socket of one generation on a claim.
// A Set is all the claims of one service.
//
// # Linux, TCP and UDP
//
// The lanes of a claim are the members of one SO_REUSEPORT group, and a classic BPF program
// (SO_ATTACH_REUSEPORT_CBPF, Linux 4.5, no privilege) names the members that new connections go to.
// The kernel appends a member at listen(2) (TCP) or bind(2) (UDP), and fills the hole that a leaving
// member makes with the last one. So that no index ever points at the wrong lane, a lane leaves only
// when that moves no steered member, or when all that stay are steered (a program that points past the
// end falls back to a hash over all members). Until then it stays, and what lands in it is relayed.
//
// # Linux, Unix stream sockets
//
// A lane is bound to a name of its own, .lane-*, in the directory of the claimed path; a hard link of
// it is renamed over the claimed path: that rename steers. The name of its own is kept, so that the
// claimed path can be put back when a server unlinks it. A guest that asks its lane for its name is
// told that name.
//
// # Others
//
// Other Unixes have one shared socket for a claim: steering is done by whoever accepts. On Windows a
// claim is an error.
package listener
