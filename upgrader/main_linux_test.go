package upgrader

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/upgrader/upgrader/listener/notify"
	"github.com/upgrader/upgrader/shmbridge"
)

// guestVariable says what this binary does as a server: words with blanks
// between, carried out from left to right.
const guestVariable = "UPGRADER_TEST_GUEST"

// TestMain makes the test binary its own server.
func TestMain(m *testing.M) {
	if plan := os.Getenv(guestVariable); plan != "" {
		guest(strings.Fields(plan))
	}
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("os/signal.signal_recv"), goleak.IgnoreTopFunction("os/signal.loop"))
}

// guest is a server without clients. It never returns.
//
//	ready        say READY=1
//	exit=N       exit with that status
//	once=FILE    go on if this is the first process to come here, else stay as it is
//	deaf         ignore TERM
//	accept       accept clients of the first lane, for ever
//	child=PLAN   start a process that carries out PLAN (: for a blank)
//	bind=ADDR    listen there, or exit with 5
//	main         say that the last child is the main process, and wait until that was heard
//	write=FILE   hold FILE as its only writer; exit with 9 if it is held
//	add          add one to the first byte of the memory, and keep it mapped
//	scribble     make all of the memory 0xff
//	stay         until TERM comes; the last word of every plan
func guest(plan []string) {
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	stay := func() {
		<-term
		os.Exit(0)
	}
	child := 0
	for _, word := range plan {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "ready":
			say("READY=1")
		case "exit":
			n, _ := strconv.Atoi(value) // the plan is ours
			os.Exit(n)
		case "once":
			if f, err := os.OpenFile(value, os.O_CREATE|os.O_EXCL, 0o600); err == nil {
				_ = f.Close() // empty
				continue
			}
			stay()
		case "deaf":
			signal.Ignore(syscall.SIGTERM)
		case "child":
			c := exec.Command("/proc/self/exe")
			c.Env = append(os.Environ(), guestVariable+"="+strings.ReplaceAll(value, ":", " "))
			c.Stdout, c.Stderr = os.Stdout, os.Stderr
			if err := c.Start(); err != nil {
				fail(err)
			}
			child = c.Process.Pid
		case "accept":
			l, err := net.FileListener(os.NewFile(3, "lane"))
			if err != nil {
				fail(err)
			}
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						fail(err)
					}
					_ = c.Close() // nothing is said
				}
			}()
		case "bind":
			l, err := net.Listen("tcp", value)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(5)
			}
			defer l.Close()
		case "main":
			say("MAINPID=" + strconv.Itoa(child))
		case "add":
			memoryOf()[0]++
		case "scribble":
			b := memoryOf()
			for i := range b {
				b[i] = 0xff
			}
		case "write":
			f, err := os.OpenFile(value, os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				fail(err)
			}
			if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
				fmt.Fprintln(os.Stderr, "another writer")
				os.Exit(9)
			}
		case "stay":
			stay()
		}
	}
	stay()
}

// memoryOf is the segment, mapped for good.
func memoryOf() []byte {
	b, err := shmbridge.Attach()
	if err != nil {
		fail(err)
	}
	return b.Bytes()
}

// say sends one message, and returns when it was heard (BARRIER=1).
func say(message string) {
	path := os.Getenv("NOTIFY_SOCKET")
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		fail(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte(message)); err != nil {
		fail(err)
	}
	if err := notify.Barrier(context.Background()); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(8)
}
