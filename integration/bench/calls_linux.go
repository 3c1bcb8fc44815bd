package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// measureCalls compares system calls of a server whose bind is taken over with
// those of the same server alone.
func measureCalls(b *bench) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	for range b.Amounts.CallRounds {
		for _, name := range []string{bare, ownBind} {
			dir, err := b.scratch()
			if err != nil {
				return err
			}
			o := b.order
			o.Address, o.Result = "ADDRESS", filepath.Join(dir, "result")
			r := recipe{name: name, command: []string{program}, env: []string{roleEnv + "=" + roleCalls, orderEnv + "=" + o.text()}}
			if name == ownBind {
				r.command = []string{b.upgrader(), "--state-dir", "STATE", "--intercept", "on", "--restart", "never", "--", program}
			}
			s, err := b.start(r)
			if err != nil {
				return err
			}
			select {
			case <-s.gone:
			case <-b.ctx.Done():
				return b.ctx.Err()
			case <-time.After(patience):
				return fmt.Errorf("%s does not end\n%s", s.name, s.output())
			}
			text, err := os.ReadFile(o.Result)
			if err != nil {
				return fmt.Errorf("%w\n%s", err, s.output())
			}
			took := map[string]series{}
			if err := json.Unmarshal(text, &took); err != nil {
				return err
			}
			for call, values := range took {
				b.samples.add("calls/"+name+"/"+call, values.median())
			}
		}
	}
	return nil
}

// The calls that are timed.
const (
	callParent = "getppid"
	callRead   = "read of 1 byte from /dev/zero"
	callOption = "setsockopt TCP_NODELAY"
	callBind   = "bind of a TCP port"
	callListen = "listen on it"
	callUnix   = "bind of a unix socket"
)

func timedCalls() []string {
	return []string{callParent, callRead, callOption, callBind, callListen, callUnix}
}

// timeCalls is the server: it listens, times its system calls in nanoseconds
// and ends.
func timeCalls(o order) error {
	l, err := net.Listen("tcp", o.Address)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			hangUp(c)
		}
	}()
	zero, err := os.Open("/dev/zero")
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	took := map[string]series{}
	plain, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	buffer := make([]byte, 1)
	descriptor := int(zero.Fd())
	// Batches, so that the clock costs nothing; their median leaves out what interrupts.
	const batches = 50
	batch := max(1, o.Amounts.Calls/batches)
	for call, f := range map[string]func() error{
		callParent: func() error { _, _, e := syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0); return none(e) },
		callRead:   func() error { _, err := unix.Read(descriptor, buffer); return err },
		callOption: func() error { return unix.SetsockoptInt(plain, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) },
	} {
		for range batches {
			began := time.Now()
			for range batch {
				if err := f(); err != nil {
					return fmt.Errorf("%s: %w", call, err)
				}
			}
			took[call] = append(took[call], float64(time.Since(began).Nanoseconds())/float64(batch))
		}
	}
	bind := func(call string, family int, at unix.Sockaddr) error {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }() // nobody came
		began := time.Now()
		if err := unix.Bind(fd, at); err != nil {
			return fmt.Errorf("%s: %w", call, err)
		}
		bound := time.Now()
		took[call] = append(took[call], float64(bound.Sub(began).Nanoseconds()))
		if call != callBind {
			return nil
		}
		if err := unix.Listen(fd, unix.SOMAXCONN); err != nil {
			return fmt.Errorf("%s: %w", callListen, err)
		}
		took[callListen] = append(took[callListen], float64(time.Since(bound).Nanoseconds()))
		return nil
	}
	port := 12000 + os.Getpid()%10000
	for i := range o.Amounts.Binds {
		// A port of its own for each: what is timed is a first bind. Somebody else may have some.
		for tries := 0; ; tries++ {
			port++
			err := bind(callBind, unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
			if err == nil {
				break
			}
			if !errors.Is(err, unix.EADDRINUSE) || tries == 100 {
				return err
			}
		}
		if err := bind(callUnix, unix.AF_UNIX, &unix.SockaddrUnix{Name: fmt.Sprintf("%s.%d", o.Result, i)}); err != nil {
			return err
		}
	}
	text, err := json.Marshal(took)
	if err != nil {
		return err
	}
	return os.WriteFile(o.Result, text, 0o644)
}

func none(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}
