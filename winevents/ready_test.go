package winevents

import (
	"errors"
	"testing"
)

func TestSayReady(t *testing.T) {
	t.Setenv(ReadyVariable, "")
	if err := SayReady(); err != nil {
		t.Errorf("without an upgrader: %v", err)
	}
	m := newMachine(t)
	upgrader, server := m.spawn(7000, `C:\upgrader.exe`), m.spawn(serverPid, serverExe)
	if err := sayReady(server, "ready"); err == nil {
		t.Error("nobody waits, and there is no error")
	}
	e, _, err := upgrader.createEvent("ready", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sayReady(server, "ready"); err != nil {
		t.Error(err)
	}
	if i, err := upgrader.wait(0, e); i != 0 || err != nil {
		t.Errorf("not set: %d, %v", i, err)
	}
	if n := server.open(); n != 0 {
		t.Errorf("%d handles leak", n)
	}
	if err := errors.Join(e.Close()); err != nil {
		t.Error(err)
	}
}
