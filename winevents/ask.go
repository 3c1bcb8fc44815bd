package winevents

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Deadline is what happens when the confirmation is late.
type Deadline string

// The policies. The empty one is DeadlineRefuse.
const (
	DeadlineRefuse  Deadline = "refuse"  // wait on: for a late confirmation or the process's end, as long as the context lasts
	DeadlineProceed Deadline = "proceed" // answer Proceeded: start beside it, as the documents' text has it
	DeadlineKill    Deadline = "kill"    // end the process, then answer Terminated
)

// AskConfig is how to ask. Its zero value asks as the documents do, with the
// default policy.
type AskConfig struct {
	Times      Times
	Namespaces []Namespace // nil: both
	AtDeadline Deadline
	LockWait   time.Duration // how long to wait for another asker to end; 0: not at all, the answer is ErrBusy

	// Prepare is called once the process is proved, before anything is signalled:
	// the place to open or map what it shares, which ends with its last holder.
	// Its error ends the asking, and the process never noticed. nil: nothing.
	Prepare func(Identity) error
	// Saved reads the marker by which the process says in its shared memory that
	// it has saved; nil means that it has, an error says what is wrong. It is read
	// after each confirmation, and one that it does not bear out is not believed.
	// nil: there is no marker, confirmations are believed.
	Saved func(Identity) error
	// Observe is told what happens, on the calling goroutine. nil: nobody is.
	Observe func(Event)
}

// Ask asks the target to save and quit, and returns once the successor may start
// or, with DeadlineProceed, starts all the same. Its errors are *AskError; the
// context's end is one, and takes the signal back if nobody has seen it yet.
func Ask(ctx context.Context, target Target, config AskConfig) (*Answer, error) {
	k, err := newKernel()
	if err != nil {
		return nil, &AskError{Pid: target.Identity.Pid, Err: err}
	}
	return ask(ctx, k, target, config)
}

func ask(ctx context.Context, k kernel, target Target, config AskConfig) (*Answer, error) {
	a := &asking{kernel: k, config: config, times: config.Times.withDefaults(), names: namespaces(config.Namespaces)}
	answer, err := a.run(ctx, target)
	if err != nil {
		_ = a.close() // of handles that are ours; what ended the asking counts
		return nil, &AskError{Pid: a.claimed.Pid, Signalled: a.signalled, Err: err}
	}
	return answer, nil
}

// asking is one asking: it owns every handle from the lock to the answer's Close.
type asking struct {
	kernel kernel
	config AskConfig
	times  Times
	names  []Namespace
	waiter *waiter // only while run runs

	claimed   claim
	identity  Identity // what the claimed process was found to be
	locks     []func() error
	process   process
	kills     []event
	confirms  []event
	began     time.Time
	signalled bool
}

func (a *asking) run(ctx context.Context, target Target) (answer *Answer, err error) {
	switch a.config.AtDeadline {
	case "", DeadlineRefuse, DeadlineProceed, DeadlineKill:
	default:
		return nil, fmt.Errorf("unknown policy %q for the deadline", a.config.AtDeadline)
	}
	if a.waiter, err = newWaiter(ctx, a.kernel); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.waiter.close()) }()
	reason, err := a.find(target)
	if err != nil {
		return nil, err
	}
	if reason != "" {
		return &Answer{Result: Nobody, Reason: reason, Identity: a.claimed.Identity, held: a}, nil
	}
	a.observe(Event{What: EventProved})
	if a.config.Prepare != nil {
		if err := a.config.Prepare(a.identity); err != nil {
			return nil, fmt.Errorf("prepare: %w", err)
		}
	}
	if err := a.openEvents(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := a.signal(); err != nil {
		return nil, err
	}
	answer, err = a.await()
	if err != nil {
		if unseen := a.withdraw(); len(unseen) == len(a.kills) {
			a.signalled = false
			a.observe(Event{What: EventRetracted})
		}
		return nil, err
	}
	if target.PidFile != "" {
		if c, err := readPidFile(target.PidFile); err == nil && c.Pid != a.claimed.Pid {
			// An asker that knows no lock was faster.
			return nil, fmt.Errorf("%w: %s: %d", ErrSuperseded, target.PidFile, c.Pid)
		}
	}
	answer.Took, answer.Identity, answer.held = time.Since(a.began), a.identity, a
	return answer, nil
}

