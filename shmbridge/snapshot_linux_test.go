package shmbridge

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"
)

// oddSize is no multiple of a block, and of several chunks.
const oddSize = 3*chunkSize + 5*blockSize + 123

func fillRandom(b []byte, seed uint64) {
	source := rand.NewPCG(seed, seed)
	for i := 0; i+8 <= len(b); i += 8 {
		v := source.Uint64()
		for j := range 8 {
			b[i+j] = byte(v >> (8 * j))
		}
	}
}

// savedSegment returns a segment with random bytes, saved by generation 1.
func savedSegment(t testing.TB, kind Kind, size int64) (*Segment, []byte) {
	t.Helper()
	s := open(t, testSpec(t, kind, size), Config{})
	b, err := s.memory()
	must(t, err)
	fillRandom(b, 1)
	must(t, s.Lease(1, 0))
	must(t, s.words.take(1, 1, 5))
	must(t, s.words.save(1, 42, time.Unix(1700000000, 0)))
	return s, b
}

func openStore(t testing.TB, c StoreConfig) *Store {
	t.Helper()
	store, err := OpenStore(filepath.Join(t.TempDir(), "snapshots"), c)
	must(t, err)
	return store
}

func TestSnapshotAndRestore(t *testing.T) {
	ctx := context.Background()
	for _, kind := range kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			s, b := savedSegment(t, kind, oddSize)
			store := openStore(t, StoreConfig{})
			snap, err := s.Snapshot(ctx, store)
			must(t, err)
			if snap.Number != 1 || snap.State != Saved || snap.Schema != 5 || snap.Checksum != 42 || snap.Size != oddSize ||
				snap.Identity != s.Spec().Identity() || snap.Generation != 1 || snap.Saves != 1 {
				t.Fatalf("%+v", snap)
			}
			verified, err := Verify(ctx, snap.Path)
			must(t, err)
			latest, err := store.Latest(s.Spec())
			must(t, err)
			if verified.TableSum != snap.TableSum || latest.Header != verified.Header {
				t.Fatalf("%+v, %+v", verified, latest)
			}
			before := bytes.Clone(b)

			must(t, s.Lease(2, 0))
			must(t, s.words.take(2, 2, 6))
			b[0], b[oddSize-1], b[chunkSize] = b[0]+1, b[oddSize-1]+1, b[chunkSize]+1
			if _, err := s.Ended(2, ExitCrash); err != nil {
				t.Fatal(err)
			}
			must(t, store.Restore(ctx, s, latest, RestoreOptions{Generation: 3}))
			if !bytes.Equal(b, before) {
				t.Fatal("other bytes")
			}
			stateIs(t, s, 3, Saved)
			mustBe(t, s.words.save(2, 0, time.Now()), ErrVoid)
			must(t, s.Lease(3, 0))
			now, err := s.State()
			must(t, err)
			if now.Found != Saved || now.Schema != 5 || now.Snapshot != 1 || now.Restoring {
				t.Fatalf("%+v", now)
			}
			mustBe(t, store.Restore(ctx, s, latest, RestoreOptions{Generation: 3}), ErrVoid)
			must(t, s.Remove())
		})
	}
}

func TestSnapshotInTwoPhases(t *testing.T) {
	ctx := context.Background()
	s, b := savedSegment(t, Memfd, oddSize)
	store := openStore(t, StoreConfig{Keep: 1})
	must(t, s.Lease(2, 0))
	for round := range 4 { // from the third on, into a spare
		taking, err := store.Begin(s)
		must(t, err)
		if want := round >= 2; taking.reused != want {
			t.Fatalf("round %d: reused %v", round, taking.reused)
		}
		must(t, taking.First(ctx))
		first := taking.Copied()
		if taking.reused && first > 4*blockSize {
			t.Errorf("round %d: %d bytes were written into the spare", round, first)
		}
		b[round*blockSize]++
		b[oddSize-1]++
		must(t, taking.Second(ctx))
		if taking.Copied()-first != 2*blockSize {
			t.Errorf("round %d: %d bytes in the second phase", round, taking.Copied()-first)
		}
		snap, err := taking.Commit()
		must(t, err)
		if snap.State != Live || snap.Number != uint64(round+1) {
			t.Fatalf("%+v", snap)
		}
		c, err := openContent(ctx, snap.Path)
		must(t, err)
		if !bytes.Equal(c.data, b) {
			t.Fatal("other bytes")
		}
		must(t, c.unmap())
	}
	list, err := store.List(s.Spec())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
}

