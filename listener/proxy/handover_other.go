//go:build !linux || goroutines

package proxy

import (
	"context"
	"errors"
	"fmt"
)

// Transferable is whether the sessions of a proxy can be handed to another process.
const Transferable = false

var errTransfer = fmt.Errorf("proxy: hand over: %w", errors.ErrUnsupported)

func (p *Proxy) freeze(context.Context) error { return errTransfer }

func (p *Proxy) thaw(bool) {}

func (p *Proxy) handOver(int, func(Parcel) error) error { return errTransfer }

func (p *Proxy) land(Parcel) error { return errTransfer }
