package launch

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Instruction is one instruction of a classic BPF program.
type Instruction = unix.SockFilter

const (
	maxNumber   = 1 << 20 // of a passed descriptor
	maxGroups   = 1 << 16 // NGROUPS_MAX
	digitsRoom  = 21      // of a 64-bit number in decimal, with its NUL
	fdDirectory = "/proc/self/fd/"
)

// plan is an order in the shape that the shim carries out: all memory is there, and nothing in it is moved.
type plan struct {
	shares bool   // memory with us
	stack  []byte // then
	theirs int    // the shim's end of the socket pair, for us; -1: closed
	own    int    // the shim's end of the socket pair
	parent int

	duplicates []int // of all that is lent
	kept       []int // descriptors that the shim keeps, ascending; all above stdio: the duplicates, and theirs
	passed     []int // the duplicates that are placed at numbers
	lifted     []int // room for as many
	numbers    []int
	above      int // the first number that no passed descriptor gets
	limit      int // soft limit of open files, of this process
	held       int // -1: none
	tty        int // -1: none
	heldAt     []byte

	path   *byte
	dir    *byte // nil: unchanged
	cgroup *byte // cgroup.procs of the directory; nil: none
	empty  *byte
	argv   []*byte
	envv   []*byte
	pids   [][]byte // the places of the pid in the environment, NUL all over
	pidfds [][]byte // of the inode number
	fds    int      // index in envv of the first of pidfds: they come last and are left out where there is no number

	group  bool
	umask  int // -1: unchanged
	uid    int // -1: unchanged
	gid    int
	groups []uint32
	ignore [lastSignal + 1]bool
	soft   *unix.Rlimit // what the command gets; nil: unchanged
	dies   bool

	word         goMessage
	instructions []Instruction // room for those of a filter
	program      unix.SockFprog
	rights       *rightsMessage
	failed       failure
}

// softLimit is the soft limit of open files that this process was started with, which the Go runtime has raised for
// itself. Nothing tells what it was; syscall.Exec puts it back even when it fails, and this one must fail.
var softLimit = sync.OnceValue(func() (limit *unix.Rlimit) {
	var raised, original unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &raised) != nil {
		return nil
	}
	_ = syscall.Exec("", nil, nil) // ENOENT by design
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &original) != nil {
		return nil
	}
	_ = unix.Prlimit(0, unix.RLIMIT_NOFILE, &raised, nil) // it was so before
	return &original
})

// lay checks the order, duplicates its descriptors and lays out the plan. The caller closes the plan's descriptors
// even after an error.
func lay(o Order, theirs int) (p *plan, err error) {
	p = &plan{theirs: theirs, own: theirs, stack: make([]byte, stackSize), parent: os.Getpid(), held: -1, tty: -1, umask: -1, uid: -1, gid: -1,
		group: o.OwnGroup, dies: o.DieWithParent, soft: softLimit(), instructions: make([]Instruction, unix.BPF_MAXINSNS), rights: newRights()}
	p.program.Filter = &p.instructions[0]
	if len(o.Args) == 0 {
		o.Args = []string{o.Path}
	}
	if err := p.layStrings(o); err != nil {
		return p, &ExecError{Step: StepExec, Path: o.Path, Err: err}
	}
	if err := p.layIdentity(o); err != nil {
		return p, err
	}
	return p, p.layDescriptors(o)
}

// layStrings fails for a string with a NUL in it.
func (p *plan) layStrings(o Order) (err error) {
	text := func(s string) *byte {
		b, textErr := unix.BytePtrFromString(s)
		if textErr != nil {
			err = textErr
		}
		return b
	}
	p.path, p.empty = text(o.Path), text("")
	if o.Dir != "" {
		p.dir = text(o.Dir)
	}
	if o.Cgroup != "" {
		p.cgroup = text(o.Cgroup + cgroupFile)
	}
	p.heldAt = append([]byte(fdDirectory), make([]byte, digitsRoom)...)
	for _, arg := range o.Args {
		p.argv = append(p.argv, text(arg))
	}
	for _, v := range o.Env {
		name, _, _ := strings.Cut(v, "=")
		if !slices.Contains(o.PidVariables, name) && !slices.Contains(o.PidfdVariables, name) {
			p.envv = append(p.envv, text(v))
		}
	}
	number := func(name string) []byte {
		if strings.Contains(name, "\x00") {
			err = unix.EINVAL
		}
		whole := append([]byte(name+"="), make([]byte, digitsRoom)...)
		p.envv = append(p.envv, &whole[0])
		return whole[len(name)+1:]
	}
	for _, name := range o.PidVariables {
		p.pids = append(p.pids, number(name))
	}
	p.fds = len(p.envv)
	for _, name := range o.PidfdVariables {
		p.pidfds = append(p.pidfds, number(name))
	}
	p.argv, p.envv = append(p.argv, nil), append(p.envv, nil)
	return err
}

