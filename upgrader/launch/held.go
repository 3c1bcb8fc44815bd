package launch

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// lineLimit is how much of a file the kernel reads for its interpreter line (BINPRM_BUF_SIZE, since Linux 5.1).
const lineLimit = 256

// Held is a command file that is kept open, so that what ran can be run again when its name means another file.
type Held struct {
	Name     string   // absolute path under which the command was found, symbolic links not followed
	Path     string   // the same with links followed, as it was then
	File     *os.File // Order.Held of a binary; on Linux not readable (O_PATH), and it keeps the file from being freed
	Dev, Ino uint64   // 0 where the system has no such numbers

	Script      bool   // it begins with "#!"; Linux cannot run it from File: see CopyTo
	Interpreter string // of a script
	Argument    string // the rest of its interpreter line, one argument to the kernel; may be empty

	info    fs.FileInfo
	changed time.Time
}

// Hold finds the command file by the rules of exec.LookPath, relative to the working directory, follows symbolic
// links, and opens it. ErrNotFound, ErrDirectory, ErrNotExecutable; ExitCode tells their codes.
func Hold(command string) (*Held, error) { return HoldIn("", command) }

// HoldIn is Hold for a command that will be started in dir: a relative path with a slash is relative to that.
func HoldIn(dir, command string) (*Held, error) {
	h, err := hold(dir, command)
	if err != nil {
		return nil, fmt.Errorf("launch: %s: %w", command, err)
	}
	return h, nil
}

func hold(dir, command string) (*Held, error) {
	name, err := look(dir, command)
	if err != nil {
		return nil, err
	}
	if name, err = filepath.Abs(name); err != nil {
		return nil, err
	}
	path, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, classify(err)
	}
	file, err := openHeld(path)
	if err != nil {
		return nil, classify(err)
	}
	h := &Held{Name: name, Path: path, File: file}
	if err := h.examine(); err != nil {
		_ = file.Close() // nothing was written
		return nil, err
	}
	return h, nil
}

// look is exec.LookPath with errors that tell a file that may not be executed from none at all.
func look(dir, command string) (string, error) {
	if command == "" {
		return "", ErrNotFound
	}
	if dir != "" && filepath.Base(command) != command && !filepath.IsAbs(command) {
		command = filepath.Join(dir, command)
	}
	name, err := exec.LookPath(command)
	if err == nil {
		return name, nil
	}
	if filepath.Base(command) == command { // looked for in PATH
		for _, in := range filepath.SplitList(os.Getenv("PATH")) {
			if info, statErr := os.Stat(filepath.Join(in, command)); in != "" && statErr == nil && info.Mode().IsRegular() {
				return "", fmt.Errorf("%w: %s", ErrNotExecutable, filepath.Join(in, command))
			}
		}
		return "", classify(err)
	}
	if info, statErr := os.Stat(command); statErr == nil && info.IsDir() {
		return "", ErrDirectory
	}
	return "", classify(err)
}

// classify names what a file's error means, and keeps of it what is not known yet: neither the file nor how it was
// looked at.
func classify(err error) error {
	var look *exec.Error
	if errors.As(err, &look) {
		err = look.Err
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	switch {
	case missing(err), errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrNotExecutable, err)
	}
	return err
}

// examine fills in what the open file tells.
func (h *Held) examine() error {
	info, err := h.File.Stat()
	if err != nil {
		return err
	}
	if info.IsDir() {
		return ErrDirectory
	}
	if !info.Mode().IsRegular() {
		return ErrNotExecutable
	}
	h.info, h.changed = info, changeTime(info)
	h.Dev, h.Ino = numbers(info)
	line := make([]byte, lineLimit)
	readable, err := reopen(h.File)
	if errors.Is(err, fs.ErrPermission) {
		return nil // may be executed, not read: then it is no script, whose interpreter would have to read it
	}
	if err != nil {
		return err
	}
	defer readable.Close()
	n, err := io.ReadFull(readable, line)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	h.Script, h.Interpreter, h.Argument = interpreterLine(line[:n])
	return nil
}

