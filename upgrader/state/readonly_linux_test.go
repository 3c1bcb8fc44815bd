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

func TestReadOnly(t *testing.T) { allSay(t, "readonly", "read-only file system") }

func TestFull(t *testing.T) { allSay(t, "full", "no space left on device") }

// allSay plays a role in a mount namespace of its own. Each line that it prints
// has to say what.
func allSay(t *testing.T, role, what string) {
	t.Helper()
	needRoot(t)
	cmd := exec.Command(os.Args[0], t.TempDir())
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), skip) || cmd.ProcessState == nil {
		t.Skipf("needs a mount namespace: %v %s", err, out)
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		if !strings.Contains(line, what) {
			t.Errorf("%q", line)
		}
	}
}

// skip is what a role says that cannot be played here.
const skip = "not permitted here"

// mount mounts a tmpfs where nobody else sees it.
func mount(dir string, flags uintptr, options string) error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("%s: %w", skip, err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		return fmt.Errorf("%s: %w", skip, err)
	}
	return nil
}

// playFull writes to a file system without room. What was there stays.
func playFull(dir string) error {
	if err := mount(dir, 0, "size=32k,mode=755"); err != nil {
		return err
	}
	d, err := Open(filepath.Join(dir, "service"))
	if err != nil {
		return err
	}
	if err := d.Save([]byte(`"before"`)); err != nil {
		return err
	}
	_ = os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600) // as much as there is room for
	for range 2 {
		fmt.Println("save:", d.Save([]byte(`"`+strings.Repeat("x", 8<<10)+`"`)))
		if kept, err := d.Load(); err != nil || string(kept) != `"before"` {
			fmt.Printf("kept: %s, %v\n", kept, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "service", "*"+temporaryMark+"*"))
	if err != nil || len(left) > 0 {
		fmt.Printf("left: %v, %v\n", left, err)
	}
	return nil
}

// playReadOnly mounts a read-only file system where nobody else sees it.
func playReadOnly(dir string) error {
	if err := mount(dir, syscall.MS_RDONLY, ""); err != nil {
		return err
	}
	_, err := Open(filepath.Join(dir, "service"))
	fmt.Println("open:", err)
	err = checkWritable(dir)
	fmt.Println("base:", err)
	return nil
}
