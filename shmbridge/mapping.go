package shmbridge

import (
	"fmt"
	"os"

	mmap "github.com/edsrzf/mmap-go"
)

// mapping is memory shared with other processes, or with a file.
type mapping struct {
	bytes []byte
	flush func() error // to its disk, if it has one
	unmap func() error
}

// mapFile maps size bytes of f, shared and writable. The mapping outlives f.
func mapFile(f *os.File, size int64) (*mapping, error) { return mapRegion(f, size, mmap.RDWR) }

// mapToRead maps size bytes of f, which may be open for reading only.
func mapToRead(f *os.File, size int64) (*mapping, error) { return mapRegion(f, size, mmap.RDONLY) }

func mapRegion(f *os.File, size int64, access int) (*mapping, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() < size {
		return nil, fmt.Errorf("%s has %d bytes, not %d: %w", f.Name(), info.Size(), size, ErrSize)
	}
	if size > int64(^uint(0)>>1) {
		return nil, fmt.Errorf("map %d bytes in this address space: %w", size, ErrUnsupported)
	}
	m, err := mmap.MapRegion(f, int(size), access, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes of %s: %w", size, f.Name(), err)
	}
	return &mapping{bytes: m, flush: m.Flush, unmap: m.Unmap}, nil
}