// While somebody writes, a snapshot is of no single moment; but what it holds is what its checksums say, and the second
// phase makes it right.
func TestFirstPhaseBesideAWriter(t *testing.T) {
	ctx := context.Background()
	s, b := savedSegment(t, Memfd, oddSize)
	store := openStore(t, StoreConfig{Workers: 2})
	taking, err := store.Begin(s)
	must(t, err)
	defer taking.Abort()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for n := uint64(2); ; n++ {
			select {
			case <-stop:
				return
			default:
				fillRandom(b[:chunkSize], n)
			}
		}
	}()
	for range 5 {
		must(t, taking.First(ctx))
		must(t, work{size: oddSize, fault: ErrSize, do: verifyAll(taking.data, taking.sums)}.run(ctx))
	}
	close(stop)
	<-stopped
	must(t, taking.Second(ctx))
	snap, err := taking.Commit()
	must(t, err)
	c, err := openContent(ctx, snap.Path)
	must(t, err)
	if !bytes.Equal(c.data, b) {
		t.Fatal("other bytes")
	}
	must(t, c.unmap())
}

func TestSnapshotMisuse(t *testing.T) {
	ctx := context.Background()
	s, _ := savedSegment(t, Memfd, oddSize)
	store := openStore(t, StoreConfig{})
	taking, err := store.Begin(s)
	must(t, err)
	_, err = taking.Commit()
	mustBe(t, err, os.ErrInvalid)
	mustBe(t, taking.First(ctx), os.ErrClosed)
	mustBe(t, taking.Second(ctx), os.ErrClosed)
	taking.Abort()

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = s.Snapshot(cancelled, store)
	mustBe(t, err, context.Canceled)
	if _, err := store.Latest(s.Spec()); !errors.Is(err, ErrNoSnapshot) {
		t.Fatal(err)
	}
	_, err = s.words.begin(0, restored{number: 1})
	must(t, err)
	_, err = store.Begin(s)
	mustBe(t, err, ErrRestoring)
	_, err = store.Finish(ctx, s)
	mustBe(t, err, ErrNoSnapshot)
}

func TestStoreKeeps(t *testing.T) {
	ctx := context.Background()
	s, _ := savedSegment(t, Posix, testSize)
	other, _ := savedSegment(t, Posix, testSize)
	store := openStore(t, StoreConfig{Keep: 2})
	_, err := other.Snapshot(ctx, store)
	must(t, err)
	for range 5 {
		_, err := s.Snapshot(ctx, store)
		must(t, err)
	}
	list, err := store.List(s.Spec())
	must(t, err)
	if len(list) != 2 || list[0].Number != 4 || list[1].Number != 5 {
		t.Fatalf("%+v", list)
	}
	if list, err = store.List(other.Spec()); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if info, err := os.Stat(list[0].Path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info, err)
	}
	must(t, s.Remove())
	must(t, other.Remove())
}

