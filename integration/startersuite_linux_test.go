package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// internals are the files of Server::Starter's test suite that test parts of its Perl module.
var internals = map[string]bool{"00-base.t": true, "08-wait3.t": true, "09-guard.t": true}

// Server::Starter's own test suite (kazuho/p5-Server-Starter), through the command line: the one that make setup got, or a checkout
// that INTEGRATION_STARTER_SUITE names.
func TestStarterSuite(t *testing.T) {
	need(t, "perl", "prove")
	suite := os.Getenv("INTEGRATION_STARTER_SUITE")
	if suite == "" {
		var err error
		if suite, err = filepath.Abs("../.tools/server-starter"); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(suite, "t")); err != nil {
			t.Skip("no test suite of Server::Starter: see make setup")
		}
	}
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
		if internals[name] {
			continue
		}
		t.Run(name, func(t *testing.T) {
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
