package launch

import (
	"errors"
	"fmt"
	"os"
)

// check refuses what this system does not have.
func (o *Order) check() error {
	for field, asked := range map[string]bool{
		"umask": o.Umask != nil, "user and group": o.Uid != nil || o.Gid != nil || len(o.Groups) > 0,
		"held file": o.Held != nil, "ignored signals": len(o.Ignore) > 0, "terminal": o.Terminal != nil,
		"variables with the pid, as systemd's dialect has them": len(o.PidVariables) > 0,
	} {
		if asked {
			return fmt.Errorf("%s: %w on Windows", field, errors.ErrUnsupported)
		}
	}
	for _, p := range o.Files {
		if p.Number < 0 || p.Number > 2 {
			return fmt.Errorf("descriptor %d: %w on Windows: handles keep their numbers, see Handles", p.Number, errors.ErrUnsupported)
		}
	}
	return nil
}

// start starts a command that cannot run before it is in its job object: what it starts is in there too.
func start(o Order) (*Child, error) {
	if err := o.check(); err != nil {
		return nil, &ExecError{Step: StepReceive, Path: o.Path, Err: err}
	}
	if len(o.Args) == 0 {
		o.Args = []string{o.Path}
	}
	job, err := makeJob(o.Cgroup)
	if err != nil {
		return nil, &ExecError{Step: StepCgroup, Path: o.Cgroup, Err: err}
	}
	created, err := create(&o)
	if err == nil {
		err = job.take(created, o.Suspended)
	}
	if err != nil {
		_ = job.close() // nobody runs in it
		return nil, &ExecError{Step: StepExec, Path: o.Path, Err: err}
	}
	process, err := os.FindProcess(int(created.ProcessId))
	closeAll(created.Process, created.Thread)
	if err != nil {
		_ = job.close() // which ends it
		return nil, &ExecError{Step: StepExec, Path: o.Path, Err: err}
	}
	c := &Child{Pid: process.Pid, process: process, job: job, done: make(chan struct{})}
	go c.reap()
	return c, nil
}

// Child is a command that was started. While it is not closed, and nobody else has opened its job object, the end of
// this process ends the command and all that it started.
type Child struct {
	Pid int
	// Notify is nil on this system.
	Notify *os.File

	process *os.Process
	job     *job
	done    chan struct{}
	status  Status // readable once done is closed
	err     error
}

func (c *Child) reap() {
	defer close(c.done)
	state, err := c.process.Wait()
	if err != nil {
		c.err = fmt.Errorf("launch: wait for %d: %w", c.Pid, err)
		return
	}
	c.status = Status{Code: state.ExitCode(), User: state.UserTime(), System: state.SystemTime()}
}

// Close releases the job object. Whoever shall outlive that must have opened it by its name.
func (c *Child) Close() error { return c.job.close() }
