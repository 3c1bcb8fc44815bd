package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// file tells one content from another.
type file struct {
	dev, ino uint64 // 0 where the system has no such numbers
	size     int64
	modified time.Time
	mode     fs.FileMode
}

// same reports whether the content is the same; the mode is not looked at.
func (f file) same(g file) bool {
	f.mode, g.mode = 0, 0
	return f == g
}

func examine(path string) (file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return file{}, err
	}
	f := file{size: info.Size(), modified: info.ModTime(), mode: info.Mode()}
	f.dev, f.ino = numbers(info)
	return f, nil
}

// runnable says why the file at path cannot be run, as far as that can be
// seen: of a script that is cut short it cannot.
func runnable(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("no regular file")
	case !executable(info):
		return errors.New("not executable")
	case info.Size() == 0:
		return errors.New("empty")
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrPermission) {
		return nil // it may be executed, not read
	}
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	return wholeELF(f, info.Size())
}

// wholeELF refuses an ELF file (elf(5)) that is shorter than its headers say.
// What is none is not judged.
func wholeELF(f io.ReaderAt, size int64) error {
	short := func(need uint64) error {
		return fmt.Errorf("cut short: %d bytes, at least %d are missing", size, need-uint64(size))
	}
	var h [64]byte
	n, err := f.ReadAt(h[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if n < 4 || string(h[:4]) != "\x7fELF" {
		return nil
	}
	if n < len(h) {
		return short(uint64(len(h)))
	}
	var order binary.ByteOrder = binary.LittleEndian
	if h[5] == 2 {
		order = binary.BigEndian
	}
	word := func(b []byte, wide bool, at64, at32 int) uint64 {
		if wide {
			return order.Uint64(b[at64:])
		}
		return uint64(order.Uint32(b[at32:]))
	}
	wide := h[4] == 2
	half := func(at64, at32 int) uint64 {
		if wide {
			return uint64(order.Uint16(h[at64:]))
		}
		return uint64(order.Uint16(h[at32:]))
	}
	phoff, shoff := word(h[:], wide, 32, 28), word(h[:], wide, 40, 32)
	phentsize, phnum := half(54, 42), half(56, 44)
	shentsize, shnum := half(58, 46), half(60, 48)
	if end := shoff + shentsize*shnum; shoff != 0 && end > uint64(size) {
		return short(end)
	}
	if end := phoff + phentsize*phnum; end > uint64(size) {
		return short(end)
	}
	if phentsize < 32 || wide && phentsize < 56 {
		return nil // nothing that could be understood
	}
	header := make([]byte, phentsize)
	for i := range phnum {
		if _, err := f.ReadAt(header, int64(phoff+i*phentsize)); err != nil {
			return err
		}
		offset, length := word(header, wide, 8, 4), word(header, wide, 32, 16)
		if end := offset + length; end > uint64(size) {
			return short(end)
		}
	}
	return nil
}
