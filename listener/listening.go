package listener

import "net/netip"

// Listening is a socket of TCP of this host (Linux: of this network namespace) that listens, whoever made it.
type Listening struct {
	Addr  netip.AddrPort
	Inode uint64 // Linux: whoever has it open has the socket; 0: see Pid
	Pid   int    // Windows: of the process that made the socket; 0: see Inode
}

// AllListening lists all of them, in no order. errors.ErrUnsupported on other systems than Linux and Windows.
func AllListening() ([]Listening, error) { return allListening() }
