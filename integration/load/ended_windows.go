package load

import "net"

// ended: Windows gives no such look; the next request finds out.
func ended(net.Conn) bool { return false }
