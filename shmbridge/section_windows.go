package shmbridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// held are the handles by which the upgrader holds a segment: a section lives as long as somebody has one of it.
type held struct {
	section, page windows.Handle
	claim         windows.Handle // an event whose existence tells other upgraders to stay away
	file          *os.File       // backs the page; nil: the page file does
}

func (h *held) release() error {
	var errs []error
	for _, handle := range []*windows.Handle{&h.section, &h.page, &h.claim} {
		if *handle != 0 {
			errs = append(errs, os.NewSyscallError("CloseHandle", windows.CloseHandle(*handle)))
			*handle = 0
		}
	}
	if h.file != nil {
		errs = append(errs, h.file.Close())
		h.file = nil
	}
	return errors.Join(errs...)
}

// claimName makes the event that says that an upgrader holds the segment of this name. The kernel removes it with us,
// however we end. Errors match ErrLocked.
func (h *held) claimName(name string) error {
	utf16, err := windows.UTF16PtrFromString(name + ".upgrader")
	if err != nil {
		return err
	}
	handle, err := windows.CreateEvent(nil, 1, 0, utf16)
	if errors.Is(err, windows.ERROR_ALREADY_EXISTS) {
		_ = windows.CloseHandle(handle) // it is another upgrader's
		return fmt.Errorf("%s: %w%s", name, ErrLocked, holderOf(name))
	}
	if err != nil {
		return os.NewSyscallError("CreateEvent", err)
	}
	h.claim = handle
	return nil
}

// holderOf says who holds the segment of this name, for a message.
func holderOf(name string) string {
	m, err := mapSection(name+sidecarSuffix, PageSize)
	if err != nil {
		return ""
	}
	defer func() { _ = m.unmap() }() // it was only read
	page, err := NewPage(m.bytes)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" of pid %d", uint32(page.load(atUpgrader)))
}

// createSection creates a section, or opens the one that is there. Of one with a file, which is as large, that is an
// error: the file may not back it.
func createSection(name string, size int64, file *os.File) (h windows.Handle, existed bool, err error) {
	utf16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, false, err
	}
	create := func(backing windows.Handle) {
		h, err = windows.CreateFileMapping(backing, nil, windows.PAGE_READWRITE, uint32(size>>32), uint32(size), utf16)
	}
	if file == nil {
		create(windows.InvalidHandle)
	} else if e := onHandle(file, create); e != nil {
		return 0, false, e
	}
	existed = errors.Is(err, windows.ERROR_ALREADY_EXISTS)
	switch {
	case errors.Is(err, windows.ERROR_COMMITMENT_LIMIT), errors.Is(err, windows.ERROR_DISK_FULL), errors.Is(err, windows.ERROR_NOT_ENOUGH_MEMORY):
		return 0, false, fmt.Errorf("create section %s of %d bytes: %w (%w)", name, size, ErrNoSpace, err)
	case h == 0:
		return 0, false, fmt.Errorf("create section %s: %w", name, os.NewSyscallError("CreateFileMapping", err))
	case existed && file != nil:
		_ = windows.CloseHandle(h) // it is not the one meant
		return 0, true, fmt.Errorf("another process has a section %s, which %s may not back: %w", name, file.Name(), fs.ErrExist)
	}
	return h, existed, nil
}

// openSection opens a section that somebody has created. Errors match fs.ErrNotExist.
func openSection(name string) (windows.Handle, error) {
	utf16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return 0, err
	}
	open := windows.NewLazySystemDLL("kernel32.dll").NewProc("OpenFileMappingW")
	h, _, err := open.Call(windows.FILE_MAP_READ|windows.FILE_MAP_WRITE, 0, uintptr(unsafe.Pointer(utf16)))
	if h == 0 {
		return 0, fmt.Errorf("open section %s: %w", name, os.NewSyscallError("OpenFileMapping", err))
	}
	return windows.Handle(h), nil
}

// view maps all of a section; size 0: however large it is, in whole pages of the machine. The view outlives the handle.
// file backs it, nil: none does.
func view(h windows.Handle, size int64, file *os.File) (*mapping, error) {
	address, err := windows.MapViewOfFile(h, windows.FILE_MAP_READ|windows.FILE_MAP_WRITE, 0, 0, uintptr(size))
	if errors.Is(err, windows.ERROR_ACCESS_DENIED) || errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return nil, fmt.Errorf("map %d bytes of a section: %w (%w)", size, ErrSize, err) // it is smaller
	}
	if address == 0 {
		return nil, fmt.Errorf("map %d bytes of a section: %w", size, os.NewSyscallError("MapViewOfFile", err))
	}
	whole, err := regionSize(address)
	if err == nil && size > whole {
		err = fmt.Errorf("the section has %d bytes, not %d: %w", whole, size, ErrSize)
	}
	if err != nil {
		return nil, errors.Join(err, windows.UnmapViewOfFile(address))
	}
	if size == 0 {
		size = whole
	}
	m := &mapping{
		bytes: bytesAt(address, size),
		flush: func() error { return nil },
		unmap: func() error { return os.NewSyscallError("UnmapViewOfFile", windows.UnmapViewOfFile(address)) },
	}
	if file != nil {
		m.flush = func() error {
			if err := windows.FlushViewOfFile(address, uintptr(size)); err != nil {
				return os.NewSyscallError("FlushViewOfFile", err)
			}
			return file.Sync()
		}
	}
	return m, nil
}

// regionSize is how many bytes are mapped at an address.
func regionSize(address uintptr) (int64, error) {
	var info windows.MemoryBasicInformation
	if err := windows.VirtualQuery(address, &info, unsafe.Sizeof(info)); err != nil {
		return 0, os.NewSyscallError("VirtualQuery", err)
	}
	return int64(info.RegionSize), nil
}

// bytesAt is memory that is mapped at an address, which is no Go memory.
func bytesAt(address uintptr, size int64) []byte {
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&address)), size)
}

// mapSection maps a section that somebody has created, by its name.
func mapSection(name string, size int64) (*mapping, error) {
	h, err := openSection(name)
	if err != nil {
		return nil, err
	}
	m, err := view(h, size, nil)
	return m, errors.Join(err, os.NewSyscallError("CloseHandle", windows.CloseHandle(h)))
}

// handles is how many handles of an object all processes have.
func handles(h windows.Handle) (int, error) {
	var info struct{ Attributes, Access, Handles, Pointers, reserved0, reserved1, reserved2, reserved3, reserved4, reserved5, reserved6, reserved7, reserved8, reserved9 uint32 }
	query := windows.NewLazySystemDLL("ntdll.dll").NewProc("NtQueryObject")
	const basic = 0 // ObjectBasicInformation
	if status, _, _ := query.Call(uintptr(h), basic, uintptr(unsafe.Pointer(&info)), unsafe.Sizeof(info), 0); status != 0 {
		return 0, fmt.Errorf("NtQueryObject: %w", windows.NTStatus(status))
	}
	return int(info.Handles), nil
}

// onHandle lends the handle of a file, which stays in the poller's hands.
func onHandle(f *os.File, do func(h windows.Handle)) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(h uintptr) { do(windows.Handle(h)) })
}
