//go:build !linux

package listener

// CanDiagnose tells why the sockets of this host cannot be listed.
func CanDiagnose() error { return errSteering }
