package listener

// CanDiagnose tells why the kernel does not list sockets for us (sock_diag);
// nil: it does.
func CanDiagnose() error {
	return diagUnix(0, func(diagSocket) {})
}
