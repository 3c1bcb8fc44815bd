package winevents

import (
	"errors"
	"testing"
)

func TestAskError(t *testing.T) {
	for want, err := range map[string]AskError{
		"winevents: ask: somebody else is asking this server already": {Err: ErrBusy},
		"winevents: ask process 8: no such process":                   {Pid: 8, Err: ErrNoProcess},
		"winevents: ask process 8 (it has been told to quit): x":      {Pid: 8, Signalled: true, Err: errors.New("x")},
	} {
		if err.Error() != want || !errors.Is(&err, err.Err) {
			t.Errorf("error %q, want %q", err.Error(), want)
		}
	}
}
