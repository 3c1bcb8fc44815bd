package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"unsafe"
)

// The segment, in words of 8 bytes.
const (
	atCount  = 0  // records committed: the commit point
	atSum    = 8  // of all that were committed
	atSchema = 16 // number of the layout
	atLast   = 64 // for each client the last record of it that was committed
	clients  = 64

	atRing     = 4096
	ring       = 1024 // records
	recordSize = 64

	inSeq    = 0
	inClient = 8
	inN      = 16
	inSum    = 24 // the checksum with this record
	inCheck  = 32 // of the four before
)

// ledger is the segment. A process that is killed anywhere leaves it such that
// recover completes the record that was committed last.
type ledger struct{ data []byte }

func (l *ledger) word(at uint64) *uint64      { return (*uint64)(unsafe.Pointer(&l.data[at])) }
func (l *ledger) load(at uint64) uint64       { return atomic.LoadUint64(l.word(at)) }
func (l *ledger) store(at uint64, v uint64)   { atomic.StoreUint64(l.word(at), v) }
func (l *ledger) slot(seq uint64) uint64      { return atRing + seq%ring*recordSize }
func mix(sum, client, n uint64) uint64        { return (sum ^ client<<32 ^ n) * 0x9e3779b97f4a7c15 }
func checkOf(seq, client, n, s uint64) uint64 { return mix(mix(s, client, n), seq, 1) | 2 }

// add commits record n of a client, unless it was.
func (l *ledger) add(client, n uint64) error {
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

func (l *ledger) apply(at uint64) {
	l.store(atLast+l.load(at+inClient)*8, l.load(at+inN))
	l.store(atSum, l.load(at+inSum))
}

// recover completes what a killed predecessor had committed.
func (l *ledger) recover() error {
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

func (l *ledger) checkRecord(seq uint64) error {
	at := l.slot(seq)
	client, n, sum := l.load(at+inClient), l.load(at+inN), l.load(at+inSum)
	if l.load(at+inSeq) != seq || client >= clients || l.load(at+inCheck) != checkOf(seq, client, n, sum) {
		return fmt.Errorf("record %d is damaged", seq)
	}
	return nil
}

// check goes through everything.
func (l *ledger) check() error {
	count, total := l.load(atCount), uint64(0)
	for c := range uint64(clients) {
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

// migrate brings the segment into the schema that UPGRADER_SCHEMA_TO names. A
// copy from under a writer may be torn: it is not looked at closely.
func (l *ledger) migrate(failing string) error {
	turn := os.Getenv("UPGRADER_MIGRATION")
	from, err1 := strconv.ParseUint(os.Getenv("UPGRADER_SCHEMA_FROM"), 10, 64)
	to, err2 := strconv.ParseUint(os.Getenv("UPGRADER_SCHEMA_TO"), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if have := l.load(atSchema); have != from {
		return fmt.Errorf("the copy is in schema %d, not %d", have, from)
	}
	if turn == failing {
		l.scribble()
		return fmt.Errorf("failing in the %s", turn)
	}
	if turn == "final" {
		if err := l.check(); err != nil {
			return err
		}
	}
	l.store(atSchema, to)
	return nil
}

func (l *ledger) scribble() {
	for i := range l.data {
		l.data[i] = 0xa5
	}
}

// state is what GET / answers.
type state struct {
	Count, Sum uint64
	Last       []uint64
	Found      string
	Pid        int
	Generation string
	Unsound    string
}

func (l *ledger) state() state {
	s := state{Count: l.load(atCount), Sum: l.load(atSum)}
	for c := range uint64(clients) {
		s.Last = append(s.Last, l.load(atLast+c*8))
	}
	return s
}
