package notify

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	goleak.VerifyTestMain(m)
}

// roleVariable makes the test binary a server.
const roleVariable = "NOTIFY_TEST_ROLE"

// private is a short path in a directory that is ours alone.
func private(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "n") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, name)
}
