package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/shmbridge"
)

// Who copies a segment.
const (
	memcpyAll = "memcpy, all cores"
	memcpyOne = "memcpy, one core"
	copyCp    = "cp"
	fullCopy  = "a full copy into a reused target"
	second    = "second phase, 1 % changed"
	withShm   = "upgrader --shm --settle 0"
	mapsFirst = "upgrader --shm --settle 0, the server maps it first of all"
)

func segmentCopies() []string { return []string{memcpyAll, memcpyOne, copyCp, fullCopy, second} }

// measureSegment copies a large segment, as snapshots do, beside memcpy and
// cp, and swaps a server that has one. Everything lies in memory (/dev/shm):
// disks are no matter of ours.
func measureSegment(b *bench) error {
	dir, err := os.MkdirTemp("/dev/shm", "upgrader-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what is left is the system's to clean
	if err := b.copySegments(dir); err != nil {
		return err
	}
	return b.swapSegments(dir)
}

// copySegments times copies, all in turns.
func (b *bench) copySegments(dir string) error {
	spec, err := shmbridge.ParseSpec(fmt.Sprintf("file:%s/segment,size=%d", dir, b.Amounts.SegmentSize))
	if err != nil {
		return err
	}
	segment, err := shmbridge.Open(spec, shmbridge.Config{})
	if err != nil {
		return err
	}
	defer func() { _ = segment.Remove() }() // as above
	store, err := shmbridge.OpenStore(filepath.Join(dir, "snapshots"), shmbridge.StoreConfig{})
	if err != nil {
		return err
	}
	var from []byte
	if err := segment.Look(func(bytes []byte) error { from = bytes; return nil }); err != nil {
		return err
	}
	for i := 0; i < len(from); i += 8 { // no two blocks are the same
		from[i], from[i+1], from[i+2] = byte(i>>3), byte(i>>11), byte(i>>19)
	}
	to, err := mapTarget(filepath.Join(dir, "target"), len(from))
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(to) }() // it is removed
	cores := workers()
	ways := map[string]func() (time.Duration, error){
		memcpyAll: func() (time.Duration, error) { return timed(func() error { copyBy(cores, to, from); return nil }) },
		memcpyOne: func() (time.Duration, error) { return timed(func() error { copyBy(1, to, from); return nil }) },
		copyCp: func() (time.Duration, error) {
			return timed(func() error {
				c := exec.CommandContext(b.ctx, "cp", "--reflink=never", "--sparse=never", filepath.Join(dir, "segment"), filepath.Join(dir, "copy"))
				var errs bytes.Buffer
				if c.Stderr = &errs; c.Run() != nil {
					return fmt.Errorf("cp: %s", errs.Bytes())
				}
				return nil
			})
		},
		fullCopy: func() (time.Duration, error) {
			t, err := store.Begin(segment)
			if err != nil {
				return 0, err
			}
			defer t.Abort() // its target is there next time
			return timed(func() error { return t.Second(b.ctx) })
		},
		second: func() (time.Duration, error) {
			t, err := store.Begin(segment)
			if err != nil {
				return 0, err
			}
			defer t.Abort()
			if err := t.First(b.ctx); err != nil {
				return 0, err
			}
			for at := 0; at < len(from); at += 100 * 4096 {
				from[at]++
			}
			return timed(func() error { return t.Second(b.ctx) })
		},
	}
	for round := range b.Amounts.SegmentRounds + 1 {
		for _, who := range segmentCopies() {
			took, err := ways[who]()
			if err != nil {
				return fmt.Errorf("%s: %w", who, err)
			}
			if round > 0 { // the first one makes the targets
				b.samples.add("segment/"+who, millis(took))
			}
		}
	}
	return os.Remove(filepath.Join(dir, "copy"))
}

func timed(f func() error) (time.Duration, error) {
	began := time.Now()
	err := f()
	return time.Since(began), err
}

// mapTarget makes a file of so many bytes, all present, and maps it.
func mapTarget(path string, size int) ([]byte, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // the mapping stays
	if _, err := io.CopyN(f, zeros{}, int64(size)); err != nil {
		return nil, err
	}
	to, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", path, err)
	}
	return to, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// swapSegments measures what a segment adds to a swap, beside the same without
// one: a guest leaves it alone, so that its own stop and start are those without
// one; another writes to it before it does anything else.
func (b *bench) swapSegments(dir string) error {
	warm := []string{"-warm-up", b.Amounts.WarmUp.String()}
	alone := b.bareGuest(warm...)
	alone.name = stopThenStart
	swappers := []*swapper{{recipe: alone, swap: stopAndStart("segment")}}
	add := func(name string, flags []string, own ...string) {
		r := b.listening(append([]string{"--settle", "0"}, flags...), append(own, warm...)...)
		r.name = name
		swappers = append(swappers, &swapper{recipe: r, swap: phased("segment", name)})
	}
	add(exclusiveBare, []string{"--strategy", "exclusive"})
	shared := func(file string) []string {
		return []string{"--backup-dir", file + ".backups", "--shm", fmt.Sprintf("file:%s,size=%d", file, b.Amounts.SegmentSize)}
	}
	add(withShm, shared(dir+"/left"))
	add(mapsFirst, shared(dir+"/mapped"), "-map", dir+"/mapped")
	return b.swapInTurns("segment", swappers, b.Amounts.SegmentSwaps, 1)
}
