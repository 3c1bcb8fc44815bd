package listener

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLateClient has a client whose handshake ends only after its generation is gone: TCP_DEFER_ACCEPT keeps the
// connection half open, and invisible in the accept queue, until data comes.
func TestLateClient(t *testing.T) {
	t.Parallel()
	events := count(t)
	s := newSet(t, Config{RescueTime: time.Hour, Observe: events.observe})
	c := claim(t, s, "tcp4://127.0.0.1:0")
	old := lane(t, s, c, 1)
	if err := unix.SetsockoptInt(old.fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60); err != nil {
		t.Skip("no TCP_DEFER_ACCEPT: ", err)
	}
	late, err := net.Dial("tcp", c.Dial())
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()

	lane(t, s, c, 2)
	serve(t, s, 2)
	if err := s.Steer(2); err != nil {
		t.Fatal(err)
	}
	r, err := s.Settle(t.Context(), 1, SettleOptions{Quiet: 20 * time.Millisecond, Inodes: ownInodes})
	if err != nil || !r.Quiet {
		t.Fatalf("settle: %+v, %v", r, err)
	}
	s.Retire(1)
	if got, err := exchange(late); got != 2 || err != nil {
		t.Errorf("the late client was answered by generation %d, %v", got, err)
	}
	late.Close()
	eventually(t, "the relay is done", func() bool { return events.of(Rescued) == 1 })
}

// TestQueueOfDead: a generation dies with clients in its queue, and another is prepared only then.
func TestQueueOfDead(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"tcp4://127.0.0.1:0", "unix"} {
		if spec == "unix" {
			spec = "unix://" + filepath.Join(t.TempDir(), "s") // before the set: it is to be gone first
		}
		events := count(t)
		s := newSet(t, Config{RescueTime: time.Hour, Observe: events.observe})
		c := claim(t, s, spec)
		lane(t, s, c, 1)
		var clients []net.Conn
		for range 20 {
			conn, err := net.Dial(c.Network(), c.Dial())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			clients = append(clients, conn)
		}
		s.Retire(1)
		if err := s.Prepare(2); err != nil {
			t.Fatal(err)
		}
		if len(s.Lanes(2)) != 1 {
			t.Fatal("nothing was prepared")
		}
		if err := s.Steer(2); err != nil {
			t.Fatal(err)
		}
		serve(t, s, 2)
		for _, conn := range clients {
			if got, err := exchange(conn); got != 2 || err != nil {
				t.Errorf("%s: answered by generation %d, %v", c, got, err)
			}
			conn.Close()
		}
		eventually(t, "all relays are done", func() bool { return events.of(Rescued) == len(clients) })
		if events.of(RescueLost) > 0 {
			t.Error("clients were lost")
		}
	}
}

// TestHalfClose: a relayed client that ends its direction gets the answer all the same.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{RescueTime: time.Hour})
	c := claim(t, s, "tcp4://127.0.0.1:0")
	lane(t, s, c, 1)
	conn, err := net.Dial("tcp", c.Dial())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tcp := conn.(*net.TCPConn)
	if _, err := tcp.Write([]byte("all")); err != nil {
		t.Fatal(err)
	}
	if err := tcp.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	l := lane(t, s, c, 2)
	if err := s.Steer(2); err != nil {
		t.Fatal(err)
	}
	f, err := l.Dup()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s.Retire(1)
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	got, err := io.ReadAll(server)
	if string(got) != "all" || err != nil {
		t.Fatalf("the server got %q, %v", got, err)
	}
	if _, err := server.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	server.Close()
	got, err = io.ReadAll(tcp)
	if string(got) != "answer" || err != nil {
		t.Fatalf("the client got %q, %v", got, err)
	}
}

