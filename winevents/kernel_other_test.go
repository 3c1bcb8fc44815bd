//go:build !windows

package winevents

import (
	"errors"
	"testing"
)

func testKernels(t *testing.T) map[string]kernel {
	return map[string]kernel{"fake": newMachine(t).spawn(serverPid, serverExe)}
}

// Without the kernel there is an error that says so, and never an answer.
func TestUnsupported(t *testing.T) {
	if answer, err := Ask(t.Context(), Target{PidFile: "none"}, AskConfig{}); answer != nil || !errors.Is(err, ErrUnsupported) {
		t.Errorf("Ask: %v, %v", answer, err)
	}
	if err := Send(t.Context(), Target{PidFile: "none"}, Stop, AskConfig{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Send: %v", err)
	}
	if asked, err := NewAsked(AskedConfig{}); asked != nil || !errors.Is(err, ErrUnsupported) {
		t.Errorf("NewAsked: %v, %v", asked, err)
	}
	if _, err := Self(); !errors.Is(err, ErrUnsupported) {
		t.Errorf("Self: %v", err)
	}
	if _, err := IdentityOf(1); !errors.Is(err, ErrUnsupported) {
		t.Errorf("IdentityOf: %v", err)
	}
}
