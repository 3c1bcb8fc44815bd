package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/upgrader/upgrader/listener"
)

// Listen opens a public address for Config.Public: tcp or unix. Where a listener.Set can hold the
// address, net.FileListener of a lane's duplicate is better: it keeps the path, has the owner, and can be
// handed on. Here a Unix socket's path must not exist, and ?user= and ?group= are errors.
func Listen(ctx context.Context, a listener.Address) (net.Listener, error) {
	lc := net.ListenConfig{Control: hold}
	lc.SetMultipathTCP(false)
	switch a.Network {
	case "tcp", "tcp4", "tcp6":
		l, err := lc.Listen(ctx, a.Network, net.JoinHostPort(a.Host, strconv.Itoa(a.Port)))
		if err != nil {
			return nil, fmt.Errorf("proxy: listen: %w", err)
		}
		return l, nil
	case "unix":
		if a.User != "" || a.Group != "" {
			return nil, fmt.Errorf("proxy: listen on %s: an owner: %w", a, errors.ErrUnsupported)
		}
		l, err := lc.Listen(ctx, "unix", a.Path)
		if err != nil {
			return nil, fmt.Errorf("proxy: listen: %w", err)
		}
		if a.Mode != 0 {
			if err := os.Chmod(a.Path, a.Mode); err != nil {
				_ = l.Close() // of no use
				return nil, fmt.Errorf("proxy: listen: %w", err)
			}
		}
		return l, nil
	}
	return nil, fmt.Errorf("proxy: listen on %s: only streams have connections to keep: %w", a, errors.ErrUnsupported)
}
