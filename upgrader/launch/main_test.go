package launch

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

const roleVariable = "LAUNCH_TEST_ROLE"

// TestMain makes the test binary its own child in a role.
func TestMain(m *testing.M) {
	if name := os.Getenv(roleVariable); name != "" {
		role, ok := roles()[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "no such role:", name)
			os.Exit(3)
		}
		if err := role(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(4)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}
