package intercept

import (
	"runtime"
	"slices"

	"golang.org/x/sys/unix"
)

// offArgument is where the low half of an argument lies in struct seccomp_data.
func offArgument(n uint32) uint32 { return 16 + 8*n }

// Arguments of calls.
const (
	argFd       = 0 // of those that write
	argMapFlags = 3
	argMapFd    = 4
	argIpcCall  = 0
	ipcShmat    = 21 // of ipc(2); its upper half is a version (linux/ipc.h)
)

// x32 marks the calls of that architecture, which is no other to seccomp.
const x32 = 1 << 30

// numbers are the calls of one architecture by which memory is reached, as in
// its asm/unistd.h; 0: it has none.
type numbers struct {
	arch           uint32
	mmap, oldMmap  uint32 // the latter has its arguments in memory
	shmat, ipc     uint32
	writes         []uint32 // that no socket knows
	x32Mmap, x32At uint32
	x32Pwrites     []uint32
}

// natively are the numbers of this program's own architecture.
func natively() numbers {
	switch runtime.GOARCH {
	case "amd64": // pwrite64, ftruncate, fallocate, pwritev, pwritev2
		return numbers{arch: unix.AUDIT_ARCH_X86_64, mmap: 9, shmat: 30, writes: []uint32{18, 77, 285, 296, 328},
			x32Mmap: 9 | x32, x32At: 30 | x32, x32Pwrites: []uint32{18 | x32, 77 | x32, 285 | x32, 535 | x32, 547 | x32}}
	case "arm64":
		return numbers{arch: unix.AUDIT_ARCH_AARCH64, mmap: 222, shmat: 196, writes: []uint32{68, 46, 47, 70, 287}}
	}
	return numbers{}
}

// foreignly are those of the 32-bit programs that run beside it.
func foreignly() numbers {
	switch runtime.GOARCH {
	case "amd64": // pwrite64, ftruncate, ftruncate64, fallocate, pwritev, pwritev2
		return numbers{arch: unix.AUDIT_ARCH_I386, mmap: 192, oldMmap: 90, shmat: 397, ipc: 117, writes: []uint32{181, 93, 194, 324, 334, 379}}
	case "arm64":
		return numbers{arch: unix.AUDIT_ARCH_ARM, mmap: 192, shmat: 305, ipc: 117, writes: []uint32{181, 93, 194, 352, 362, 393}}
	}
	return numbers{}
}

// any reports whether some call is to be notified.
func (r Reach) any() bool { return r.SystemV || r.Mapped || len(r.Numbers) > 0 }

// native branches on the number of a call of ours, which is loaded.
func (r Reach) native(p *assembly) {
	if r.any() {
		r.branches(p, natively())
	}
}

// foreign branches on the call of another architecture, which is loaded.
func (r Reach) foreign(p *assembly) {
	if r.any() {
		n := foreignly()
		p.branch(n.arch, "", "none")
		p.load(offNr)
		r.branches(p, n)
	}
}

func (r Reach) branches(p *assembly, n numbers) {
	branch := func(number uint32, to string) {
		if number != 0 {
			p.branch(number, to, "")
		}
	}
	if r.SystemV {
		branch(n.shmat, "notify")
		branch(n.x32At, "notify")
		branch(n.ipc, "ipc")
	}
	branch(n.mmap, "mmap")
	branch(n.x32Mmap, "mmap")
	branch(n.oldMmap, "notify")
	if r.WritesToo && len(r.Numbers) > 0 {
		for _, w := range slices.Concat(n.writes, n.x32Pwrites) {
			branch(w, "write")
		}
	}
}

// judge has the places that branches jumps to.
func (r Reach) judge(p *assembly) {
	if !r.any() {
		return
	}
	p.label("ipc")
	p.load(offArgument(argIpcCall))
	p.and(0xffff)
	p.branch(ipcShmat, "notify", "")
	p.finish(unix.SECCOMP_RET_ALLOW)
	p.label("mmap") // MAP_SHARED_VALIDATE has the bit of MAP_SHARED, too
	p.load(offArgument(argMapFlags))
	p.test(unix.MAP_SHARED, "", "none")
	p.test(unix.MAP_ANONYMOUS, "none", "")
	if r.Mapped {
		p.finish(unix.SECCOMP_RET_USER_NOTIF)
	}
	p.load(offArgument(argMapFd))
	p.jump("numbers")
	p.label("write")
	p.load(offArgument(argFd))
	p.label("numbers")
	for _, fd := range r.Numbers {
		p.branch(uint32(fd), "notify", "")
	}
	p.label("none")
	p.finish(unix.SECCOMP_RET_ALLOW)
}

// reaches reports whether n is a call of Reach.
func reaches(n notification) bool {
	own := natively()
	if n.arch != own.arch || uint32(n.nr)&x32 != 0 {
		return true // nothing else of a foreign program is notified
	}
	nr := uint32(n.nr)
	return nr == own.mmap || nr == own.shmat || slices.Contains(own.writes, nr)
}
