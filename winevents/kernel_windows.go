package winevents

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/windows"
)

func newKernel() (kernel, error) { return objects{}, nil }

// objects is the kernel's own object manager.
type objects struct{}

// object is a handle. The zero handle is never in one.
type object struct{ windows.Handle }

func (o object) Close() error {
	if err := windows.CloseHandle(o.Handle); err != nil {
		return fmt.Errorf("CloseHandle: %w", err)
	}
	return nil
}

type eventObject struct{ object }

func (e eventObject) Set() error {
	if err := windows.SetEvent(e.Handle); err != nil {
		return fmt.Errorf("SetEvent: %w", err)
	}
	return nil
}

func (e eventObject) Reset() error {
	if err := windows.ResetEvent(e.Handle); err != nil {
		return fmt.Errorf("ResetEvent: %w", err)
	}
	return nil
}

func (objects) createEvent(name string, grant []string) (event, bool, error) {
	var attributes *windows.SecurityAttributes
	var utf16 *uint16
	if name != "" {
		var err error
		if attributes, err = security(grant); err != nil {
			return nil, false, err
		}
		if utf16, err = windows.UTF16PtrFromString(name); err != nil {
			return nil, false, err
		}
	}
	h, err := windows.CreateEvent(attributes, 0, 0, utf16) // EVENT_ALL_ACCESS, auto-reset, unsignalled
	runtime.KeepAlive(attributes)
	if h == 0 {
		return nil, false, named("CreateEvent", err)
	}
	return eventObject{object{h}}, errors.Is(err, windows.ERROR_ALREADY_EXISTS), nil
}

// security lets the user, the system, administrators and the granted users do
// anything: an unmodified peer asks for EVENT_ALL_ACCESS and fails with less.
// Without it the objects of an elevated process are closed to the same user's
// plain one.
func security(grant []string) (*windows.SecurityAttributes, error) {
	own, err := userOf(windows.GetCurrentProcessToken())
	if err != nil {
		return nil, err
	}
	sddl := "D:(A;;GA;;;SY)(A;;GA;;;BA)"
	seen := map[string]bool{}
	for _, sid := range append([]string{own}, grant...) {
		if !seen[sid] {
			seen[sid] = true
			sddl += "(A;;GA;;;" + sid + ")"
		}
	}
	descriptor, err := windows.SecurityDescriptorFromString(sddl)
	if err != nil {
		return nil, fmt.Errorf("security descriptor %s: %w", sddl, err)
	}
	a := &windows.SecurityAttributes{SecurityDescriptor: descriptor}
	a.Length = uint32(sizeofSecurityAttributes)
	return a, nil
}

func userOf(token windows.Token) (string, error) {
	user, err := token.GetTokenUser()
	if err != nil {
		return "", fmt.Errorf("GetTokenInformation: %w", err)
	}
	return user.User.Sid.String(), nil
}

// named translates what creating a named object may answer.
func named(call string, err error) error {
	if errors.Is(err, windows.ERROR_INVALID_HANDLE) {
		return fmt.Errorf("%s: %w", call, ErrOtherKind)
	}
	return fmt.Errorf("%s: %w", call, err) // ERROR_ACCESS_DENIED is fs.ErrPermission
}

func (objects) wait(timeout time.Duration, on ...handle) (int, error) {
	handles := make([]windows.Handle, len(on))
	for i, o := range on {
		switch o := o.(type) {
		case eventObject:
			handles[i] = o.Handle
		case processObject:
			handles[i] = o.Handle
		default:
			panic("winevents: wait for what is not a kernel object")
		}
	}
	got, err := windows.WaitForMultipleObjects(handles, false, milliseconds(timeout))
	switch {
	case err != nil:
		return timedOut, fmt.Errorf("WaitForMultipleObjects: %w", err)
	case got == uint32(windows.WAIT_TIMEOUT):
		return timedOut, nil
	}
	return int(got - windows.WAIT_OBJECT_0), nil
}

// milliseconds rounds up, so that a deadline has passed when a wait for it ends.
func milliseconds(d time.Duration) uint32 {
	if d == forever {
		return windows.INFINITE
	}
	d = max(d, 0)
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond != 0 {
		ms++
	}
	return uint32(min(ms, math.MaxUint32-1))
}