// interpreterLine reads "#! interpreter argument" as Linux does: blanks around both, one argument, up to the line's end.
func interpreterLine(b []byte) (script bool, interpreter, argument string) {
	rest, script := bytes.CutPrefix(b, []byte("#!"))
	if !script {
		return false, "", ""
	}
	if end := bytes.IndexByte(rest, '\n'); end >= 0 {
		rest = rest[:end]
	}
	line := strings.Trim(string(rest), " \t\x00")
	if at := strings.IndexAny(line, " \t"); at >= 0 {
		return true, line[:at], strings.Trim(line[at:], " \t")
	}
	return true, line, ""
}

// Same reports whether Name still names the file that is held, unchanged since. Then it is better started by its
// name: a descriptor's number would become the name of the process (before Linux 6.14).
func (h *Held) Same() bool {
	info, err := os.Stat(h.Name)
	return err == nil && os.SameFile(info, h.info) && sameContent(info, h.info) && changeTime(info).Equal(h.changed)
}

// Intact reports whether the held file's content is what it was, wherever Name points to now. (A file that is
// replaced by rename or deleted stays intact; one that is overwritten in place does not.)
func (h *Held) Intact() bool {
	info, err := h.File.Stat()
	return err == nil && sameContent(info, h.info)
}

func sameContent(a, b fs.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// CopyTo writes a copy of the held file into dir and returns its path: the same for the same file, so that a copy
// that is there already is taken.
func (h *Held) CopyTo(dir string) (string, error) {
	path, err := h.copyTo(dir)
	if err != nil {
		return "", fmt.Errorf("launch: copy %s: %w", h.Path, err)
	}
	return path, nil
}

func (h *Held) copyTo(dir string) (string, error) {
	// The modification time is part of the name: an inode's number is used again soon after the file is gone.
	id := strconv.FormatUint(h.Dev, 36) + "-" + strconv.FormatUint(h.Ino, 36) + "-" +
		strconv.FormatInt(h.info.ModTime().UnixNano(), 36) + "-" + strconv.FormatInt(h.info.Size(), 36)
	path := filepath.Join(dir, "held-"+id+"-"+filepath.Base(h.Path))
	if info, err := os.Stat(path); err == nil && info.Size() == h.info.Size() {
		return path, nil
	}
	from, err := reopen(h.File)
	if err != nil {
		return "", err
	}
	defer from.Close()
	to, err := os.CreateTemp(dir, ".held-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(to.Name()) // after the rename there is none
	n, err := io.Copy(to, from)
	if err == nil && (n != h.info.Size() || !h.Intact()) {
		err = errors.New("it was overwritten in place")
	}
	if err == nil {
		err = to.Chmod(h.info.Mode().Perm() | 0o500)
	}
	if err := errors.Join(err, to.Close()); err != nil {
		return "", err
	}
	return path, os.Rename(to.Name(), path)
}

// Command is the path and the arguments that run copy as the kernel would run the held script: its interpreter,
// the line's argument, the copy, and args without the first. It works on a file system without exec permission,
// and for a binary it is the copy itself. The script finds the copy's path as its own name: a limit.
func (h *Held) Command(copy string, args []string) (path string, argv []string) {
	if !h.Script {
		return copy, args
	}
	argv = []string{h.Interpreter}
	if h.Argument != "" {
		argv = append(argv, h.Argument)
	}
	argv = append(argv, copy)
	if len(args) > 0 {
		argv = append(argv, args[1:]...)
	}
	return h.Interpreter, argv
}

// NeedsCopy reports whether only a copy can run when Name names another file: a script, and anything where the system
// cannot execute an open file.
func (h *Held) NeedsCopy() bool { return h.Script || !runsHeld }

// Close releases the descriptor.
func (h *Held) Close() error { return h.File.Close() }
