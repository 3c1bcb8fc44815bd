package shmbridge

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/zeebo/xxh3"
)

// chunkSize is what one worker does at a time: small enough for its cache, large enough that taking turns costs nothing.
const chunkSize = 256 << 10

// table is the checksums of the blocks of some bytes, as it lies in a snapshot.
type table []byte

func (t table) get(block int64) uint64 { return binary.LittleEndian.Uint64(t[block*sumSize:]) }
func (t table) set(block int64, sum uint64) {
	binary.LittleEndian.PutUint64(t[block*sumSize:], sum)
}
func (t table) sum() uint64 { return xxh3.Hash(t) }

// block returns the bytes of one block; the last may be short.
func block(b []byte, n int64) []byte {
	return b[n*blockSize : min((n+1)*blockSize, int64(len(b)))]
}

// work is one pass over all blocks, by several workers.
type work struct {
	size    int64
	workers int             // 0: one for each processor
	hurry   <-chan struct{} // nil: none; else one worker of low priority is enough until it is closed
	fault   error           // what a fault in it matches
	done    func(int64)     // called after each chunk with its first block; nil: nothing
	do      func(first, past int64) error
}

// run calls do for each chunk, from the first to the last one, until one fails or ctx is done.
func (w work) run(ctx context.Context) error {
	const perChunk = chunkSize / blockSize
	total := blocks(w.size)
	workers := w.workers
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	workers = int(min(int64(workers), (total+perChunk-1)/perChunk))
	var next, failed atomic.Int64
	var group sync.WaitGroup
	errs := make([]error, workers+1)
	turn := func(i int) {
		errs[i] = guard(w.fault, func() error {
			for failed.Load() == 0 {
				first := next.Add(perChunk) - perChunk
				if first >= total {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := w.do(first, min(first+perChunk, total)); err != nil {
					return err
				}
				if w.done != nil {
					w.done(first)
				}
			}
			return nil
		})
		if errs[i] != nil {
			failed.Store(1)
		}
	}
	all := func() {
		for i := range workers {
			group.Go(func() { turn(i) })
		}
	}
	if w.hurry == nil {
		all()
	} else {
		last := make(chan struct{})
		group.Go(func() {
			defer close(last)
			gently(func() { turn(workers) })
		})
		group.Go(func() {
			select {
			case <-w.hurry:
				all()
			case <-last:
			}
		})
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// hashAll returns a pass that fills sums with the checksums of b.
func hashAll(b []byte, sums table) func(first, past int64) error {
	return func(first, past int64) error {
		for n := first; n < past; n++ {
			sums.set(n, xxh3.Hash(block(b, n)))
		}
		return nil
	}
}

// copyAll returns a pass that copies all of src to dst, and fills sums with the checksums of what dst holds then, however
// src changes meanwhile.
func copyAll(dst, src []byte, sums table) func(first, past int64) error {
	return func(first, past int64) error {
		for n := first; n < past; n++ {
			b := block(dst, n)
			copy(b, block(src, n))
			sums.set(n, xxh3.Hash(b))
		}
		return nil
	}
}

// copyChanged returns a pass that copies those blocks of src to dst whose checksum is not the one in sums, which are
// those of dst before and after.
func copyChanged(dst, src []byte, sums table, copied *atomic.Int64) func(first, past int64) error {
	return func(first, past int64) error {
		for n := first; n < past; n++ {
			from := block(src, n)
			if xxh3.Hash(from) == sums.get(n) {
				continue
			}
			b := block(dst, n)
			copy(b, from)
			sums.set(n, xxh3.Hash(b))
			copied.Add(1)
		}
		return nil
	}
}

// verifyAll returns a pass that compares b with its checksums.
func verifyAll(b []byte, sums table) func(first, past int64) error {
	return func(first, past int64) error {
		for n := first; n < past; n++ {
			if xxh3.Hash(block(b, n)) != sums.get(n) {
				return fmt.Errorf("%w: block %d", ErrCorrupt, n)
			}
		}
		return nil
	}
}

// putBack returns a pass that makes dst what sums says, out of src, and proves it.
func putBack(dst, src []byte, sums table) func(first, past int64) error {
	return func(first, past int64) error {
		for n := first; n < past; n++ {
			b, want := block(dst, n), sums.get(n)
			if xxh3.Hash(b) == want {
				continue
			}
			copy(b, block(src, n))
			if xxh3.Hash(b) != want {
				return fmt.Errorf("%w: block %d after it was put back", ErrCorrupt, n)
			}
		}
		return nil
	}
}
