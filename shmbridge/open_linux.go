package shmbridge

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// system is how the kernel is reached, where there is a choice: tests take away what a kernel or a container may lack.
type system struct {
	shm    string                                      // where POSIX segments live; empty: /dev/shm
	memfd  func(name string, flags int) (int, error)   // nil: unix.MemfdCreate
	seal   func(fd uintptr, cmd, arg int) (int, error) // nil: unix.FcntlInt
	enough func(size int64) error                      // nil: enoughMemory
}

func (y system) withDefaults() system {
	if y.shm == "" {
		y.shm = "/dev/shm"
	}
	if y.memfd == nil {
		y.memfd = unix.MemfdCreate
	}
	if y.seal == nil {
		y.seal = unix.FcntlInt
	}
	if y.enough == nil {
		y.enough = enoughMemory
	}
	return y
}

// open fills s, which its caller closes when open fails.
func (s *Segment) open(c Config) error {
	c.system = c.system.withDefaults()
	if c.Mode == 0 {
		c.Mode = 0o600
	}
	if s.size > int64(^uint(0)>>1) {
		return fmt.Errorf("%d bytes in this address space: %w", s.size, ErrUnsupported)
	}
	if c.Inherited.Bridge != nil {
		return s.inherit(c)
	}
	var err error
	switch s.spec.Kind {
	case Memfd:
		return s.openMemfd(c)
	case Posix:
		s.path = filepath.Join(c.system.shm, s.spec.Name)
		s.held.side = s.path + sidecarSuffix
		err = s.openNamed(c, unix.O_NOFOLLOW)
	case File:
		if s.path, err = realPath(s.spec.Name); err == nil {
			s.held.side = s.path + sidecarSuffix
			err = s.openNamed(c, 0)
		}
	case SysV:
		if err = s.openSysV(c); err == nil {
			s.held.side = filepath.Join(c.system.shm, sysvSidecar(s.spec.Key, s.id))
		}
	default:
		err = ErrUnsupported
	}
	if err != nil {
		return err
	}
	mine := s.created
	if err := s.secure(c); err != nil {
		if mine && s.lock == nil && !errors.Is(err, ErrLocked) { // who holds the lock has the segment, too
			err = errors.Join(err, s.removeSegment())
		} else if mine && s.lock != nil {
			err = errors.Join(err, s.Remove())
		}
		return err
	}
	return s.start(c)
}

// realPath resolves the directory of a path and, where it exists, the file itself, so that the bridge page lies beside it.
func realPath(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		return filepath.Join(dir, filepath.Base(path)), err
	}
	return real, err
}

// openNamed opens the segment's path, or creates it empty: fill gives it its size under the lock.
func (s *Segment) openNamed(c Config, flags int) error {
	flags |= unix.O_RDWR | unix.O_CLOEXEC | unix.O_NONBLOCK // a fifo in the place of the file must not hang us
	fd, err := unix.Open(s.path, flags, 0)
	if err == unix.ENOENT && s.spec.Size == 0 {
		return fmt.Errorf("%w: to create it, add ,size=SIZE", &fs.PathError{Op: "open", Path: s.path, Err: err})
	}
	if err == unix.ENOENT {
		fd, err = unix.Open(s.path, flags|unix.O_CREAT|unix.O_EXCL, uint32(c.Mode.Perm()))
		s.created = err == nil
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: s.path, Err: err}
	}
	s.file = os.NewFile(uintptr(fd), s.path)
	if !s.created {
		return checkOwned(s.file, c)
	}
	if err := s.file.Chmod(c.Mode.Perm()); err != nil { // whatever the umask
		return err
	}
	if err := giveTo(s.file, c); err != nil {
		return errors.Join(err, s.removeSegment())
	}
	return syncDir(filepath.Dir(s.path))
}

func giveTo(f *os.File, c Config) error {
	if c.Uid == nil && c.Gid == nil {
		return nil
	}
	uid, gid := -1, -1
	if c.Uid != nil {
		uid = int(*c.Uid)
	}
	if c.Gid != nil {
		gid = int(*c.Gid)
	}
	return f.Chown(uid, gid)
}

// checkOwned refuses what is no regular file, or belongs to a third party.
func checkOwned(f *os.File, c Config) error {
	var st unix.Stat_t
	if err := fstat(f, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%s is no regular file", f.Name())
	}
	return checkOwner(f.Name(), st.Uid, c)
}

func checkOwner(name string, uid uint32, c Config) error {
	if int(uid) == os.Geteuid() || c.Uid != nil && *c.Uid == uid {
		return nil
	}
	return fmt.Errorf("%s belongs to uid %d: %w", name, uid, ErrOwner)
}

// fstat reaches the descriptor without taking the file out of the poller's hands, as File.Fd would.
func fstat(f *os.File, st *unix.Stat_t) error {
	return control(f, func(fd int) error { return os.NewSyscallError("fstat", unix.Fstat(fd, st)) })
}

func control(f *os.File, do func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var done error
	if err := raw.Control(func(fd uintptr) { done = do(int(fd)) }); err != nil {
		return err
	}
	return done
}

// secure gets the lock, and under it brings the segment to its size and makes sure that each byte of it has its place.
func (s *Segment) secure(c Config) error {
	if _, err := s.measure(); err != nil { // before anything is made beside a file that is refused
		return err
	}
	if err := s.openSidecar(c); err != nil {
		return err
	}
	if s.file == nil {
		return nil // System V: made with its size
	}
	empty, err := s.measure()
	if err != nil {
		return err
	}
	s.created = s.created || empty
	if s.created && s.spec.Kind != File {
		if err := c.system.enough(s.size); err != nil {
			return err
		}
	}
	return allocate(s.file, s.size)
}