const cgroupFile = "/cgroup.procs"

func (p *plan) layIdentity(o Order) error {
	if o.Umask != nil {
		p.umask = *o.Umask
	}
	if o.Uid != nil {
		p.uid = int(*o.Uid)
	}
	if o.Gid != nil {
		p.gid = int(*o.Gid)
	}
	if len(o.Groups) > maxGroups {
		return &ExecError{Step: StepSetgroups, Err: unix.EINVAL}
	}
	p.groups = append(p.groups, o.Groups...)
	ignore := o.Ignore
	if ignore == nil {
		ignore = slices.DeleteFunc([]syscall.Signal{unix.SIGHUP, unix.SIGINT}, func(sig syscall.Signal) bool { return !ignored(sig) })
	}
	for _, sig := range ignore {
		if sig > 0 && sig <= lastSignal {
			p.ignore[sig] = true
		}
	}
	return nil
}

func (p *plan) layDescriptors(o Order) error {
	p.above = 3
	files := make([]*os.File, 0, len(o.Files)+2)
	for _, f := range o.Files {
		if f.Number < 0 || f.Number > maxNumber || slices.Contains(p.numbers, f.Number) {
			return &ExecError{Step: StepDescriptors, Err: fmt.Errorf("number %d is not free: %w", f.Number, unix.EBADF)}
		}
		p.numbers, files = append(p.numbers, f.Number), append(files, f.File)
		p.above = max(p.above, f.Number+1)
	}
	files = append(files, o.Held, o.Terminal)
	for i, f := range files {
		if f == nil && i >= len(o.Files) {
			continue
		}
		fd, err := duplicate(f)
		if err != nil {
			return &ExecError{Step: StepDescriptors, Path: nameOf(f), Err: err}
		}
		p.duplicates = append(p.duplicates, fd)
		switch i {
		case len(o.Files):
			p.held = fd
		case len(o.Files) + 1:
			p.tty = fd
		default:
			p.passed = append(p.passed, fd)
		}
	}
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return &ExecError{Step: StepDescriptors, Err: err}
	}
	p.limit = int(min(now.Cur, math.MaxInt32))
	p.kept = append(slices.Clone(p.duplicates), p.theirs)
	slices.Sort(p.kept)
	p.lifted = make([]int, len(p.passed))
	return nil
}

// close gives back what was opened for the shim, which has its own by now.
func (p *plan) close() {
	for _, fd := range append(p.duplicates, p.theirs) {
		if fd >= 0 {
			_ = unix.Close(fd) // nothing can be lost
		}
	}
	p.duplicates, p.theirs = nil, -1
}

// duplicate copies the descriptor of f, closed on exec, without touching the flags of its description.
func duplicate(f *os.File) (int, error) {
	if f == nil {
		return -1, os.ErrInvalid
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, dupErr := -1, error(nil)
	if err := raw.Control(func(p uintptr) {
		fd, dupErr = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 3)
	}); err != nil {
		return -1, fmt.Errorf("%w: %v", os.ErrClosed, err) // the only reason it has
	}
	return fd, dupErr
}

func nameOf(f *os.File) string {
	if f == nil {
		return ""
	}
	return f.Name()
}

// about is what a step was about, for its error.
func (p *plan) about(step uint32, o Order) string {
	switch name := steps[step]; name {
	case StepExec:
		return o.Path
	case StepChdir:
		return o.Dir
	case StepCgroup:
		return o.Cgroup + cgroupFile
	case StepSetgid:
		return strconv.Itoa(p.gid)
	case StepSetuid:
		return strconv.Itoa(p.uid)
	}
	return ""
}
