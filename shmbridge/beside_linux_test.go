package shmbridge

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// The second phase beside others is done by one thread of the lowest priority until somebody waits, and by all
// processors from then on; it copies the same either way.
func TestSecondBeside(t *testing.T) {
	closed := make(chan struct{})
	close(closed)
	for name, c := range map[string]struct {
		hurry chan struct{}
		after int // so many chunks it is closed; 0: not
	}{"nobody waits": {hurry: make(chan struct{})}, "from the start": {hurry: closed}, "from the second chunk": {hurry: make(chan struct{}), after: 2}} {
		t.Run(name, func(t *testing.T) {
			const size = 40*chunkSize + 123
			s, b := savedSegment(t, Memfd, size)
			store := openStore(t, StoreConfig{})
			taking, err := store.Begin(s)
			must(t, err)
			defer taking.Abort()
			must(t, taking.First(t.Context()))
			for at := 0; at < len(b); at += 7 * blockSize {
				b[at]++
			}
			var mu sync.Mutex
			chunks, others := 0, 0
			store.chunk = func(int64) {
				priority, err := unix.Getpriority(unix.PRIO_PROCESS, 0) // 20 - nice
				mu.Lock()
				defer mu.Unlock()
				if chunks++; chunks == c.after {
					close(c.hurry)
				}
				if err != nil || priority != 20-lowest {
					others++
				}
			}
			must(t, taking.SecondBeside(t.Context(), c.hurry))
			if chunks != 41 || c.after == 0 && c.hurry != closed && others > 0 {
				t.Errorf("%d chunks, %d of them not at the lowest priority", chunks, others)
			}
			if priority, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err != nil || priority == 20-lowest {
				t.Errorf("we have priority %d now, %v", priority, err)
			}
			snap, err := taking.Commit()
			must(t, err)
			if snap.State != Saved || snap.Generation != 1 {
				t.Errorf("%+v", snap)
			}
			content, err := openContent(context.Background(), snap.Path)
			must(t, err)
			if !bytes.Equal(content.data, b) {
				t.Error("the snapshot is not what the segment was")
			}
			must(t, content.unmap())
		})
	}
}

func TestSecondBesideIsCut(t *testing.T) {
	s, _ := savedSegment(t, Memfd, 40*chunkSize)
	store := openStore(t, StoreConfig{})
	taking, err := store.Begin(s)
	must(t, err)
	defer taking.Abort()
	ctx, cancel := context.WithCancel(t.Context())
	store.chunk = func(int64) { cancel() }
	if err := taking.SecondBeside(ctx, make(chan struct{})); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := taking.Commit(); err == nil {
		t.Error("half a snapshot was committed")
	}
}
