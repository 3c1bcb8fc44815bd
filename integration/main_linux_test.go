package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// binEnv names the folder of the binaries. It is set in the test process that
// runs the tests.
const binEnv = "INTEGRATION_BIN"

// insideEnv is set in the process that a namespace was made for.
const insideEnv = "INTEGRATION_INSIDE"

// TestMain builds the binaries, and runs the tests in a network namespace of
// their own where that is allowed.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
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
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), insideEnv+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := c.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "integration: no network namespace (%v): ports are shared with the machine\n", err)
		return inside(m), nil
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
	if os.Getenv(insideEnv) != "" {
		if err := loopbackUp(); err != nil {
			fmt.Fprintf(os.Stderr, "integration: lo: %v\n", err)
			return 1
		}
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintf(os.Stderr, "integration: subreaper: %v\n", err)
		return 1
	}
	return m.Run()
}

// loopbackUp is `ip link set lo up`.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written to it
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return err
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
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
