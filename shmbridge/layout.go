package shmbridge

// PageSize is the size of the bridge page in bytes, whatever the size of the machine's pages.
const PageSize = 4096

// LayoutVersion is the version of the page's layout that this package writes, and the only one that it reads.
const LayoutVersion = 1

// pageMagic are the bytes UPGRSHM1 as a little-endian word.
const pageMagic = 0x314d485352475055

// Offsets on the bridge page, in bytes. Each word is of 8 bytes, little-endian.
const (
	atMagic     = 0
	atVersion   = 8
	atSize      = 16
	atWord      = 24
	atBase      = 32
	atSaves     = 40
	atBoot      = 48 // 16 bytes
	atUpgrader  = 64
	atBegun     = 72
	atDone      = 80
	atRestoring = 88
	atRecords   = 1024
)

// One record for each of the last 16 generations: the record of generation g begins at
// atRecords + g % records * recordSize. So a straggler writes nothing that its successor reads.
const (
	records    = 16
	recordSize = 64

	inGeneration = 0
	inPid        = 8
	inFound      = 16
	inTaken      = 24
	inSaves      = 32
	inTime       = 40
	inChecksum   = 48
	inSchema     = 56
)

// The bits of a record's taken word; they are set, and cleared only with the whole record.
const (
	takenYes  = 1 // the guest has taken the lease by itself: it is managed
	takenOver = 2 // given up, or the generation has ended: the lease is void
)

// field is a row of the table in docs/bridge.md.
type field struct {
	Offset, Size int
	Name         string
}

// pageFields is the layout of the page, pageFields()[i] ending where the next begins.
func pageFields() []field {
	return []field{
		{atMagic, 8, "magic"},
		{atVersion, 8, "version"},
		{atSize, 8, "size"},
		{atWord, 8, "word"},
		{atBase, 8, "base"},
		{atSaves, 8, "saves"},
		{atBoot, 16, "boot"},
		{atUpgrader, 8, "upgrader"},
		{atBegun, 8, "begun"},
		{atDone, 8, "done"},
		{atRestoring, 8, "restoring"},
		{atRestoring + 8, atRecords - atRestoring - 8, "reserved"},
		{atRecords, records * recordSize, "records"},
		{atRecords + records*recordSize, PageSize - atRecords - records*recordSize, "reserved"},
	}
}

// recordFields is the layout of a record, offsets from its begin.
func recordFields() []field {
	return []field{
		{inGeneration, 8, "generation"},
		{inPid, 8, "pid"},
		{inFound, 8, "found"},
		{inTaken, 8, "taken"},
		{inSaves, 8, "saves"},
		{inTime, 8, "time"},
		{inChecksum, 8, "checksum"},
		{inSchema, 8, "schema"},
	}
}

func record(generation uint32) int { return atRecords + int(generation%records)*recordSize }
