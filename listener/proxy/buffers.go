package proxy

import (
	"errors"
	"os"
	"sync"
	"time"
)

// past is a deadline that interrupts whoever waits.
var past = time.Unix(1, 0)

func timeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// bufferPool has buffers of one size.
type bufferPool struct{ pool sync.Pool }

func newBufferPool(size int) *bufferPool {
	return &bufferPool{sync.Pool{New: func() any {
		b := make([]byte, size)
		return &b
	}}}
}

func (p *bufferPool) get() *[]byte  { return p.pool.Get().(*[]byte) }
func (p *bufferPool) put(b *[]byte) { p.pool.Put(b) }
