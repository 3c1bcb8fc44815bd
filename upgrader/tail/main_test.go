package tail

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleVariable makes the test binary a server that writes to its stderr.
const roleVariable = "TAIL_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		goleak.VerifyTestMain(m)
	case "say":
		fmt.Fprintln(os.Stderr, "first line")
		fmt.Fprint(os.Stderr, "last words")
	case "flood":
		line := bytes.Repeat([]byte("flood "), 1000)
		line[len(line)-1] = '\n'
		for range 8 << 20 / len(line) {
			if _, err := os.Stderr.Write(line); err != nil {
				os.Exit(1)
			}
		}
	}
}

// server is the test binary in a role, with stderr as t's file.
func server(t *testing.T, role string, tl *Tail) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], "-test.run=^$")
	c.Env = append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0")
	c.Stderr = tl.File()
	return c
}

// sink is a writer that can be looked at, and stopped.
type sink struct {
	mu   sync.Mutex
	got  bytes.Buffer
	hold chan struct{} // nil: never waits
}

func (s *sink) Write(b []byte) (int, error) {
	if s.hold != nil {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(b)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

// until waits for a fact.
func until(t *testing.T, what string, fact func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !fact(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

// open is Open that must succeed and is closed at the end.
func open(t *testing.T, c Config) *Tail {
	t.Helper()
	tl, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tl.Close() }) // again, perhaps
	return tl
}

func write(t *testing.T, tl *Tail, text string) {
	t.Helper()
	if _, err := tl.File().WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// last is the last line of a tail, "" if there is none.
func last(tl *Tail) string {
	return strings.Join(tl.Tail(1), "")
}
