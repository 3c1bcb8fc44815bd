package main

import (
	"errors"
	"sync/atomic"
	"unsafe"
)

// The table has slots of slotSize bytes: the client's id (0: free), the last
// number, how much of a line it said, and that. A client has one connection at
// a time, so that a slot has one writer; who comes first gets a free one.
const (
	slots     = 32768
	slotSize  = 64
	tableSize = slots * slotSize

	atID   = 0
	atLast = 8
	atSize = 16
	atText = 24
)

type table struct{ memory []byte }

type session []byte

func (s session) word(at int) *uint64 { return (*uint64)(unsafe.Pointer(&s[at])) }

// session finds a client's, or begins one.
func (t *table) session(id uint64) (session, error) {
	for i := range uint64(slots) {
		at := (id + i) % slots * slotSize
		s := session(t.memory[at : at+slotSize])
		if atomic.CompareAndSwapUint64(s.word(atID), 0, id) || atomic.LoadUint64(s.word(atID)) == id {
			return s, nil
		}
	}
	return nil, errors.New("the table is full")
}

func (s session) last() uint64 { return atomic.LoadUint64(s.word(atLast)) }

// unfinished is what was said of a line.
func (s session) unfinished() []byte {
	return append([]byte(nil), s[atText:atText+atomic.LoadUint64(s.word(atSize))]...)
}

// begin keeps what was said of a line.
func (s session) begin(b []byte) error {
	n := atomic.LoadUint64(s.word(atSize))
	if n+uint64(len(b)) > slotSize-atText {
		return errors.New("the line is too long")
	}
	copy(s[atText+n:], b)
	atomic.StoreUint64(s.word(atSize), n+uint64(len(b)))
	return nil
}

// finish is told that line n was read to its end.
func (s session) finish(n uint64) {
	atomic.StoreUint64(s.word(atSize), 0)
	atomic.StoreUint64(s.word(atLast), n)
}
