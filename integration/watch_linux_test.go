package integration

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/upgrader/upgrader/integration/load"
)

// said waits until the upgrader's output has a text.
func (u *upgrader) said(text string) {
	u.t.Helper()
	eventually(u.t, text, func() error {
		if !strings.Contains(u.output(), text) {
			return fmt.Errorf("%s", u.output())
		}
		return nil
	})
}

// Whoever replaces the binary has it swapped, once; whoever puts half a one
// there has not.
func TestWatch(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	server := s.path("server")
	install(t, guestBinary(), server)
	u := start(t, options{scratch: s, flags: []string{"--listen", a, "--watch"}, command: []string{server, "-http", "env"}})
	u.awaitServing()
	l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 500})
	binary, err := os.ReadFile(guestBinary())
	if err != nil {
		t.Fatal(err)
	}
	mustSwap := func(n int) {
		t.Helper()
		awaitGeneration(t, l, n)
		r := u.awaitAlone()
		if v := r.lastVerdict(); r.serving() != n || v.Verdict != "committed" || v.Asked != "watch" || len(r.Verdicts) != n-1 {
			t.Errorf("generation %d serves, want %d; %d verdicts, the last one is %+v", r.serving(), n, len(r.Verdicts), v)
		}
	}
	install(t, guestBinary(), server)
	mustSwap(2)

	s.write(t, "server", string(binary[:len(binary)/2]), 0o755)
	u.said("cut short")
	s.write(t, "server", string(binary), 0o644)
	u.said("not executable")

	// In place, as a compiler or cp do: bit by bit.
	if err := os.Remove(server); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(server, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	for len(binary) > 0 {
		n := min(len(binary), 64<<10)
		if _, err := f.Write(binary[:n]); err != nil {
			t.Fatal(err)
		}
		binary = binary[n:]
	}
	awaitMore(t, l, 100)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	mustSwap(3)

	// A swap by hand to what lies there is not followed by another one.
	install(t, guestBinary(), server)
	if generation := u.swap(); generation != 4 {
		t.Errorf("generation %d serves", generation)
	}
	install(t, guestBinary(), server)
	awaitGeneration(t, l, 5)
	if r := u.awaitAlone(); r.serving() != 5 || len(r.Verdicts) != 4 {
		t.Errorf("generation %d serves after %d verdicts", r.serving(), len(r.Verdicts))
	}
	lossless(t, "four new files", l)
	u.mustCleanShutdown()
}
