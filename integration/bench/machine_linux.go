package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine is what figures depend on.
type machine struct {
	cpu, kernel, system, load string
	cores                     int
	root                      bool
	peers                     []string // with their versions
}

func describe(ctx context.Context) machine {
	m := machine{cpu: "unknown", system: "unknown", cores: runtime.NumCPU(), root: os.Getuid() == 0}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if found := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(text); found != nil {
			m.cpu = string(found[1])
		}
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		m.kernel = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	}
	if text, err := os.ReadFile("/etc/os-release"); err == nil {
		if found := regexp.MustCompile(`(?m)^PRETTY_NAME="?([^"\n]*)`).FindSubmatch(text); found != nil {
			m.system = string(found[1])
		}
	}
	if text, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.load = strings.Join(strings.Fields(string(text))[:3], " ")
	}
	number := regexp.MustCompile(`\d+(\.\d+)+`)
	for _, peer := range [][]string{{"nginx", "-v"}, {"haproxy", "-v"}, {"start_server", "--version"}, {"tini", "--version"}, {"dumb-init", "--version"}} {
		text, err := exec.CommandContext(ctx, peer[0], peer[1:]...).CombinedOutput()
		version := string(number.Find(text))
		if err != nil && version == "" {
			version = "not installed"
		}
		m.peers = append(m.peers, fmt.Sprintf("%s %s", peer[0], version))
	}
	return m
}
