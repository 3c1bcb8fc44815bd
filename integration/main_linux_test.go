package integration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/upgrader/upgrader/integration/lab"
)

// binEnv names the folder of the binaries. It is set in the test process that
// runs the tests.
const binEnv = "INTEGRATION_BIN"

// TestMain builds the binaries, and runs the tests in a network namespace of
// their own where that is allowed.
func TestMain(m *testing.M) {
	if lab.Inside() {
		os.Exit(inside(m))
	}
	code, err := outside(m)
	if err != nil {
		fmt.Fprintf(os.Stderr, "integration: %v\n", err)
		code = 1
	}
	os.Exit(code)
}

func outside(m *testing.M) (int, error) {
	if os.Getenv(binEnv) == "" {
		dir, err := os.MkdirTemp("", "upbin")
		if err != nil {
			return 1, err
		}
		defer func() { _ = os.RemoveAll(dir) }() // temporary: what is left is the system's to clean
		if err := build(dir, os.Getenv("INTEGRATION_RACE") == "1"); err != nil {
			return 1, err
		}
		if err := os.Setenv(binEnv, dir); err != nil {
			return 1, err
		}
	}
	if os.Getuid() != 0 {
		return inside(m), nil
	}
	isolated := lab.Allowed(unix.CLONE_NEWNET)
	if isolated == 0 {
		fmt.Fprintln(os.Stderr, "integration: no network namespace: ports are shared with the machine")
		return inside(m), nil
	}
	c := lab.Command(context.Background(), isolated, os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return 1, err
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			_ = c.Process.Signal(s) // it may be gone already
		}
	}()
	err := c.Wait()
	signal.Stop(signals)
	close(signals)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(1, exit.ExitCode()), nil
	}
	return 0, err
}

// inside runs the tests. Orphans of what they start come to this process, so
// that none is lost sight of.
func inside(m *testing.M) int {
	if err := lab.Settle(); err != nil {
		fmt.Fprintf(os.Stderr, "integration: %v\n", err)
		return 1
	}
	return m.Run()
}

// build puts upgrader and guest into dir, static, for any user to run.
func build(dir string, race bool) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	flags := []string{"build", "-o", dir + "/"}
	environment := append(os.Environ(), "CGO_ENABLED=0")
	if race {
		flags = append(flags, "-race")
		environment = append(os.Environ(), "CGO_ENABLED=1")
	}
	for _, pkg := range []string{"../cmd/upgrader", "./guest", "./flip", "./testdata/ledger", "./testdata/timers", "./testdata/sessions", "./testdata/parker"} {
		c := exec.Command("go", append(flags, pkg)...)
		c.Env = environment
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return nil
}

func upgraderBinary() string { return filepath.Join(os.Getenv(binEnv), "upgrader") }
func guestBinary() string    { return filepath.Join(os.Getenv(binEnv), "guest") }
func flipBinary() string     { return filepath.Join(os.Getenv(binEnv), "flip") }
func ledgerBinary() string   { return filepath.Join(os.Getenv(binEnv), "ledger") }
func sessionsBinary() string { return filepath.Join(os.Getenv(binEnv), "sessions") }
func parkerBinary() string   { return filepath.Join(os.Getenv(binEnv), "parker") }
func timersBinary() string   { return filepath.Join(os.Getenv(binEnv), "timers") }
