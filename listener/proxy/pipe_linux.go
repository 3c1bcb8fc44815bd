//go:build !goroutines

package proxy

import "golang.org/x/sys/unix"

// How many pipes one loop lends at a time, and how many empty ones it keeps.
const (
	pipesLent = 64
	pipesKept = 8
)

// pipe is what a stream goes through inside the kernel. It is filled only when it is empty: EAGAIN of a
// splice(2) into it then tells of the socket, never of the pipe.
type pipe struct {
	r, w int32
	n    int // bytes in it
}

// pipes are those of one loop. They are lent while a stream flows.
type pipes struct {
	size int // bytes, as far as the kernel allows (pipe(7), pipe-user-pages-soft)
	free []*pipe
	lent int
}

// borrow gives an empty pipe; nil: there is none to be had, now.
func (p *pipes) borrow() *pipe {
	if p.lent >= pipesLent {
		return nil
	}
	if n := len(p.free); n > 0 {
		x := p.free[n-1]
		p.free = p.free[:n-1]
		p.lent++
		return x
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return nil // the stream is copied
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, p.size) // smaller ones work too
	p.lent++
	return &pipe{r: int32(fds[0]), w: int32(fds[1])}
}

// giveBack x, whatever is in it.
func (p *pipes) giveBack(x *pipe) {
	p.lent--
	if x.n > 0 || len(p.free) >= pipesKept {
		x.close()
		return
	}
	p.free = append(p.free, x)
}

func (p *pipes) close() {
	for _, x := range p.free {
		x.close()
	}
	p.free = nil
}

func (x *pipe) close() {
	_ = unix.Close(int(x.r)) // nothing can be done about it
	_ = unix.Close(int(x.w))
}
