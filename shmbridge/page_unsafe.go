package shmbridge

import (
	"sync/atomic"
	"unsafe"
)

// at returns the aligned 8 bytes of the page that begin at offset, to be reached by sync/atomic alone: other
// processes write them.
//
// Preconditions: offset is a multiple of 8 below PageSize, and the page is mapped (NewPage checks its alignment).
func (p *Page) at(offset int) *uint64 {
	return (*uint64)(unsafe.Pointer(&p.bytes[offset : offset+8][0]))
}

func (p *Page) aligned() bool { return uintptr(unsafe.Pointer(&p.bytes[0]))%8 == 0 }

func (p *Page) load(offset int) uint64     { return atomic.LoadUint64(p.at(offset)) }
func (p *Page) store(offset int, v uint64) { atomic.StoreUint64(p.at(offset), v) }
func (p *Page) swap(offset int, o, n uint64) bool {
	return atomic.CompareAndSwapUint64(p.at(offset), o, n)
}
func (p *Page) or(offset int, bits uint64)   { atomic.OrUint64(p.at(offset), bits) }
func (p *Page) add(offset int, delta uint64) { atomic.AddUint64(p.at(offset), delta) }
