package proxy

import (
	"context"
	"net"
	"net/netip"
)

// At gives a Backend.Dial for a server at a fixed address: network is tcp, tcp4, tcp6 or unix, address is
// IP:PORT, [IP]:PORT or a path. Where the system allows it, a connection to such a server costs no goroutine.
func At(network, address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) { return dialAt(ctx, network, address) }
}

func dialPlain(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	return d.DialContext(ctx, network, address)
}

func parseEndpoint(address string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return a, err
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), nil
}
