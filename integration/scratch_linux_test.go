package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// scratch is a folder with a short path, for unix sockets, that user may write
// to and everybody may read.
type scratch struct{ dir string }

func newScratch(t *testing.T, user int) *scratch {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "up")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("INTEGRATION_KEEP") == "1" {
			t.Logf("kept: %s", dir)
			return
		}
		_ = os.RemoveAll(dir) // temporary: what is left is the system's to clean
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if user != 0 {
		if err := os.Chown(dir, user, user); err != nil {
			t.Fatal(err)
		}
	}
	return &scratch{dir}
}

func (s *scratch) path(name string) string { return filepath.Join(s.dir, name) }

// write puts a file there, readable by everybody.
func (s *scratch) write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	temporary := s.path(name + ".new")
	if err := os.WriteFile(temporary, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(temporary, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, s.path(name)); err != nil {
		t.Fatal(err)
	}
	return s.path(name)
}

// need skips the test unless every tool is there.
func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s", tool)
		}
	}
}

var lastPort struct {
	sync.Mutex
	port int
}

// port gives a TCP and UDP port of 127.0.0.1 that is free, and not among those
// that the kernel gives to clients.
func port(t *testing.T) int {
	t.Helper()
	lastPort.Lock()
	defer lastPort.Unlock()
	if lastPort.port == 0 {
		lastPort.port = 10000 + os.Getpid()%20000
	}
	for range 1000 {
		lastPort.port++
		if lastPort.port > 32000 {
			lastPort.port = 10000
		}
		address := fmt.Sprintf("127.0.0.1:%d", lastPort.port)
		l, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		_ = l.Close() // nobody came
		p, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		_ = p.Close() // nobody came
		return lastPort.port
	}
	t.Fatal(errors.New("no free port"))
	return 0
}

// address is port as an address.
func address(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", port(t))
}
