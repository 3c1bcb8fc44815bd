package main

import (
	"os"

	"go.uber.org/zap"
)

// An output is where stdout and stderr go: to ours, to a file, or, for one in
// the background that has no file, nowhere. What goes wrong until the services
// are up is told on the stderr that we were called with in any case.
type output struct {
	file    *os.File // nil: ours
	settled bool
}

// openOutput opens the file for appending.
func openOutput(path string, background bool) (*output, error) {
	if path == "" {
		if !background {
			return &output{}, nil
		}
		path = os.DevNull
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return &output{file: f}, nil
}

// stdout is what servers get; nil: ours.
func (o *output) stdout() *os.File { return o.file }

// stderr is what servers' stderr is forwarded to, or what they get; nil: ours.
func (o *output) stderr(inherited bool) *os.File {
	if inherited {
		return o.file
	}
	return nil // settle changes what it leads to
}

// settle sends our own stdout and stderr to the file from now on: the services
// are up, and whoever called us may go.
func (o *output) settle(log *zap.Logger) {
	if o.file == nil || o.settled {
		return
	}
	o.settled = true
	for _, fd := range []int{1, 2} {
		if err := redirect(o.file, fd); err != nil {
			log.Warn("the log file cannot take the output", zap.Error(err))
		}
	}
}

func (o *output) close() {
	if o.file != nil {
		_ = o.file.Close() // the kernel has what was written
	}
}
