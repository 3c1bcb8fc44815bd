package shmbridge

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/zeebo/xxh3"
)

// A snapshot is a file: a header of headerSize bytes, the segment's bytes, zeros up to a multiple of blockSize, and the
// table: for each block of the segment its XXH3-64. The header holds the sum of the table and its own sum, so the
// header's sum covers every byte of the file. All numbers are little-endian. See docs/snapshots.md.
const (
	headerSize    = 4096
	blockSize     = 4096
	sumSize       = 8
	snapshotMagic = 0x31504e5352475055 // UPGRSNP1

	// SnapshotVersion is the version of the layout that this package writes, and the only one that it reads.
	SnapshotVersion = 1
)

// Offsets in a snapshot's header.
const (
	hdrMagic      = 0
	hdrVersion    = 8
	hdrBlockSize  = 16
	hdrSize       = 24
	hdrNumber     = 32
	hdrTime       = 40
	hdrGeneration = 48
	hdrState      = 56
	hdrSchema     = 64
	hdrSavedAt    = 72
	hdrChecksum   = 80
	hdrSaves      = 88
	hdrTableSum   = 96
	hdrBoot       = 104 // 16 bytes
	hdrNameLength = 120
	hdrName       = 128 // up to nameLimit bytes
	hdrSum        = headerSize - 8

	nameLimit = hdrSum - hdrName
)

// Header is what a snapshot says of itself.
type Header struct {
	Identity   string    // of the segment: Spec.Identity
	Size       int64     // of the segment, bytes
	Number     uint64    // counts the snapshots of a segment in a store from 1
	Time       time.Time // when it was taken
	Generation uint32    // that had the lease, as the page counted
	State      State     // of the segment
	Schema     uint64    // of the bytes; 0: not told
	SavedAt    time.Time // of the writer's last save; zero: none
	Checksum   uint64    // of the writer's last save, its own; 0: none
	Saves      uint64    // of all generations
	Boot       [16]byte  // the boot id of the machine then
	TableSum   uint64    // XXH3-64 of the table
}

func blocks(size int64) int64 { return (size + blockSize - 1) / blockSize }

// tableAt is the offset of the table in the snapshot of a segment of size bytes.
func tableAt(size int64) int64 { return headerSize + blocks(size)*blockSize }

// fileSize is the length of the snapshot of a segment of size bytes.
func fileSize(size int64) int64 { return tableAt(size) + blocks(size)*sumSize }

func nanoseconds(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

func moment(ns uint64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(ns))
}

// encode writes the header into b, which has headerSize bytes.
func (h Header) encode(b []byte) error {
	if len(h.Identity) == 0 || len(h.Identity) > nameLimit || strings.ContainsRune(h.Identity, 0) {
		return fmt.Errorf("shmbridge: identity %q does not fit into a snapshot: %w", h.Identity, ErrSpec)
	}
	clear(b[:headerSize])
	put := func(offset int, v uint64) { binary.LittleEndian.PutUint64(b[offset:], v) }
	put(hdrMagic, snapshotMagic)
	put(hdrVersion, SnapshotVersion)
	put(hdrBlockSize, blockSize)
	put(hdrSize, uint64(h.Size))
	put(hdrNumber, h.Number)
	put(hdrTime, nanoseconds(h.Time))
	put(hdrGeneration, uint64(h.Generation))
	put(hdrState, uint64(h.State))
	put(hdrSchema, h.Schema)
	put(hdrSavedAt, nanoseconds(h.SavedAt))
	put(hdrChecksum, h.Checksum)
	put(hdrSaves, h.Saves)
	put(hdrTableSum, h.TableSum)
	copy(b[hdrBoot:], h.Boot[:])
	put(hdrNameLength, uint64(len(h.Identity)))
	copy(b[hdrName:hdrSum], h.Identity)
	put(hdrSum, xxh3.Hash(b[:hdrSum]))
	return nil
}

// decode reads a header out of the first bytes of a file that is length bytes long. Errors match ErrNotSnapshot,
// ErrVersion, ErrTruncated, ErrTooLarge and ErrCorrupt.
func decode(b []byte, length int64) (Header, error) {
	get := func(offset int) uint64 { return binary.LittleEndian.Uint64(b[offset:]) }
	switch {
	case len(b) < 8 || get(hdrMagic) != snapshotMagic:
		return Header{}, ErrNotSnapshot
	case len(b) < headerSize || length < headerSize:
		return Header{}, fmt.Errorf("%w: %d bytes", ErrTruncated, length)
	case get(hdrVersion) != SnapshotVersion:
		return Header{}, fmt.Errorf("%w %d", ErrVersion, get(hdrVersion))
	case get(hdrSum) != xxh3.Hash(b[:hdrSum]):
		return Header{}, fmt.Errorf("%w: the header", ErrCorrupt)
	}
	h := Header{
		Size: int64(get(hdrSize)), Number: get(hdrNumber), Time: moment(get(hdrTime)),
		Generation: uint32(get(hdrGeneration)), State: State(get(hdrState)), Schema: get(hdrSchema),
		SavedAt: moment(get(hdrSavedAt)), Checksum: get(hdrChecksum), Saves: get(hdrSaves), TableSum: get(hdrTableSum),
	}
	copy(h.Boot[:], b[hdrBoot:])
	n := get(hdrNameLength)
	switch {
	case get(hdrBlockSize) != blockSize, h.Size < 1, h.Size > maxSize, !h.State.possible(), n < 1, n > nameLimit:
		return Header{}, fmt.Errorf("%w: the header holds what is impossible", ErrCorrupt)
	case length < fileSize(h.Size):
		return Header{}, fmt.Errorf("%w: %d bytes of %d", ErrTruncated, length, fileSize(h.Size))
	case length > fileSize(h.Size):
		return Header{}, fmt.Errorf("%w: %d bytes, not %d", ErrTooLarge, length, fileSize(h.Size))
	}
	h.Identity = string(b[hdrName : hdrName+int(n)])
	return h, nil
}
