package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Dir is an open state dir.
type Dir struct {
	path string
	boot func() (string, error) // see bootID
}

// Open makes the state dir, 0700, where it is missing, and checks that it is
// ours alone to write. In one of the default places the directories up to
// the base are checked and made alike. Elsewhere the directory that path lies
// in has to be there: whom that belongs to is for whoever chose it.
func Open(path string) (*Dir, error) {
	return here().open(path)
}

func (p place) open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("state: find %s: %w", path, err)
	}
	chain := []string{path}
	for _, base := range p.bases() {
		if filepath.Dir(path) == base {
			chain = []string{base, path}
		}
	}
	for _, dir := range chain {
		if err := makeDir(dir, p.uid); err != nil {
			return nil, err
		}
	}
	return &Dir{path: path, boot: sync.OnceValues(bootID)}, nil
}

// makeDir makes dir where it is missing and checks it.
func makeDir(dir string, uid int) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case err == nil || errors.Is(err, fs.ErrExist):
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("state: make %s: read-only file system: give another place with --state-dir", dir)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("state: make %s: there is no directory %s", dir, filepath.Dir(dir))
	default:
		return fmt.Errorf("state: make %s: %w", dir, bare(err))
	}
	return checkDir(dir, uid)
}

// Reasons why a directory cannot be a state dir, or hold one.
var (
	ErrNotDir = errors.New("not a directory")
	ErrShared = errors.New("writable by others")
	ErrOwner  = errors.New("owned by somebody else")
)

// ownerError is ErrOwner with the owner's name.
type ownerError int

func (e ownerError) Error() string        { return fmt.Sprintf("owned by uid %d", int(e)) }
func (e ownerError) Is(target error) bool { return target == ErrOwner }

// checkDir checks that dir is a directory, no symbolic link, that belongs to
// uid and that nobody else can write to.
func checkDir(dir string, uid int) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("state: %s: %w", dir, bare(err))
	case info.Mode()&fs.ModeSymlink != 0:
		return fmt.Errorf("state: %s is a symbolic link: %w", dir, ErrNotDir)
	case !info.IsDir():
		return fmt.Errorf("state: %s is %w", dir, ErrNotDir)
	}
	if uid < 0 {
		return nil
	}
	if owner := ownerOf(info); owner != uid {
		return fmt.Errorf("state: %s is %w, not by uid %d", dir, ownerError(owner), uid)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("state: %s is %w (mode %#o)", dir, ErrShared, info.Mode().Perm())
	}
	return nil
}

// checkParent checks that entries of dir are safe from others: nobody else
// can write there, or it is sticky as /tmp is.
func checkParent(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return fmt.Errorf("state: %s: %w", dir, bare(err))
	case !info.IsDir():
		return fmt.Errorf("state: %s is %w", dir, ErrNotDir)
	case info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0:
		return fmt.Errorf("state: %s is %w and not sticky", dir, ErrShared)
	}
	return nil
}

// Path is where the dir is.
func (d *Dir) Path() string { return d.path }

// Join gives the path of a file in the dir.
func (d *Dir) Join(name string) string { return filepath.Join(d.path, name) }

// bare drops the operation and path of an error that says them again.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
