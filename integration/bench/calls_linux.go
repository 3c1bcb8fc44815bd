package main

import (
	"encoding/json"
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
	callUnix   = "bind of a unix socket"
)

func timedCalls() []string {
	return []string{callParent, callRead, callOption, callBind, callUnix}
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
		took[call] = append(took[call], float64(time.Since(began).Nanoseconds()))
		return nil
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	for i := range o.Amounts.Binds {
		if err := bind(callBind, unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			return err
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

// freePort gives a port that nobody has, as far as can be known.
func freePort() (int, error) {
	b := bench{}
	a, err := b.address()
	if err != nil {
		return 0, err
	}
	addr, err := net.ResolveTCPAddr("tcp", a)
	return addr.Port, err
}
