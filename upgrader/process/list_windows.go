package process

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/windows"
)

// All are the running processes that we may look at, ordered by age, this one
// not among them.
func All() ([]Identity, error) {
	list, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return nil, fmt.Errorf("process: list: %w", os.NewSyscallError("CreateToolhelp32Snapshot", err))
	}
	defer windows.CloseHandle(list)
	var all []Identity
	entry := windows.ProcessEntry32{}
	entry.Size = uint32(unsafe.Sizeof(entry))
	for err = windows.Process32First(list, &entry); err == nil; err = windows.Process32Next(list, &entry) {
		id, err := Of(int(entry.ProcessID))
		if err == nil && id.Pid != os.Getpid() { // else it is gone, or another user's
			all = append(all, id)
		}
	}
	if !errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		return nil, fmt.Errorf("process: list: %w", os.NewSyscallError("Process32Next", err))
	}
	slices.SortFunc(all, func(a, b Identity) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Pid, b.Pid)) })
	return all, nil
}

// Args is the command line of a process, the program first, as its C library
// takes it apart.
func (id Identity) Args() ([]string, error) {
	h, err := id.open(toSee)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(h)
	line, err := commandLine(h)
	if errors.Is(err, windows.STATUS_INVALID_INFO_CLASS) { // before Windows 8.1, and in wine 8
		line, err = id.lineInMemory()
	}
	if err != nil {
		return nil, fmt.Errorf("process: command line of %d: %w", id.Pid, err)
	}
	args, err := windows.DecomposeCommandLine(line)
	if err != nil {
		return nil, fmt.Errorf("process: command line of %d: %w", id.Pid, err)
	}
	return args, nil
}

// commandLine asks the kernel for it.
func commandLine(h windows.Handle) (string, error) {
	size := uint32(4 << 10)
	for {
		// A UNICODE_STRING that points to the text behind it: aligned as 8 bytes are.
		buffer := make([]uint64, (size+7)/8)
		var needed uint32
		err := windows.NtQueryInformationProcess(h, windows.ProcessCommandLineInformation, unsafe.Pointer(&buffer[0]), uint32(len(buffer)*8), &needed)
		if errors.Is(err, windows.STATUS_INFO_LENGTH_MISMATCH) && needed > size && needed < 1<<20 {
			size = needed
			continue
		}
		if err != nil {
			return "", fmt.Errorf("NtQueryInformationProcess: %w", err)
		}
		return (*windows.NTUnicodeString)(unsafe.Pointer(&buffer[0])).String(), nil
	}
}

// lineInMemory reads it where the process has it: in the parameters that its
// environment block (PEB) points to. What is read are addresses in another
// process, so none of it may become a pointer of ours.
func (id Identity) lineInMemory() (string, error) {
	h, err := id.open(toSee | windows.PROCESS_VM_READ)
	if err != nil {
		return "", err
	}
	defer windows.CloseHandle(h)
	var basic [unsafe.Sizeof(windows.PROCESS_BASIC_INFORMATION{}) / unsafe.Sizeof(uintptr(0))]uintptr
	if err := windows.NtQueryInformationProcess(h, windows.ProcessBasicInformation, unsafe.Pointer(&basic), uint32(unsafe.Sizeof(basic)), nil); err != nil {
		return "", fmt.Errorf("NtQueryInformationProcess: %w", err)
	}
	peb := basic[unsafe.Offsetof(windows.PROCESS_BASIC_INFORMATION{}.PebBaseAddress)/unsafe.Sizeof(uintptr(0))]
	var parameters uintptr
	if err := read(h, peb+unsafe.Offsetof(windows.PEB{}.ProcessParameters), unsafe.Pointer(&parameters), unsafe.Sizeof(parameters)); err != nil {
		return "", err
	}
	var line struct {
		length, room uint16 // bytes
		text         uintptr
	}
	if err := read(h, parameters+unsafe.Offsetof(windows.RTL_USER_PROCESS_PARAMETERS{}.CommandLine), unsafe.Pointer(&line), unsafe.Sizeof(line)); err != nil {
		return "", err
	}
	text := make([]uint16, line.length/2+1)
	if err := read(h, line.text, unsafe.Pointer(&text[0]), uintptr(line.length)); err != nil {
		return "", err
	}
	return windows.UTF16ToString(text), nil
}

// read copies memory of another process.
func read(h windows.Handle, from uintptr, to unsafe.Pointer, size uintptr) error {
	return os.NewSyscallError("ReadProcessMemory", windows.ReadProcessMemory(h, from, (*byte)(to), size, nil))
}