// TestLateDatagrams: what lies in the queue of a lane of udp is answered by the next generation, from the claimed address.
func TestLateDatagrams(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"udp4://127.0.0.1:0", "udp4://:0", "udp6://[::1]:0", "udp://:0"} {
		t.Run(spec, func(t *testing.T) {
			events := count(t)
			s := newSet(t, Config{RescueTime: time.Hour, Observe: events.observe})
			c := claim(t, s, spec)
			lane(t, s, c, 1)
			client, err := net.Dial("udp", c.Dial()) // connected: takes answers from that address only
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if _, err := client.Write([]byte("?")); err != nil {
				t.Fatal(err)
			}
			lane(t, s, c, 2)
			serve(t, s, 2)
			if err := s.Steer(2); err != nil {
				t.Fatal(err)
			}
			s.Retire(1)
			b := make([]byte, 16)
			if err := client.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			n, err := client.Read(b)
			if string(b[:n]) != "2" || err != nil {
				t.Fatalf("got %q, %v", b[:n], err)
			}
		})
	}
}

// TestAbandon: what strayed into the lane of a start that failed is relayed, and the lane leaves at once.
func TestAbandon(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{RescueTime: time.Hour})
	c := claim(t, s, "tcp4://127.0.0.1:0")
	lane(t, s, c, 1)
	serve(t, s, 1)
	lane(t, s, c, 2)
	if err := s.Steer(2); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", c.Dial())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := s.Steer(1); err != nil {
		t.Fatal(err)
	}
	s.Abandon(2)
	if got, err := exchange(conn); got != 1 || err != nil {
		t.Errorf("answered by generation %d, %v", got, err)
	}
	eventually(t, "the lane has left", func() bool { return members(s, c) == 1 && len(s.Lanes(2)) == 0 })
}

func TestRefuseAndAccept(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"tcp4://127.0.0.1:0", "tcp://:0", "unix", "unixgram"} {
		t.Run(spec, func(t *testing.T) {
			if onPath(spec) {
				spec += "://" + filepath.Join(t.TempDir(), "s")
			}
			s := newSet(t, Config{})
			c := claim(t, s, spec)
			lane(t, s, c, 1)
			lane(t, s, c, 2)
			serve(t, s, 2)
			if err := s.Steer(2); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := s.Refuse(); err != nil {
					t.Fatal(err)
				}
				for range 20 {
					if _, err := ask(c.Network(), c.Dial()); !errors.Is(err, unix.ECONNREFUSED) {
						t.Fatalf("not refused: %v", err)
					}
				}
				if c.Network() == "tcp" {
					for _, reuse := range []int{0, 1} {
						fd, err := unix.Socket(c.at.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
						if err != nil {
							t.Fatal(err)
						}
						if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, reuse); err != nil {
							t.Fatal(err)
						}
						if err := unix.Bind(fd, c.at.sockaddr()); !errors.Is(err, unix.EADDRINUSE) {
							t.Errorf("a stranger (SO_REUSEADDR %d) took the address: %v", reuse, err)
						}
						unix.Close(fd)
					}
				}
				if err := s.Accept(); err != nil {
					t.Fatal(err)
				}
				for range 20 {
					if got, err := ask(c.Network(), c.Dial()); got != 2 || err != nil {
						// A guest that accepts on a lane that was shut gets EINVAL and tries again.
						t.Fatalf("answered by generation %d, %v", got, err)
					}
				}
			}
		})
	}
}

// TestGuestShutsDown: a shutdown(2) by the serving guest does not end the claim; one by a guest that drains only takes its
// own lane out.
func TestGuestShutsDown(t *testing.T) {
	t.Parallel()
	events := count(t)
	s := newSet(t, Config{Observe: events.observe})
	c := claim(t, s, "tcp4://127.0.0.1:0")
	old := lane(t, s, c, 1)
	now := lane(t, s, c, 2)
	serve(t, s, 2)
	if err := s.Steer(2); err != nil {
		t.Fatal(err)
	}
	shutdown := func(l *Lane) {
		f, err := l.Dup()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		raw, err := f.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if cerr := raw.Control(func(fd uintptr) { err = unix.Shutdown(int(fd), unix.SHUT_RDWR) }); cerr != nil || err != nil {
			t.Fatal(cerr, err)
		}
	}
	shutdown(old)
	eventually(t, "the lane is out", func() bool { return members(s, c) == 1 })
	for range 20 {
		if got, err := ask("tcp", c.Dial()); got != 2 || err != nil {
			t.Fatalf("answered by generation %d, %v", got, err)
		}
	}
	shutdown(now)
	eventually(t, "it listens again", func() bool { return events.of(Relistened) == 1 })
	if got, err := ask("tcp", c.Dial()); got != 2 || err != nil {
		t.Errorf("answered by generation %d, %v", got, err)
	}
}

func TestSettleSeesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{})
	c := claim(t, s, "tcp4://127.0.0.1:0")
	l := lane(t, s, c, 1)
	f, err := l.Dup()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", c.Dial())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	short := SettleOptions{Quiet: time.Millisecond, Max: 30 * time.Millisecond, Inodes: ownInodes}
	if r, err := s.Settle(t.Context(), 1, short); err != nil || r.Quiet || r.Queued != 1 {
		t.Errorf("with a client in the queue: %+v, %v", r, err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if r, err := s.Settle(t.Context(), 1, short); err != nil || r.Quiet || r.Busy != 1 {
		t.Errorf("with a request unread: %+v, %v", r, err)
	}
	if _, err := io.ReadFull(server, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Settle(t.Context(), 1, short); err != nil || r.Quiet || r.Busy != 1 {
		t.Errorf("with a request unanswered: %+v, %v", r, err)
	}
	if _, err := server.Write([]byte("!")); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Settle(t.Context(), 1, SettleOptions{Quiet: time.Millisecond, Inodes: ownInodes}); err != nil || !r.Quiet {
		t.Errorf("answered, and kept alive: %+v, %v", r, err)
	}
}

// A client whose handshake is under way comes to the lane that its first packet went to. A deferred accept keeps it so.
func TestSettleWaitsForHandshakes(t *testing.T) {
	t.Parallel()
	s := newSet(t, Config{})
	c := claim(t, s, "tcp4://127.0.0.1:0")
	f, err := lane(t, s, c, 1).Dup()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.SetsockoptInt(int(f.Fd()), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 10); err != nil {
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", c.Dial())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if r, err := s.Settle(t.Context(), 1, SettleOptions{Quiet: time.Millisecond, Max: 30 * time.Millisecond, Inodes: ownInodes}); err != nil || r.Quiet || r.Busy != 1 || r.Queued != 0 {
		t.Errorf("in a handshake: %+v, %v", r, err)
	}
	if r, err := s.Settle(t.Context(), 1, SettleOptions{Quiet: 20 * time.Millisecond, Inodes: ownInodes}); err != nil || !r.Quiet {
		t.Errorf("a handshake was waited for without end: %+v, %v", r, err)
	}
	for _, c := range []struct {
		d    diagSocket
		age  time.Duration
		want bool
	}{
		{diagSocket{expires: 950}, 0, true},
		{diagSocket{expires: 950}, 50 * time.Millisecond, true},
		{diagSocket{expires: 950}, 70 * time.Millisecond, false}, // it began after the settling
		{diagSocket{expires: 950, resent: 1}, 0, false},
		{diagSocket{expires: 1980}, 500 * time.Millisecond, false},
	} {
		if got := c.d.handshake(c.age); got != c.want {
			t.Errorf("%+v, older than %v: %t", c.d, c.age, got)
		}
	}
}

func TestPathIsPutBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	events := count(t)
	s := newSet(t, Config{Observe: events.observe})
	c := claim(t, s, "unix://"+path+"?mode=0640")
	lane(t, s, c, 1)
	serve(t, s, 1)
	for i := range 5 {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the path is put back", func() bool { return events.of(PutBack) == i+1 })
		if got, err := ask("unix", path); got != 1 || err != nil {
			t.Errorf("answered by generation %d, %v", got, err)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("permissions %v, %v", st.Mode(), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
