package upgrader

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

const hasSections = true

// section is a handle of one; 0: none.
type section struct{ handle windows.Handle }

func (s section) held() bool { return s.handle != 0 }

func (s section) release() {
	if s.held() {
		_ = windows.CloseHandle(s.handle) // nothing was written through it
	}
}

// findSection opens a section that somebody has created, and none where there
// is none: one that we created an unmodified server would take for data, which
// it then finds to be zeros.
func findSection(name string) (section, error) {
	utf16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return section{}, err
	}
	open := windows.NewLazySystemDLL("kernel32.dll").NewProc("OpenFileMappingW")
	h, _, err := open.Call(windows.FILE_MAP_READ|windows.FILE_MAP_WRITE, 0, uintptr(unsafe.Pointer(utf16)))
	switch {
	case h != 0:
		return section{windows.Handle(h)}, nil
	case errors.Is(err, windows.ERROR_FILE_NOT_FOUND):
		return section{}, nil
	}
	return section{}, fmt.Errorf("upgrader: open section %s: OpenFileMapping: %w", name, err)
}

// createSection creates the section, or opens the one that is there. A file
// that backs it is made as large as the section, and keeps what it has.
func createSection(d *Section) (_ section, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("upgrader: create section %s: %w", d.Name, err)
		}
	}()
	utf16, err := windows.UTF16PtrFromString(d.Name)
	if err != nil {
		return section{}, err
	}
	backing := windows.InvalidHandle
	if d.File != "" {
		f, err := os.OpenFile(d.File, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return section{}, err
		}
		defer f.Close() // the section has it from then on
		info, err := f.Stat()
		if err != nil {
			return section{}, err
		}
		if info.Size() > d.Size {
			return section{}, fmt.Errorf("%s has %d bytes, the section has %d", d.File, info.Size(), d.Size)
		}
		backing = windows.Handle(f.Fd())
	}
	h, err := windows.CreateFileMapping(backing, nil, windows.PAGE_READWRITE, uint32(d.Size>>32), uint32(d.Size), utf16)
	switch {
	case h == 0:
		return section{}, os.NewSyscallError("CreateFileMapping", err)
	case errors.Is(err, windows.ERROR_ALREADY_EXISTS) && d.File != "":
		_ = windows.CloseHandle(h)
		return section{}, errors.New("another process has one of that name, which this file may not back")
	}
	return section{h}, nil
}
