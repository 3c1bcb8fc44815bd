package state

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const roleVariable = "STATE_TEST_ROLE"

// TestMain runs the tests, or plays the role of another process.
func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := play(role, os.Args[1:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// play says "ready" once it has what it is for, and keeps it until its stdin
// ends.
func play(role string, args []string) error {
	hold := func() error {
		fmt.Println("ready")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	switch role {
	case "lock": // DIR
		d, err := Open(args[0])
		if err != nil {
			return err
		}
		if _, err = d.Lock("held", []string{"./server", "-x", "two words"}); err != nil {
			return err
		}
		return hold()
	case "inherit": // DIR, the lock at descriptor 3
		d, err := Open(args[0])
		if err != nil {
			return err
		}
		if _, err = d.Inherit(os.NewFile(3, "lock"), "heir", []string{"./server"}); err != nil {
			return err
		}
		return hold()
	case "pid": // PATH
		if _, err := WritePidFile(PidFileConfig{Path: args[0]}); err != nil {
			return err
		}
		return hold()
	case "save": // DIR
		d, err := Open(args[0])
		if err != nil {
			return err
		}
		for i := 0; ; i++ {
			payload, err := json.Marshal(map[string]string{"number": fmt.Sprint(i), "fill": strings.Repeat("x", i%5000)})
			if err != nil {
				return err
			}
			if err := d.Save(payload); err != nil {
				return err
			}
			if i == 0 {
				fmt.Println("ready")
			}
		}
	case "full": // DIR
		return playFull(args[0])
	case "readonly": // DIR, in a mount namespace of its own
		return playReadOnly(args[0])
	}
	return fmt.Errorf("no role %q", role)
}

// player is another process that plays a role.
type player struct {
	*exec.Cmd
	stdin io.Closer
}

// start starts a role and waits until it is ready.
func start(t *testing.T, role string, files []*os.File, args ...string) *player {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.ExtraFiles = files
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &player{cmd, stdin}
	t.Cleanup(p.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "ready\n" {
		t.Fatalf("%s said %q, %v", role, line, err)
	}
	return p
}

// kill kills it as kill -9 does.
func (p *player) kill() {
	_ = p.Process.Kill() // it may be gone
	_ = p.Wait()         // it was killed
}

// quit lets it end by itself.
func (p *player) quit(t *testing.T) {
	t.Helper()
	_ = p.stdin.Close() // it may be gone
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
}

// open makes a state dir.
func open(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "service"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// await waits for a fact.
func await(t *testing.T, what string, fact func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !fact(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come true", what)
		}
		time.Sleep(time.Millisecond)
	}
}
