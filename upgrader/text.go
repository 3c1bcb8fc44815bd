package upgrader

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/upgrader/upgrader/listener"
)

// lastLine is the last line of what a command printed that is not empty.
func lastLine(out []byte) string {
	text := strings.TrimSpace(string(out))
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		text = text[i+1:]
	}
	return text
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readPid reads a pid file: a number, blanks around it.
func readPid(path string) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("upgrader: pid file %s: no pid", path)
	}
	return pid, nil
}

// oneLine makes one line of a text.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// noLane reports whether err says that a generation has no lane: it needs none.
func noLane(err error) bool { return errors.Is(err, listener.ErrNoLane) }
