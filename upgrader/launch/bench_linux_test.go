package launch

import (
	"os"
	"os/exec"
	"testing"
)

// BenchmarkLaunch against BenchmarkBareExec is what the shim costs a start.
func BenchmarkLaunch(b *testing.B) {
	path, err := exec.LookPath("true")
	if err != nil {
		b.Skip(err)
	}
	for b.Loop() {
		child, err := start(b.Context(), Order{Path: path, Env: os.Environ()})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := child.Wait(); err != nil {
			b.Fatal(err)
		}
		_ = child.Close()
	}
}

// BenchmarkExecOnly has the shim waiting already.
func BenchmarkExecOnly(b *testing.B) {
	path, err := exec.LookPath("true")
	if err != nil {
		b.Skip(err)
	}
	for b.Loop() {
		b.StopTimer()
		shim, err := New(b.Context(), Order{Path: path, Env: os.Environ()})
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		child, err := shim.Exec(Filter{})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := child.Wait(); err != nil {
			b.Fatal(err)
		}
		_ = child.Close()
	}
}

func BenchmarkBareExec(b *testing.B) {
	for b.Loop() {
		if err := exec.Command("true").Run(); err != nil {
			b.Skip(err)
		}
	}
}
