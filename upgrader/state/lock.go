package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	lockName  = "lock"
	holderMax = 16 << 10        // bytes of a lock file that are read
	patience  = 2 * time.Second // for a lock whose holder is gone, or is not named yet
)

// Holder is who holds a lock.
type Holder struct {
	Pid     int
	Start   uint64 // clock ticks since boot; 0: not known
	Name    string // of the service
	Command []string
}

// alive reports whether the process that h names still runs.
func (h Holder) alive() bool {
	if h.Pid <= 0 {
		return false
	}
	start, ok := startTime(h.Pid)
	return ok && start == h.Start
}

// String says who h is in a few words.
func (h Holder) String() string {
	if h.Pid <= 0 {
		return "another process"
	}
	s := fmt.Sprintf("the upgrader with pid %d", h.Pid)
	if len(h.Command) > 0 {
		s += " (" + commandLine(h.Command) + ")"
	}
	return s
}

// LockedError says that another upgrader holds the lock.
type LockedError struct {
	Dir    string
	Holder Holder // Pid 0: not known
}

// Error names the holder.
func (e *LockedError) Error() string {
	return fmt.Sprintf("state: %s runs in %s already: stop it, or give this one another --name", e.Holder, e.Dir)
}

// Lock is the right to be the upgrader of a state dir. It is released by
// Release, and by the kernel when the last process that has it ends.
type Lock struct {
	file    *os.File
	name    string
	command []string
}

// Lock takes the lock, and writes this process into it. When another upgrader
// has it, the error is a *LockedError at once. When the one that had it is
// just gone it waits up to 2 s: a child that has not yet executed anything
// still has its parent's descriptors.
func (d *Dir) Lock(name string, command []string) (*Lock, error) {
	deadline := time.Now().Add(patience)
	for {
		f, err := d.tryLockFile()
		if err != nil {
			return nil, err
		}
		if f != nil {
			sweep(d.path)
			l := &Lock{file: f, name: name, command: command}
			if err := l.Claim(); err != nil {
				_ = f.Close() // it was not used
				return nil, err
			}
			return l, nil
		}
		h, err := readHolder(d.Join(lockName))
		if err == nil && h.alive() || time.Now().After(deadline) {
			return nil, &LockedError{Dir: d.path, Holder: h}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// tryLockFile gives the locked file, or nil when somebody else has the lock.
func (d *Dir) tryLockFile() (*os.File, error) {
	path := d.Join(lockName)
	f, err := openLock(path, true)
	if err != nil {
		return nil, fmt.Errorf("state: open %s: %w", path, bare(err))
	}
	ok, err := tryLock(f)
	if err == nil && ok {
		var same bool
		if same, err = names(path, f); err == nil && same {
			return f, nil
		}
	}
	_ = f.Close() // it was not used
	if err != nil {
		return nil, fmt.Errorf("state: lock %s: %w", path, bare(err))
	}
	return nil, nil
}

// names reports whether path still is the file f.
func names(path string, f *os.File) (bool, error) {
	ours, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Lstat(path)
	if os.IsNotExist(err) {
		return false, nil
	}
	return err == nil && os.SameFile(ours, there), err
}

// Inherit takes the lock from f, a duplicate that another process made by
// File, and writes this process into it. It takes ownership of f.
func (d *Dir) Inherit(f *os.File, name string, command []string) (*Lock, error) {
	path := d.Join(lockName)
	same, err := names(path, f)
	if err == nil && !same {
		err = fmt.Errorf("what was handed on is another file")
	}
	if err == nil {
		var ok bool
		if ok, err = tryLock(f); err == nil && !ok {
			err = &LockedError{Dir: d.path}
		}
	}
	l := &Lock{file: f, name: name, command: command}
	if err == nil {
		err = l.Claim()
	}
	if err != nil {
		_ = f.Close() // it was not used
		return nil, fmt.Errorf("state: inherit %s: %w", path, err)
	}
	return l, nil
}

// Claim writes this process into the lock: again, if another one that had it
// too, and that wrote itself into it, is gone.
func (l *Lock) Claim() error {
	start, _ := startTime(os.Getpid()) // 0 where it is not known
	text := encodeHolder(Holder{Pid: os.Getpid(), Start: start, Name: l.name, Command: l.command})
	// In one write, padded to the old length: a reader never finds half of it.
	if info, err := l.file.Stat(); err == nil && info.Size() > int64(len(text)) && info.Size() <= holderMax {
		text = append(text, bytes.Repeat([]byte{'\n'}, int(info.Size())-len(text))...)
	}
	if _, err := l.file.WriteAt(text, 0); err != nil {
		return fmt.Errorf("state: write the lock: %w", err)
	}
	return nil
}

// File duplicates the lock for another process: it is held until both have
// released it or ended.
func (l *Lock) File() (*os.File, error) {
	f, err := duplicate(l.file)
	if err != nil {
		return nil, fmt.Errorf("state: duplicate the lock: %w", err)
	}
	return f, nil
}

// Release gives the lock up, as far as this process has it.
func (l *Lock) Release() error {
	if h, err := parseHolder(io.NewSectionReader(l.file, 0, holderMax)); err == nil && h.Pid == os.Getpid() {
		_ = l.file.Truncate(0) // only for tidiness: who is gone is not taken for a holder
	}
	if err := l.file.Close(); err != nil {
		return fmt.Errorf("state: release the lock: %w", err)
	}
	return nil
}

// encodeHolder makes "PID START NAME" and a line with the command, as JSON and
// cut to what is worth showing.
func encodeHolder(h Holder) []byte {
	command, left := []string{}, 4096
	for _, arg := range h.Command {
		if left -= len(arg) + 1; left < 0 {
			command = append(command, "...")
			break
		}
		command = append(command, arg)
	}
	line, _ := json.Marshal(command) // strings are always encoded
	return fmt.Appendf(nil, "%d %d %s\n%s\n", h.Pid, h.Start, h.Name, line)
}

// readHolder reads who is written in a lock file.
func readHolder(path string) (Holder, error) {
	f, err := os.Open(path)
	if err != nil {
		return Holder{}, err
	}
	defer f.Close() // it was only read
	return parseHolder(f)
}

func parseHolder(r io.Reader) (Holder, error) {
	data, err := io.ReadAll(io.LimitReader(r, holderMax))
	if err != nil {
		return Holder{}, err
	}
	first, second, _ := strings.Cut(string(data), "\n")
	parts := strings.SplitN(first, " ", 3)
	if len(parts) != 3 {
		return Holder{}, fmt.Errorf("state: no holder in the lock")
	}
	h := Holder{Name: parts[2]}
	if h.Pid, err = strconv.Atoi(parts[0]); err != nil || h.Pid <= 0 {
		return Holder{}, fmt.Errorf("state: no pid in the lock: %.20q", parts[0])
	}
	if h.Start, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return Holder{}, fmt.Errorf("state: no start time in the lock: %.20q", parts[1])
	}
	if err := json.Unmarshal([]byte(strings.TrimSpace(second)), &h.Command); err != nil {
		h.Command = nil // it is only shown
	}
	return h, nil
}

// commandLine writes a command for people, on one line.
func commandLine(command []string) string {
	words := make([]string, len(command))
	for i, w := range command {
		if w == "" || strings.ContainsFunc(w, func(r rune) bool { return r <= ' ' || r == '"' || r == '\'' || r == '\\' || r == 0x7f }) {
			w = strconv.Quote(w)
		}
		words[i] = w
	}
	if s := strings.Join(words, " "); len(s) > 120 {
		return strings.ToValidUTF8(s[:117], "") + "..."
	} else {
		return s
	}
}