// Whatever is done to a snapshot's file is noticed by name.
func TestDamagedSnapshots(t *testing.T) {
	ctx := context.Background()
	s, b := savedSegment(t, Memfd, oddSize)
	store := openStore(t, StoreConfig{})
	snap, err := s.Snapshot(ctx, store)
	must(t, err)
	sound, err := os.ReadFile(snap.Path)
	must(t, err)
	refused := func(name string, content []byte, want ...error) {
		t.Helper()
		must(t, os.WriteFile(snap.Path, content, 0o600))
		_, err := Verify(ctx, snap.Path)
		ok := false
		for _, w := range want {
			ok = ok || errors.Is(err, w)
		}
		if !ok || !strings.Contains(err.Error(), snap.Path) {
			t.Errorf("%s: %v", name, err)
		}
		before := bytes.Clone(b)
		if err := store.Restore(ctx, s, snap, RestoreOptions{}); err == nil || !bytes.Equal(b, before) {
			t.Errorf("%s: restored: %v", name, err)
		}
		stateIs(t, s, 1, Saved)
	}
	for _, n := range []int{0, 7, 8, 100, headerSize - 1, headerSize, headerSize + 1, len(sound) / 2, len(sound) - 1} {
		refused("truncated", sound[:n], ErrTruncated, ErrNotSnapshot)
	}
	refused("longer", append(bytes.Clone(sound), 0), ErrTooLarge)
	refused("text", []byte(strings.Repeat("hello", 5000)), ErrNotSnapshot)
	for _, at := range []int{
		8, 16, 24, 40, 56, hdrTableSum, hdrName, hdrName + 500, hdrSum, headerSize, headerSize + oddSize - 1,
		headerSize + oddSize, int(tableAt(oddSize)) - 1, int(tableAt(oddSize)), len(sound) - 1, headerSize + oddSize/2,
	} {
		damaged := bytes.Clone(sound)
		damaged[at] ^= 0x10
		refused("flipped", damaged, ErrCorrupt, ErrVersion)
	}
	must(t, os.WriteFile(snap.Path, sound[:100], 0o600))
	list, err := store.List(s.Spec())
	if err != nil || len(list) != 1 || !errors.Is(list[0].Err, ErrTruncated) {
		t.Fatal(list, err)
	}
	if _, err := store.Latest(s.Spec()); !errors.Is(err, ErrNoSnapshot) {
		t.Fatal(err)
	}
	must(t, os.Remove(snap.Path))
	must(t, unix.Mkfifo(snap.Path, 0o600))
	if _, err := Verify(ctx, snap.Path); !errors.Is(err, ErrNotSnapshot) {
		t.Fatal(err)
	}
}

func TestForeignSnapshots(t *testing.T) {
	ctx := context.Background()
	store := openStore(t, StoreConfig{})
	s, _ := savedSegment(t, Memfd, 2*blockSize)
	snap, err := s.Snapshot(ctx, store)
	must(t, err)
	other, _ := savedSegment(t, Memfd, 2*blockSize)
	mustBe(t, store.Restore(ctx, other, snap, RestoreOptions{}), ErrForeign)
	for _, size := range []int64{blockSize, 3 * blockSize} { // the same name, another time
		spec := s.Spec()
		spec.Size = size
		resized := open(t, spec, Config{})
		mustBe(t, store.Restore(ctx, resized, snap, RestoreOptions{}), map[bool]error{true: ErrTooLarge, false: ErrSize}[size < 2*blockSize])
	}
	must(t, os.Rename(snap.Path, store.path(other.Spec(), 7)))
	list, err := store.List(other.Spec())
	if err != nil || len(list) != 1 || !errors.Is(list[0].Err, ErrForeign) {
		t.Fatal(list, err)
	}
}

func TestRestoreRefusesWhileMapped(t *testing.T) {
	ctx := context.Background()
	for _, kind := range kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			store := openStore(t, StoreConfig{})
			s, _ := savedSegment(t, kind, testSize)
			snap, err := s.Snapshot(ctx, store)
			must(t, err)
			must(t, s.Lease(2, 0))
			guest := goGuest(t, s, 2)
			guest.expect("attached saved")
			mustBe(t, store.Restore(ctx, s, snap, RestoreOptions{}), ErrMapped)
			guest.quit()
			must(t, store.Restore(ctx, s, snap, RestoreOptions{}))
			must(t, s.Remove())
		})
	}
}

