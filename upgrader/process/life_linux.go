package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Life tells at little cost, and early, that a process ends. The kernel marks a process that exits (PF_EXITING)
// before it closes its sockets, and makes a zombie of it long after. Safe for concurrent use but for Close.
type Life struct {
	id   Identity
	stat int // /proc/PID/stat: reading it says ESRCH once the process is reaped, whoever has its pid then
}

// Life looks at the process from now on. ErrGone when it has ended. The caller closes it.
func (id Identity) Life() (*Life, error) {
	fd, err := openProc("/proc/"+strconv.Itoa(id.Pid)+"/stat", 0)
	if err == nil && !id.Alive() { // asked afterwards: what was opened is its own
		_ = unix.Close(fd) // it was only read
		err = ErrGone
	}
	if err = gone(err); err != nil {
		return nil, fmt.Errorf("process: watch %d: %w", id.Pid, err)
	}
	return &Life{id: id, stat: fd}, nil
}

// Ends reports whether the process has ended, or is about to: it will not run any more.
func (l *Life) Ends() bool {
	var buffer [1024]byte
	n, err := unix.Pread(l.stat, buffer[:], 0)
	if err != nil || n == 0 {
		return true
	}
	exiting, threads := exits(buffer[:n])
	if !exiting || threads <= 1 {
		return exiting
	}
	// Its first thread ends; the process does when all do.
	tasks, err := names("/proc/" + strconv.Itoa(l.id.Pid) + "/task")
	if err != nil {
		return true
	}
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(l.id.Pid) + "/task/" + task + "/stat")
		if err != nil {
			continue // ended meanwhile
		}
		if exiting, _ := exits(b); !exiting {
			return false
		}
	}
	return true
}

// exits reads state, flags and number of threads of one line of /proc/PID/stat.
func exits(b []byte) (exiting bool, threads int) {
	const state, flags, count = 3, 9, 20
	const pfExiting = 0x4
	number := 2 // of the field; a proxy asks for each connection that ends, so nothing is allocated
	for field := range bytes.FieldsSeq(b[bytes.LastIndexByte(b, ')')+1:]) {
		switch number++; number {
		case state:
			exiting = bytes.ContainsAny(field, "ZXx")
		case flags:
			exiting = exiting || decimal(field)&pfExiting != 0
		case count:
			return exiting, decimal(field)
		}
	}
	return false, 0
}

// decimal reads a number that the kernel wrote.
func decimal(b []byte) int {
	n := 0
	for _, c := range b {
		n = n*10 + int(c-'0')
	}
	return n
}

// Close ends the look.
func (l *Life) Close() { _ = unix.Close(l.stat) } // it was only read
