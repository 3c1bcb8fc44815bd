package shmbridge

import (
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
)

// guard calls f, and makes an error that matches sentinel of a fault in it: whoever may write a segment may also cut its
// file off under our mapping, which the kernel tells by SIGBUS.
func guard(sentinel error, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case runtime.Error:
			var fault interface{ Addr() uintptr }
			if !errors.As(r, &fault) {
				panic(r)
			}
			err = fmt.Errorf("shmbridge: the file ends before address %#x of its mapping: %w", fault.Addr(), sentinel)
		default:
			panic(r)
		}
	}()
	return f()
}

func (p *Page) guard(f func() error) error { return guard(ErrPage, f) }
