package self

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pair(t *testing.T) (a, b *link) {
	t.Helper()
	ours, theirs, err := newPair()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = newLink(ours); err == nil {
		b, err = newLink(theirs)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	t.Cleanup(b.close)
	return a, b
}

// A bundle of more descriptors than fit one message arrives whole and in
// order, however large its state is.
func TestBundle(t *testing.T) {
	for _, n := range []int{0, 1, filesOnce, 3*filesOnce + 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			a, b := pair(t)
			sent := Bundle{State: json.RawMessage(`"` + string(make([]byte, 0)) + fmt.Sprintf("%01000000d", n) + `"`)}
			for i := range n {
				path := filepath.Join(t.TempDir(), "f")
				if err := os.WriteFile(path, []byte(fmt.Sprint(i)), 0o600); err != nil {
					t.Fatal(err)
				}
				f, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				sent.Files = append(sent.Files, File{Name: fmt.Sprint("f", i), File: f})
			}
			done := make(chan error, 1)
			go func() {
				done <- a.sendBundle(sent)
			}()
			got, _, err := b.receiveBundle()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer got.close()
			if string(got.State) != string(sent.State) || len(got.Files) != n {
				t.Fatalf("%d bytes and %d files came", len(got.State), len(got.Files))
			}
			for i, f := range got.Files {
				text, err := io.ReadAll(f.File)
				if err != nil || string(text) != fmt.Sprint(i) || f.Name != fmt.Sprint("f", i) {
					t.Fatalf("file %d is %s with %q (%v)", i, f.Name, text, err)
				}
			}
			// What follows the bundle is understood.
			if err := b.send(frame{What: frameReady, Pid: 7}); err != nil {
				t.Fatal(err)
			}
			if f, err := a.receive(); err != nil || f.What != frameReady || f.Pid != 7 {
				t.Errorf("%+v, %v", f, err)
			}
		})
	}
}

// What a server shares with us keeps its mode, whichever it is, on both sides.
func TestBundleKeepsBlockingMode(t *testing.T) {
	for _, nonblock := range []bool{false, true} {
		a, b := pair(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		raw, err := l.(*net.TCPListener).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var lane int
		_ = raw.Control(func(fd uintptr) { lane, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) })
		if err == nil {
			err = unix.SetNonblock(lane, nonblock)
		}
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(lane), "lane")
		mode := func(when string) {
			t.Helper()
			flags := 0
			_ = raw.Control(func(fd uintptr) { flags, err = unix.FcntlInt(fd, unix.F_GETFL, 0) })
			if err != nil || flags&unix.O_NONBLOCK != 0 != nonblock {
				t.Errorf("%s: O_NONBLOCK is %v (%v), want %v", when, flags&unix.O_NONBLOCK != 0, err, nonblock)
			}
		}
		if err := a.sendBundle(Bundle{State: json.RawMessage("{}"), Files: []File{{"lane", f}}}); err != nil {
			t.Fatal(err)
		}
		mode("sent")
		got, _, err := b.receiveBundle()
		if err != nil {
			t.Fatal(err)
		}
		mode("received")
		got.close()
		_ = f.Close()
		mode("closed")
	}
}

// Frames that cannot be are errors, and an end is one.
func TestBadFrames(t *testing.T) {
	for _, text := range []string{"", "\x00", "\xff\xff\xff\xff", "\x00\x00\x00\x02{", "\x00\x00\x00\x01x", "\x00\x00\x00\x02{}", "\x00\x00\x00\x33" + `{"what":"bundle","state":{},"names":["a","b","c"]}` + " "} {
		a, b := pair(t)
		if _, err := a.conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		a.close()
		if got, _, err := b.receiveBundle(); err == nil {
			t.Errorf("%q is a bundle: %+v", text, got)
			got.close()
		}
	}
}
