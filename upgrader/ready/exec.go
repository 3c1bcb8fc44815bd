package ready

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"time"
	"unicode"
)

// leftover is how long the output of a command is waited for once the command
// itself is gone: what it left in the background may hold it open.
const leftover = time.Second

// execTry runs command in a shell and a process group of its own. Exit status
// 0 holds; that the shell cannot run it (126, 127) is hopeless. At the end of
// ctx the whole group is killed.
func execTry(command string, o *Options) try {
	return func(ctx context.Context) error {
		said := &lastBytes{}
		c := shell(command)
		c.Dir, c.Env = o.Dir, o.Env
		c.Stdout, c.Stderr = said, said
		c.WaitDelay = leftover
		start := o.Start
		if start == nil {
			start = (*exec.Cmd).Start
		}
		if err := start(c); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return hopeless{err}
		} else if err != nil {
			return err
		}
		err := wait(ctx, c)
		if err == nil || errors.Is(err, exec.ErrWaitDelay) && c.ProcessState.Success() {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("killed: %w", context.Cause(ctx))
		}
		if line := said.line(); line != "" {
			err = fmt.Errorf("%w: %s", err, line)
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && (exit.ExitCode() == 126 || exit.ExitCode() == 127) {
			return hopeless{err}
		}
		return err
	}
}

// lastBytes keeps the end of what is written to it. os/exec writes from one
// goroutine when stdout and stderr are the same.
type lastBytes struct{ end []byte }

// lastBytesKept is enough for a line that explains.
const lastBytesKept = 1024

func (l *lastBytes) Write(b []byte) (int, error) {
	l.end = append(l.end, b[max(0, len(b)-lastBytesKept):]...)
	l.end = append(l.end[:0], l.end[max(0, len(l.end)-lastBytesKept):]...)
	return len(b), nil
}

// line is the last line that says something, printable.
func (l *lastBytes) line() string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(l.end), "?"))
	text = text[strings.LastIndexAny(text, "\r\n")+1:]
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
