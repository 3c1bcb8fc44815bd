package dialect

import "errors"

// systemfd is how servers on Windows that use the listenfd crate get their
// sockets: they connect to SYSTEMFD_SOCKET_SERVER, say SYSTEMFD_SOCKET_SECRET
// (a UUID), '|' and their process id, and read a WSAPROTOCOL_INFOW for each
// socket. The variables name a server of the upgrader's, which sets them.
type systemfd struct{}

// Systemfd is the name of that dialect.
const Systemfd = "systemfd"

func (systemfd) Name() string { return Systemfd }

func (systemfd) Clears() []string { return clears() }

func (systemfd) check(Lane) error {
	if !protocolInfos {
		return errors.New("sockets are handed over by WSADuplicateSocket on Windows only")
	}
	return nil
}

func (systemfd) Environ([]Lane, int) []Variable { return nil }
