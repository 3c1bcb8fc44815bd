package shmbridge

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// benchSize is the size of the segments that are measured, in bytes.
const benchSize = 1 << 30

// benchTaking returns a taking whose target is a spare with everything in it, in memory, and its segment's bytes.
func benchTaking(b *testing.B) (*Taking, []byte) {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "shmbridge-bench-")
	must(b, err)
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	store, err := OpenStore(filepath.Join(dir, "snapshots"), StoreConfig{Workers: 2})
	must(b, err)
	s, bytes := savedSegment(b, Memfd, benchSize)
	taking, err := store.Begin(s)
	must(b, err)
	b.Cleanup(taking.Abort)
	must(b, taking.First(context.Background()))
	b.SetBytes(benchSize)
	return taking, bytes
}

// The yardstick: copying between the same two mappings, on all processors, in the same chunks, and in one go.
func BenchmarkMemcpy(b *testing.B) {
	taking, bytes := benchTaking(b)
	all := work{size: benchSize, fault: ErrSize, do: func(first, past int64) error {
		copy(taking.data[first*blockSize:past*blockSize], bytes[first*blockSize:past*blockSize])
		return nil
	}}
	b.Run("parallel", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			must(b, all.run(context.Background()))
		}
	})
	b.Run("single", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			copy(taking.data, bytes)
		}
	})
}

// A full copy into a target that is there already.
func BenchmarkFullCopy(b *testing.B) {
	taking, _ := benchTaking(b)
	for b.Loop() {
		taking.known = false
		must(b, taking.Second(context.Background()))
	}
}

// The same into a target that was mapped just before, as each swap does.
func BenchmarkFullCopyMappedAnew(b *testing.B) {
	taking, _ := benchTaking(b)
	store, segment := taking.store, taking.segment
	taking.Abort() // its spare stays
	for b.Loop() {
		b.StopTimer()
		anew, err := store.Begin(segment)
		must(b, err)
		b.StartTimer()
		must(b, anew.Second(context.Background()))
		b.StopTimer()
		anew.Abort()
		b.StartTimer()
	}
}

// The second phase after one block in a hundred has changed.
func BenchmarkSecondPhase(b *testing.B) {
	taking, bytes := benchTaking(b)
	for b.Loop() {
		b.StopTimer()
		for at := 0; at < len(bytes); at += 100 * blockSize {
			bytes[at]++
		}
		b.StartTimer()
		must(b, taking.Second(context.Background()))
	}
}

// Verification of a whole snapshot.
func BenchmarkVerify(b *testing.B) {
	taking, _ := benchTaking(b)
	pass := work{size: benchSize, fault: ErrSize, do: verifyAll(taking.data, taking.sums)}
	for b.Loop() {
		must(b, pass.run(context.Background()))
	}
}
