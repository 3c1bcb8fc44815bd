//go:build !linux || goroutines

package proxy

import (
	"context"
	"net"
)

func dialAt(ctx context.Context, network, address string) (net.Conn, error) {
	return dialPlain(ctx, network, address)
}
