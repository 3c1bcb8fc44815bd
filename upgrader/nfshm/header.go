package nfshm

import (
	"encoding/binary"
	"fmt"
)

// The beginning of the object segment: NFCSharedMem of a 64-bit build (src/NFrame/NFCommPlugin/NFShmPlugin/NFCSharedMem.h).
// A pointer to its virtual functions comes first.
const (
	atKey     = 8
	atSize    = 16
	atInited  = 84
	atVersion = 88

	headerSize = 96

	inited  = 987654321 // the server had finished its start when it was written
	version = 100001    // NFPluginLoader exits, with 0, when it finds another one
)

// Inspect looks at the object segment of a key: whether NFPluginLoader would go on from it. It refuses another one, with
// exit status 0 or 255, after its predecessor has gone.
func Inspect(segment []byte, key uint32) error {
	if len(segment) < headerSize {
		return fmt.Errorf("nfshm: the segment has %d bytes, less than its header", len(segment))
	}
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(segment[at:]) }
	switch size := binary.LittleEndian.Uint64(segment[atSize:]); {
	case word(atVersion) != version:
		return fmt.Errorf("nfshm: the segment has the version %d, not %d: no server could go on from it", word(atVersion), version)
	case word(atKey) != key:
		return fmt.Errorf("nfshm: the segment says that its key is 0x%08x, not 0x%08x", word(atKey), key)
	case size == 0 || size > uint64(len(segment)):
		return fmt.Errorf("nfshm: the segment says that it has %d bytes, it has %d", size, len(segment))
	case word(atInited) != inited:
		return fmt.Errorf("nfshm: the server has not finished its start in the segment: its successor would begin anew")
	}
	return nil
}
