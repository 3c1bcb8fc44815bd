package main

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/integration/ledger"
)

// The header of the loader's segment, and what stands in it. Its objects are a
// ledger.
const (
	nfAtKey     = 8
	nfAtSize    = 16
	nfAtInited  = 84
	nfAtVersion = 88
	nfObjects   = 4096

	nfInited  = 987654321
	nfVersion = 100001
)

// attach creates the segment, or goes on from the one that is there. Without a
// handler it gives an exit status.
func (l *loader) attach() (http.Handler, int) {
	size, err := strconv.Atoi(l.conf["size"])
	if err != nil || size < nfObjects+ledger.Size {
		fmt.Fprintln(os.Stderr, "guest: nf.conf: no size")
		return nil, 1
	}
	key := int(int32(l.id))
	found := "resumed"
	id, err := unix.SysvShmGet(key, size, unix.IPC_CREAT|unix.IPC_EXCL|0o666)
	if err == nil {
		found = "created"
	} else if id, err = unix.SysvShmGet(key, 0, 0); err != nil {
		return nil, 255
	}
	var info unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &info); err != nil || int(info.Segsz) != size {
		fmt.Fprintln(os.Stderr, "guest: the segment has another size")
		return nil, 255
	}
	b, err := unix.SysvShmAttach(id, 0, 0)
	if err != nil {
		return nil, 255
	}
	load := func(at int) uint32 { return atomic.LoadUint32((*uint32)(unsafe.Pointer(&b[at]))) }
	store := func(at int, v uint32) { atomic.StoreUint32((*uint32)(unsafe.Pointer(&b[at])), v) }
	switch {
	case found == "created":
	case load(nfAtVersion) != nfVersion:
		fmt.Fprintln(os.Stderr, "guest: shm check version error")
		return nil, 0
	case load(nfAtInited) != nfInited:
		clear(b)
		found = "created"
	}
	book := ledger.New(b[nfObjects:])
	switch {
	case found == "created":
		store(nfAtKey, l.id)
		store(nfAtSize, uint32(size))
		store(nfAtVersion, nfVersion)
	case l.conf["scribble"] != "":
		book.Scribble()
		fmt.Fprintln(os.Stderr, "guest: scribbled")
		return nil, 0
	default:
		if err := book.Recover(); err != nil {
			fmt.Fprintln(os.Stderr, "guest:", err)
			return nil, 0
		}
	}
	store(nfAtInited, nfInited)
	fmt.Fprintln(os.Stderr, "guest: segment", found)
	return ledger.Handler(book, func(s *ledger.State) { s.Found = found }), 0
}
