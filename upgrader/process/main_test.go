package process

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

const roleVariable = "PROCESS_TEST_ROLE"

// TestMain makes the test binary its own child in a role.
func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		os.Exit(role(name))
	}
	prepare()
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop"))
}
