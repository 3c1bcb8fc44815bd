// Package ledger keeps records in shared memory such that a process which is killed anywhere loses none that it
// acknowledged: a counter, a ring of records and a checksum. Servers of the tests have it in their segments.
package ledger

import (
	"fmt"
	"sync/atomic"
	"unsafe"
)

// The segment, in words of 8 bytes.
const (
	atCount  = 0  // records committed: the commit point
	atSum    = 8  // of all that were committed
	atSchema = 16 // number of the layout
	atLast   = 64 // for each client the last record of it that was committed

	Clients = 64 // that a ledger has room for

	atRing     = 4096
	ring       = 1024 // records
	recordSize = 64

	inSeq    = 0
	inClient = 8
	inN      = 16
	inSum    = 24 // the checksum with this record
	inCheck  = 32 // of the four before
)

// Ledger is the segment, or a part of it. A process that is killed anywhere leaves it such that
// Recover completes the record that was committed last.
type Ledger struct{ data []byte }

// New makes one of memory that is all zeros, or of one that was there. It has to begin at a multiple of 8.
func New(memory []byte) *Ledger { return &Ledger{data: memory} }

// Size is how many bytes it takes.
const Size = atRing + ring*recordSize

// Schema is the number of its layout, 0 of a new one.
func (l *Ledger) Schema() uint64 { return l.load(atSchema) }

// SetSchema says that it is in another layout.
func (l *Ledger) SetSchema(n uint64) { l.store(atSchema, n) }

// Spoil damages the last record.
func (l *Ledger) Spoil() { l.store(l.slot(l.load(atCount))+inCheck, 1) }

// Sum is the checksum of all records.
func (l *Ledger) Sum() uint64 { return l.load(atSum) }

func (l *Ledger) word(at uint64) *uint64      { return (*uint64)(unsafe.Pointer(&l.data[at])) }
func (l *Ledger) load(at uint64) uint64       { return atomic.LoadUint64(l.word(at)) }
func (l *Ledger) store(at uint64, v uint64)   { atomic.StoreUint64(l.word(at), v) }
func (l *Ledger) slot(seq uint64) uint64      { return atRing + seq%ring*recordSize }
func mix(sum, client, n uint64) uint64        { return (sum ^ client<<32 ^ n) * 0x9e3779b97f4a7c15 }
func checkOf(seq, client, n, s uint64) uint64 { return mix(mix(s, client, n), seq, 1) | 2 }

// Add commits record n of a client, unless it was.
func (l *Ledger) Add(client, n uint64) error {
	last := l.load(atLast + client*8)
	switch {
	case n <= last:
		return nil
	case n != last+1:
		return fmt.Errorf("record %d of client %d follows %d", n, client, last)
	}
	seq := l.load(atCount) + 1
	sum := mix(l.load(atSum), client, n)
	at := l.slot(seq)
	l.store(at+inSeq, seq)
	l.store(at+inClient, client)
	l.store(at+inN, n)
	l.store(at+inSum, sum)
	l.store(at+inCheck, checkOf(seq, client, n, sum))
	l.store(atCount, seq) // committed
	l.apply(at)
	return nil
}

func (l *Ledger) apply(at uint64) {
	l.store(atLast+l.load(at+inClient)*8, l.load(at+inN))
	l.store(atSum, l.load(at+inSum))
}

// Recover completes what a killed predecessor had committed.
func (l *Ledger) Recover() error {
	seq := l.load(atCount)
	if seq == 0 {
		return nil
	}
	if err := l.checkRecord(seq); err != nil {
		return err
	}
	l.apply(l.slot(seq))
	return nil
}

func (l *Ledger) checkRecord(seq uint64) error {
	at := l.slot(seq)
	client, n, sum := l.load(at+inClient), l.load(at+inN), l.load(at+inSum)
	if l.load(at+inSeq) != seq || client >= Clients || l.load(at+inCheck) != checkOf(seq, client, n, sum) {
		return fmt.Errorf("record %d is damaged", seq)
	}
	return nil
}

// Check goes through everything.
func (l *Ledger) Check() error {
	count, total := l.load(atCount), uint64(0)
	for c := range uint64(Clients) {
		total += l.load(atLast + c*8)
	}
	if count != total {
		return fmt.Errorf("%d records are counted, the clients have %d", count, total)
	}
	for seq := max(1, int64(count)-ring+1); seq <= int64(count); seq++ {
		if err := l.checkRecord(uint64(seq)); err != nil {
			return err
		}
		if at := l.slot(uint64(seq)); seq > 1 && seq > int64(count)-ring+1 {
			if before := l.load(l.slot(uint64(seq)-1) + inSum); l.load(at+inSum) != mix(before, l.load(at+inClient), l.load(at+inN)) {
				return fmt.Errorf("record %d does not follow the one before", seq)
			}
		}
	}
	if count > 0 && l.load(atSum) != l.load(l.slot(count)+inSum) {
		return fmt.Errorf("the checksum is not that of record %d", count)
	}
	return nil
}

// Scribble writes over all of it.
func (l *Ledger) Scribble() {
	for i := range l.data {
		l.data[i] = 0xa5
	}
}

// State is what GET / answers.
type State struct {
	Count, Sum uint64
	Last       []uint64
	Found      string
	Pid        int
	Generation string
	Unsound    string
}

// State is the state as it is.
func (l *Ledger) State() State {
	s := State{Count: l.load(atCount), Sum: l.load(atSum)}
	for c := range uint64(Clients) {
		s.Last = append(s.Last, l.load(atLast+c*8))
	}
	return s
}