// Half of the bytes are restored when the upgrader is killed.
func TestRestoreKilled(t *testing.T) {
	ctx := context.Background()
	for _, kind := range kinds()[1:] {
		t.Run(kind.String(), func(t *testing.T) {
			store := openStore(t, StoreConfig{})
			s, b := savedSegment(t, kind, oddSize)
			want := bytes.Clone(b)
			_, err := s.Snapshot(ctx, store)
			must(t, err)
			fillRandom(b, 99)
			spec := s.Spec()
			must(t, s.Close())
			p := role(t, "restore", nil, []string{spec.String(), store.Dir(), "2"})
			p.expect("half")
			p.kill()

			s = open(t, spec, Config{})
			now, err := s.State()
			if err != nil || !now.Restoring || now.Snapshot != 1 {
				t.Fatalf("%+v, %v", now, err)
			}
			mustBe(t, s.Lease(1, 0), ErrRestoring)
			did, err := store.Finish(ctx, s)
			if err != nil || !did {
				t.Fatal(did, err)
			}
			b, err = s.memory()
			must(t, err)
			if !bytes.Equal(b, want) {
				t.Fatal("other bytes")
			}
			if now, err = s.State(); err != nil || now.State != Saved || now.Schema != 5 {
				t.Fatalf("%+v, %v", now, err)
			}
			if did, err = store.Finish(ctx, s); err != nil || did {
				t.Fatal(did, err)
			}
			must(t, s.Lease(int(now.Generation)+1, 0))
			must(t, s.Remove())
		})
	}
}

// Who may write a file may cut it off; that is an error, and no end of the upgrader.
func TestFilesCutOff(t *testing.T) {
	ctx := context.Background()
	store := openStore(t, StoreConfig{})
	s, _ := savedSegment(t, File, oddSize)
	taking, err := store.Begin(s)
	must(t, err)
	defer taking.Abort()
	must(t, os.Truncate(s.path, blockSize))
	mustBe(t, taking.Second(ctx), ErrSize)
	must(t, os.Truncate(s.held.side, 0))
	_, err = s.State()
	mustBe(t, err, ErrPage)
	mustBe(t, s.Lease(2, 0), ErrPage)
	_, err = s.Ended(1, ExitClean)
	mustBe(t, err, ErrPage)
	mustBe(t, taking.Second(ctx), ErrPage)
}

func TestSnapshotWithoutSpace(t *testing.T) {
	s, _ := savedSegment(t, Memfd, testSize)
	store := openStore(t, StoreConfig{})
	var old unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_FSIZE, &old))
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: testSize / 2, Max: old.Max})) // SIGXFSZ is ignored by Go
	_, err := store.Begin(s)
	must(t, unix.Setrlimit(unix.RLIMIT_FSIZE, &old))
	mustBe(t, err, ErrNoSpace)
	if _, err := os.Stat(store.spare(s.Spec())); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("half a target is left")
	}
}

func FuzzSnapshotHeader(f *testing.F) {
	b := make([]byte, headerSize)
	must(f, Header{Identity: "memfd:x", Size: 5000, Number: 1, State: Saved}.encode(b))
	f.Add(b, fileSize(5000), false)
	f.Add(b[:100], int64(100), true)
	f.Fuzz(func(t *testing.T, b []byte, length int64, fix bool) {
		b = append([]byte(nil), b...)
		if fix && len(b) >= headerSize { // reach what is behind the checksum
			fixSum(b)
		}
		h, err := decode(b[:min(len(b), headerSize)], length)
		if err == nil {
			if h.Size < 1 || h.Size > maxSize || length != fileSize(h.Size) || len(h.Identity) == 0 || len(h.Identity) > nameLimit {
				t.Fatalf("%+v of %d bytes", h, length)
			}
			return
		}
		for _, known := range []error{ErrNotSnapshot, ErrVersion, ErrTruncated, ErrTooLarge, ErrCorrupt} {
			if errors.Is(err, known) {
				return
			}
		}
		t.Fatal(err)
	})
}

func fixSum(b []byte) {
	for i := range 8 {
		b[hdrSum+i] = byte(xxh3.Hash(b[:hdrSum]) >> (8 * i))
	}
}