// find locks other askers out, opens the process that is meant and proves it. A
// reason says why there is nobody to ask. The process stays open from before it
// is looked at: an open handle keeps its id from being given to another.
func (a *asking) find(target Target) (reason string, err error) {
	a.claimed = claim{Identity: target.Identity}
	if target.PidFile != "" {
		if err := a.lockFile(target.PidFile); err != nil {
			return "", err
		}
		a.claimed, err = readPidFile(target.PidFile)
		if errors.Is(err, fs.ErrNotExist) {
			return "there is no pid file", nil
		}
		if err != nil {
			return "", fmt.Errorf("read the pid file: %w", err)
		}
		if a.claimed.Executable == "" {
			a.claimed.Executable = target.Identity.Executable
		}
	}
	pid := a.claimed.Pid
	if pid <= 0 {
		return "", fmt.Errorf("process id %d: %w", pid, ErrNoProcess)
	}
	if err := a.lock(strconv.Itoa(pid)); err != nil {
		return "", err
	}
	wanted := toWatch
	if a.config.AtDeadline == DeadlineKill {
		wanted = toTerminate
	}
	a.process, err = a.kernel.openProcess(pid, wanted)
	if errors.Is(err, ErrNoProcess) {
		a.process = nil
		return "no process has its id", nil
	}
	if err != nil {
		a.process = nil
		return "", err // also without the right to: it exists
	}
	// A process that has ended exists for as long as somebody holds a handle.
	gone, err := a.kernel.wait(0, a.process)
	if err != nil {
		return "", fmt.Errorf("look at the process: %w", err)
	}
	if a.identity, err = a.process.Identity(); err != nil && gone == timedOut {
		return "", fmt.Errorf("%w: %w", ErrNotProved, err)
	}
	switch {
	case gone != timedOut:
		reason = "the process has ended"
	case judge(a.claimed, a.identity) == another:
		reason = "its id belongs to another process by now"
	case judge(a.claimed, a.identity) == unproved:
		return "", fmt.Errorf("%w: found %q, created %s", ErrNotProved, a.identity.Executable, a.identity.Created.Format(time.RFC3339Nano))
	default:
		return "", a.notSelf()
	}
	err = a.process.Close()
	a.process = nil
	return reason, err
}

func (a *asking) notSelf() error {
	self, err := a.kernel.self()
	if err == nil && self.Pid == a.identity.Pid {
		err = errors.New("a process cannot ask itself")
	}
	return err
}

// lockFile locks the pid file: taken before it is read, so that its reader sees
// what the asker before it wrote.
func (a *asking) lockFile(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(strings.ToLower(path)))
	return a.lock(fmt.Sprintf("file_%x", sum[:16]))
}

// lock takes the mutex, in one name space only: in session 0 both are the same.
func (a *asking) lock(what string) error {
	prefix := Local
	for _, n := range a.names {
		if n == Global {
			prefix = n
		}
	}
	name := string(prefix) + "NFServer_KillLock_" + what
	release, err := a.kernel.acquire(name, nil, a.config.LockWait, a.waiter.cancel)
	if err != nil {
		if ended := a.waiter.ctx.Err(); ended != nil {
			err = ended
		}
		return fmt.Errorf("lock %s: %w", name, err)
	}
	a.locks = append(a.locks, release)
	return nil
}

// openEvents opens or creates both events in every name space, the confirmation
// first, before anything is set: a signal lives only as long as a handle to its
// event does.
func (a *asking) openEvents() error {
	var grant []string
	if sid, err := a.process.User(); err == nil { // unreadable: another user's events are closed to it, as with an unmodified asker
		grant = append(grant, sid)
	}
	pid := a.claimed.Pid
	for _, n := range a.names {
		name := string(n) + KillSuccess.Name(pid)
		confirm, existed, err := a.kernel.createEvent(name, grant)
		if err != nil {
			return fmt.Errorf("event %s: %w", name, err)
		}
		a.confirms = append(a.confirms, confirm)
		if existed {
			if err := confirm.Reset(); err != nil {
				return fmt.Errorf("event %s: %w", name, err)
			}
			a.observe(Event{What: EventStale, Object: name})
		}
		name = string(n) + Kill.Name(pid)
		kill, _, err := a.kernel.createEvent(name, grant)
		if err != nil {
			return fmt.Errorf("event %s: %w", name, err)
		}
		a.kills = append(a.kills, kill)
	}
	return nil
}

// signal sets Kill. One name space that takes it is enough to wait for an answer.
func (a *asking) signal() error {
	a.began = time.Now()
	var failed []error
	for i, kill := range a.kills {
		name := string(a.names[i]) + Kill.Name(a.claimed.Pid)
		if err := kill.Set(); err != nil {
			failed = append(failed, fmt.Errorf("event %s: %w", name, err))
			continue
		}
		a.signalled = true
		a.observe(Event{What: EventSignalled, Object: name})
	}
	if !a.signalled {
		return errors.Join(failed...)
	}
	return nil
}

// withdraw takes back every Kill that nobody has seen and returns those. In
// session 0, where both names mean one event, that is one at most.
func (a *asking) withdraw() []event {
	var unseen []event
	for _, kill := range a.kills {
		if i, err := a.kernel.wait(0, kill); err == nil && i == 0 { // and it is reset
			unseen = append(unseen, kill)
		}
	}
	return unseen
}

func (a *asking) observe(e Event) {
	if a.config.Observe != nil {
		e.Pid = a.claimed.Pid
		a.config.Observe(e)
	}
}

// close releases everything, once: the locks last.
func (a *asking) close() error {
	var failed []error
	for _, e := range append(a.kills, a.confirms...) {
		failed = append(failed, e.Close())
	}
	if a.process != nil {
		failed = append(failed, a.process.Close())
	}
	for i := len(a.locks) - 1; i >= 0; i-- {
		failed = append(failed, a.locks[i]())
	}
	a.kills, a.confirms, a.process, a.locks = nil, nil, nil, nil
	return errors.Join(failed...)
}
