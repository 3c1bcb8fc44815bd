package listener

import "os"

// A Claim is an address that a Set holds.
type Claim struct {
	address  Address
	explicit bool
	claimSystem
}

// Name is the name that the user gave to the claim; empty for none.
func (c *Claim) Name() string { return c.address.Name }

// Address is what was claimed, with the port that was given by the system where 0 was asked for.
func (c *Claim) Address() Address { return c.address }

// Explicit tells whether the claim was made by Set.Claim; else it came of a guest's own bind.
func (c *Claim) Explicit() bool { return c.explicit }

// Network is "tcp", "udp", "unix" or "unixgram".
func (c *Claim) Network() string { return c.network() }

// Datagrams tells whether clients of the claim send datagrams: nobody connects to it, and nothing is accepted.
func (c *Claim) Datagrams() bool { return datagrams(c.network()) }

func datagrams(network string) bool { return network == "udp" || network == "unixgram" }

// Dial is the address at which this host's own clients reach the claim (the loopback address for a
// claim of all addresses), as for net.Dial with Network.
func (c *Claim) Dial() string { return c.dial() }

func (c *Claim) String() string { return c.address.String() }

// A Lane is the socket of one generation on one claim. Only the Set closes it.
type Lane struct {
	claim *Claim
	laneSystem
}

// Claim is the lane's claim.
func (l *Lane) Claim() *Claim { return l.claim }

// Generation is the generation that has the lane; 0 for one that waits to be handed out.
func (l *Lane) Generation() int { return l.generation() }

// Inode is the inode of the socket, as in the links of /proc/PID/fd.
func (l *Lane) Inode() uint64 { return l.inodeNumber() }

// Cookie is the SO_COOKIE of the socket.
func (l *Lane) Cookie() uint64 { return l.cookieNumber() }

// Dup duplicates the lane's descriptor (close-on-exec). The caller closes it. The description's
// O_NONBLOCK, which all duplicates share, is not touched: do not call Fd on the file, use SyscallConn.
// While a duplicate is open, a lane of UDP or unix cannot leave.
func (l *Lane) Dup() (*os.File, error) { return l.dup() }
