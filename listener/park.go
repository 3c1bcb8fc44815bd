package listener

import (
	"os"
	"syscall"

	"github.com/upgrader/upgrader/listener/notify"
)

// Park is for servers written in Go: it gives a duplicate of c, a connection, a listener or a file, to
// whoever started this server, who keeps it open and passes it to the successor under name. c stays the
// caller's. A connection that is parked does not end when the server closes it: [Unpark] it first.
// notify.ErrNobody: nobody keeps anything for this server.
func Park(name string, c syscall.Conn) error { return notify.Park(name, c) }

// Unpark has everything closed that is parked under name.
func Unpark(name string) error { return notify.Unpark(name) }

// Parked gives what a predecessor parked under name, oldest first: the caller closes it. A second call
// finds nothing. net.FileConn makes a connection of each, net.FileListener a listener.
func Parked(name string) ([]*os.File, error) { return notify.Parked(name) }
