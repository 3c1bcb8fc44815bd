package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// internals are the files of Server::Starter's test suite that test parts of its Perl module.
var internals = map[string]bool{"00-base.t": true, "08-wait3.t": true, "09-guard.t": true}

// Server::Starter's own test suite, through the command line. It measures with sleeps: it is for a machine at rest, and runs only
// where INTEGRATION_STARTER_SUITE names a checkout of it (kazuho/p5-Server-Starter).
func TestStarterSuite(t *testing.T) {
	suite := os.Getenv("INTEGRATION_STARTER_SUITE")
	if suite == "" {
		t.Skip("needs INTEGRATION_STARTER_SUITE, a checkout of Server::Starter")
	}
	need(t, "perl", "prove")
	shim, err := filepath.Abs("testdata/starter")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(suite, "t", "*.t"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", suite, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			if internals[name] {
				t.Skip("tests the Perl module itself")
			}
			s := starterProgram(t)
			c := exec.Command("prove", "-v", "-I", shim, "-I", "lib", filepath.Join("t", name))
			c.Dir = suite
			c.Env = append(os.Environ(), "START_SERVER="+s.path("start_server"), "XDG_RUNTIME_DIR="+s.dir)
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
