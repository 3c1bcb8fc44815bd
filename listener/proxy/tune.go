package proxy

import "net"

// tune sets what Config asks of a connection.
func (p *Proxy) tune(c net.Conn) error {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	if p.config.KeepAlive != (net.KeepAliveConfig{}) {
		if err := t.SetKeepAliveConfig(p.config.KeepAlive); err != nil {
			return err
		}
	}
	if p.config.UserTimeout > 0 {
		return setUserTimeout(t, p.config.UserTimeout)
	}
	return nil
}
