package state

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReadOnly(t *testing.T) {
	needRoot(t)
	cmd := exec.Command(os.Args[0], t.TempDir())
	cmd.Env = append(os.Environ(), roleVariable+"=readonly")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("needs a mount namespace: %v %s", err, out)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if !strings.Contains(line, "read-only file system") {
			t.Errorf("%q", line)
		}
	}
}

// playReadOnly mounts a read-only file system where nobody else sees it.
func playReadOnly(dir string) error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("skip: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("skip: %w", err)
	}
	_, err := Open(filepath.Join(dir, "service"))
	fmt.Println("open:", err)
	err = checkWritable(dir)
	fmt.Println("base:", err)
	return nil
}