// measure sets the size to what there is, and tells whether there is nothing: the segment is new, or was left behind by
// one who died in creating it.
func (s *Segment) measure() (empty bool, err error) {
	if s.file == nil {
		return s.created, nil
	}
	info, err := s.file.Stat()
	if err != nil {
		return false, err
	}
	have := info.Size()
	switch {
	case have == 0 && s.spec.Size > 0:
		return true, nil
	case have == 0:
		return false, fmt.Errorf("%s is empty: %w: add ,size=SIZE", s.path, ErrSize)
	case s.spec.Size != 0 && have != s.spec.Size:
		return false, fmt.Errorf("%s has %d bytes, not %d: %w", s.path, have, s.spec.Size, ErrSize)
	case have > maxSize:
		return false, fmt.Errorf("%s has %d bytes: %w", s.path, have, ErrTooLarge)
	}
	s.size = have
	return false, nil
}

// start maps the page, which is locked and sound, and brings it up to date.
func (s *Segment) start(c Config) error {
	var err error
	if s.page, err = mapFile(s.bridge, PageSize); err != nil {
		return err
	}
	if s.words, err = NewPage(s.page.bytes); err != nil {
		return s.pageError(err)
	}
	s.words.flush = s.page.flush
	size, err := s.words.SegmentSize()
	if err == nil && size != s.size {
		err = fmt.Errorf("the bridge page is of %d bytes, the segment has %d: %w", size, s.size, ErrSize)
	}
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	alive := c.Inherited.Lock != nil // the engine that handed it over knows its generations
	s.rebooted = s.words.bootID() != boot
	if !alive && !s.rebooted {
		m, err := s.MappedBy()
		if err != nil {
			return err
		}
		alive = len(m.Pids)+m.Hidden > 0
	}
	return s.words.guard(func() (err error) {
		s.base, err = s.words.adopt(boot, alive, uint32(c.Generation), os.Getpid())
		return err
	})
}

func (s *Segment) pageError(err error) error {
	if s.held.side == "" {
		return err
	}
	return fmt.Errorf("%s: %w (remove it if no server needs it)", s.held.side, err)
}

// inherit takes the descriptors of another process.
func (s *Segment) inherit(c Config) error {
	in := c.Inherited
	s.bridge, s.file, s.lock = in.Bridge, in.Segment, in.Lock
	var err error
	switch s.spec.Kind {
	case Posix:
		s.path = filepath.Join(c.system.shm, s.spec.Name)
		s.held.side = s.path + sidecarSuffix
	case File:
		if s.path, err = realPath(s.spec.Name); err != nil {
			return err
		}
		s.held.side = s.path + sidecarSuffix
	case SysV:
		if err = s.openSysV(c); err != nil {
			return err
		}
		s.held.side = filepath.Join(c.system.shm, sysvSidecar(s.spec.Key, s.id))
	}
	if s.spec.Kind != SysV {
		if s.file == nil {
			return fmt.Errorf("no descriptor of the segment is inherited: %w", fs.ErrInvalid)
		}
		info, err := s.file.Stat()
		if err != nil {
			return err
		}
		if s.spec.Size != 0 && info.Size() != s.spec.Size {
			return fmt.Errorf("the inherited segment has %d bytes, not %d: %w", info.Size(), s.spec.Size, ErrSize)
		}
		s.size = info.Size()
	}
	if s.lock == nil {
		if s.lock, err = reopen(s.bridge); err != nil {
			return err
		}
		if err := lock(s.lock); err != nil {
			return err
		}
	}
	return s.start(c)
}

// Check tells whether the segment is still what its name says: a server that opens it by name would else find another,
// or none. Errors match ErrRemoved and ErrSize.
func (s *Segment) Check() error {
	if s.spec.Kind == SysV {
		return s.checkSysV()
	}
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != s.size {
		return fmt.Errorf("shmbridge: %s has %d bytes now, not %d: %w", s.spec, info.Size(), s.size, ErrSize)
	}
	if s.path == "" {
		return nil
	}
	now, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(info, now) {
		return fmt.Errorf("shmbridge: %s: %w", s.path, ErrRemoved)
	}
	return err
}

// Remove removes the segment's name and its bridge page, as long as the name still stands for it, and closes it. Who
// maps it keeps it.
func (s *Segment) Remove() error {
	err := s.removeSegment()
	if s.held.side != "" {
		if e := os.Remove(s.held.side); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return errors.Join(err, s.Close())
}

func (s *Segment) removeSegment() error {
	if s.spec.Kind == SysV {
		_, err := unix.SysvShmCtl(s.id, unix.IPC_RMID, nil)
		return os.NewSyscallError("shmctl", err)
	}
	if s.path == "" {
		return nil
	}
	mine, err := s.file.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Stat(s.path); err != nil || !os.SameFile(mine, now) {
		return nil // no longer ours to remove
	}
	return os.Remove(s.path)
}

func bootID() ([16]byte, error) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return [16]byte{}, err
	}
	return parseUUID(strings.TrimSpace(string(text)))
}

// syncDir brings the names in a directory to the disk.
func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) { // file systems without a disk
		return err
	}
	return nil
}
