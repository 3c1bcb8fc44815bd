package process

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Life tells at little cost, and early, that a process ends. The system marks a process that is being ended before
// it closes its handles, its sockets among them, and signals its object after that. Safe for concurrent use but for Close.
type Life struct{ handle windows.Handle }

// Life looks at the process from now on. ErrGone when it has ended. The caller closes it.
func (id Identity) Life() (*Life, error) {
	h, err := id.open(toSee)
	if err == nil && ended(h) {
		_ = windows.CloseHandle(h) // it was only looked at
		err = ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("process: watch %d: %w", id.Pid, err)
	}
	return &Life{handle: h}, nil
}

// extendedBasicInformation is PROCESS_EXTENDED_BASIC_INFORMATION.
type extendedBasicInformation struct {
	size  uintptr // of all of it
	basic windows.PROCESS_BASIC_INFORMATION
	flags uint32
}

// isProcessDeleting: the process is being ended.
const isProcessDeleting = 1 << 2

// Ends reports whether the process has ended, or is about to: it will not run any more.
func (l *Life) Ends() bool {
	if ended(l.handle) {
		return true
	}
	var info extendedBasicInformation
	info.size = unsafe.Sizeof(info)
	err := windows.NtQueryInformationProcess(l.handle, windows.ProcessBasicInformation, unsafe.Pointer(&info), uint32(info.size), nil)
	return err == nil && info.flags&isProcessDeleting != 0 // before Windows 8 this is not told
}

// Close ends the look.
func (l *Life) Close() { _ = windows.CloseHandle(l.handle) } // it was only looked at
