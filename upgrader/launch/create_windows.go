package launch

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

// create creates the process, suspended. It inherits the three standard handles and Order.Handles, nothing else,
// whatever else is inheritable at that moment.
func create(o *Order) (*windows.ProcessInformation, error) {
	path, err := windows.UTF16PtrFromString(o.Path)
	if err != nil {
		return nil, err
	}
	line, err := windows.UTF16PtrFromString(windows.ComposeCommandLine(o.Args))
	if err != nil {
		return nil, err
	}
	var dir *uint16
	if o.Dir != "" {
		if dir, err = windows.UTF16PtrFromString(o.Dir); err != nil {
			return nil, err
		}
	}
	block, err := environmentBlock(o.Env)
	if err != nil {
		return nil, err
	}
	std, err := standard(o.Files)
	defer closeAll(std[:]...)
	if err != nil {
		return nil, err
	}
	handles := make([]windows.Handle, 0, 3+len(o.Handles))
	for _, h := range std {
		if h != 0 {
			handles = append(handles, h)
		}
	}
	for _, h := range o.Handles {
		handles = append(handles, windows.Handle(h))
	}
	list, err := windows.NewProcThreadAttributeList(1)
	if err != nil {
		return nil, err
	}
	defer list.Delete()
	if len(handles) > 0 {
		if err := list.Update(windows.PROC_THREAD_ATTRIBUTE_HANDLE_LIST, unsafe.Pointer(&handles[0]), uintptr(len(handles))*unsafe.Sizeof(handles[0])); err != nil {
			return nil, err
		}
	}
	info := windows.StartupInfoEx{ProcThreadAttributeList: list.List()}
	info.Cb = uint32(unsafe.Sizeof(info))
	info.Flags = windows.STARTF_USESTDHANDLES
	info.StdInput, info.StdOutput, info.StdErr = std[0], std[1], std[2]
	flags := uint32(windows.CREATE_SUSPENDED | windows.CREATE_UNICODE_ENVIRONMENT | windows.EXTENDED_STARTUPINFO_PRESENT)
	if o.OwnGroup {
		flags |= windows.CREATE_NEW_PROCESS_GROUP
	}
	var created windows.ProcessInformation
	err = windows.CreateProcess(path, line, nil, nil, len(handles) > 0, flags, block, dir, &info.StartupInfo, &created)
	if err != nil {
		return nil, os.NewSyscallError("CreateProcess", err)
	}
	return &created, nil
}

// standard are inheritable duplicates of the files with the numbers 0 to 2, ours where there is none among them.
func standard(files []Passed) (std [3]windows.Handle, err error) {
	for n, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		for _, p := range files {
			if p.Number == n {
				f = p.File
			}
		}
		if f == nil {
			continue
		}
		raw, err := f.SyscallConn()
		if err != nil {
			continue // we have none either
		}
		self := windows.CurrentProcess()
		var failed error
		err = raw.Control(func(h uintptr) {
			failed = windows.DuplicateHandle(self, windows.Handle(h), self, &std[n], 0, true, windows.DUPLICATE_SAME_ACCESS)
		})
		if failed != nil && !errors.Is(failed, windows.ERROR_INVALID_HANDLE) { // a service has no standard handles
			err = failed
		}
		if err != nil {
			return std, os.NewSyscallError("DuplicateHandle", err)
		}
	}
	return std, nil
}

// environmentBlock is UTF-16: entries in the order of their names, each ended by a zero, and one more.
func environmentBlock(env []string) (*uint16, error) {
	sorted := slices.Clone(env)
	slices.SortStableFunc(sorted, func(a, b string) int {
		return strings.Compare(strings.ToUpper(name(a)), strings.ToUpper(name(b)))
	})
	var block []uint16
	for _, v := range sorted {
		entry, err := windows.UTF16FromString(v)
		if err != nil {
			return nil, fmt.Errorf("environment: %w", err)
		}
		block = append(block, entry...)
	}
	block = append(block, 0)
	if len(sorted) == 0 {
		block = append(block, 0)
	}
	return &block[0], nil
}

// name is what stands before the first = that is not the first character: "=C:=C:\dir" is a variable too.
func name(variable string) string {
	if i := strings.IndexByte(variable[min(1, len(variable)):], '='); i >= 0 {
		return variable[:i+1]
	}
	return variable
}

func closeAll(handles ...windows.Handle) {
	for _, h := range handles {
		if h != 0 {
			_ = windows.CloseHandle(h) // it was ours alone, and nothing was written through it
		}
	}
}

// job is a job object that ends its processes when its last handle is closed.
type job struct {
	once   sync.Once
	handle windows.Handle
}

// makeJob makes one of that name, or one without.
func makeJob(called string) (*job, error) {
	var utf16 *uint16
	if called != "" {
		var err error
		if utf16, err = windows.UTF16PtrFromString(called); err != nil {
			return nil, err
		}
	}
	h, err := windows.CreateJobObject(nil, utf16)
	if h == 0 {
		return nil, os.NewSyscallError("CreateJobObject", err)
	}
	j := &job{handle: h}
	if err != nil { // ERROR_ALREADY_EXISTS: somebody else's
		_ = j.close()
		return nil, os.NewSyscallError("CreateJobObject", err)
	}
	var limits windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if _, err := windows.SetInformationJobObject(h, windows.JobObjectExtendedLimitInformation, uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil {
		_ = j.close()
		return nil, os.NewSyscallError("SetInformationJobObject", err)
	}
	return j, nil
}

// take puts a suspended process into the job and, after before has seen it, lets it run; it ends one that cannot.
func (j *job) take(p *windows.ProcessInformation, before func(pid int) error) error {
	err := os.NewSyscallError("AssignProcessToJobObject", windows.AssignProcessToJobObject(j.handle, p.Process))
	if err == nil && before != nil {
		err = before(int(p.ProcessId))
	}
	if err == nil {
		_, err = windows.ResumeThread(p.Thread)
		err = os.NewSyscallError("ResumeThread", err)
	}
	if err != nil {
		_ = windows.TerminateProcess(p.Process, 1) // it never ran
		closeAll(p.Process, p.Thread)
	}
	return err
}

func (j *job) close() (err error) {
	j.once.Do(func() { err = os.NewSyscallError("CloseHandle", windows.CloseHandle(j.handle)) })
	return err
}