func (k objects) acquire(name string, grant []string, timeout time.Duration, stop event) (func() error, error) {
	attributes, err := security(grant)
	if err != nil {
		return nil, err
	}
	utf16, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	acquired, release, released := make(chan error), make(chan struct{}), make(chan error)
	go func() {
		// A mutex belongs to the thread that waited for it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		h, err := windows.CreateMutex(attributes, false, utf16)
		runtime.KeepAlive(attributes)
		if h == 0 {
			acquired <- named("CreateMutex", err)
			return
		}
		defer windows.CloseHandle(h)
		handles := []windows.Handle{stop.(eventObject).Handle, h}
		got, err := windows.WaitForMultipleObjects(handles, false, milliseconds(timeout))
		switch {
		case err != nil:
			acquired <- fmt.Errorf("WaitForMultipleObjects: %w", err)
		case got == windows.WAIT_OBJECT_0+1, got == windows.WAIT_ABANDONED+1: // abandoned: its owner died, and it is ours
			acquired <- nil
			<-release
			released <- windows.ReleaseMutex(h)
		default:
			acquired <- ErrBusy
		}
	}()
	if err := <-acquired; err != nil {
		return nil, err
	}
	return func() error {
		close(release)
		if err := <-released; err != nil {
			return fmt.Errorf("ReleaseMutex: %w", err)
		}
		return nil
	}, nil
}

type processObject struct{ object }

func (objects) openProcess(pid int, a access) (process, error) {
	if pid <= 0 || pid > math.MaxUint32 {
		return nil, ErrNoProcess
	}
	rights := uint32(windows.SYNCHRONIZE | windows.PROCESS_QUERY_LIMITED_INFORMATION)
	if a == toTerminate {
		rights |= windows.PROCESS_TERMINATE
	}
	h, err := windows.OpenProcess(rights, false, uint32(pid))
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) {
		return nil, fmt.Errorf("OpenProcess: %w", ErrNoProcess)
	}
	if err != nil {
		return nil, fmt.Errorf("OpenProcess: %w", err)
	}
	// Ids are multiples of four, and OpenProcess ignores the last two bits.
	if got, err := windows.GetProcessId(h); err != nil || got != uint32(pid) {
		_ = windows.CloseHandle(h)
		return nil, fmt.Errorf("OpenProcess: %w", ErrNoProcess)
	}
	return processObject{object{h}}, nil
}

func (p processObject) Identity() (Identity, error) { return identityOf(p.Handle) }

func (objects) self() (Identity, error) { return identityOf(windows.CurrentProcess()) }

func identityOf(h windows.Handle) (Identity, error) {
	var created, exited, system, user windows.Filetime
	if err := windows.GetProcessTimes(h, &created, &exited, &system, &user); err != nil {
		return Identity{}, fmt.Errorf("GetProcessTimes: %w", err)
	}
	pid := uint32(os.Getpid())
	if h != windows.CurrentProcess() {
		var err error
		if pid, err = windows.GetProcessId(h); err != nil {
			return Identity{}, fmt.Errorf("GetProcessId: %w", err)
		}
	}
	id := Identity{Pid: int(pid), Created: time.Unix(0, created.Nanoseconds()).UTC()}
	buffer := make([]uint16, windows.MAX_LONG_PATH)
	size := uint32(len(buffer))
	// A process that has ended may have no image any more: its times suffice.
	if err := windows.QueryFullProcessImageName(h, 0, &buffer[0], &size); err == nil {
		id.Executable = strings.TrimPrefix(windows.UTF16ToString(buffer[:size]), `\\?\`)
	}
	return id, nil
}

func (p processObject) User() (string, error) {
	var token windows.Token
	if err := windows.OpenProcessToken(p.Handle, windows.TOKEN_QUERY, &token); err != nil {
		return "", fmt.Errorf("OpenProcessToken: %w", err)
	}
	defer token.Close()
	return userOf(token)
}

func (p processObject) Terminate() error {
	if err := windows.TerminateProcess(p.Handle, 1); err != nil {
		return fmt.Errorf("TerminateProcess: %w", err)
	}
	return nil
}
