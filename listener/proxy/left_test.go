package proxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// A server has left and lingers, with its connections: what it said is delivered, and its clients go on at the
// successor. One that never got its answer is reset, as when the server had died.
func TestServerThatLingers(t *testing.T) {
	for _, policy := range []Policy{PolicyResume, PolicyDrain} {
		t.Run(policy.String(), func(t *testing.T) {
			said := strings.Repeat("y", 200<<10)
			leaves, told := make(chan struct{}), make(chan struct{})
			from := newServer(t, 1, func(s *server, c net.Conn) {
				line := hearOne(c)
				_, _ = io.WriteString(c, "1 "+line+"\n") // the client tells
				if line == "speak" {
					<-leaves
					_, _ = io.WriteString(c, said+"\n") // likewise
					told <- struct{}{}
				}
				hearOne(c) // "lost"
				<-s.quit
			})
			to := newServer(t, 2, lines)
			p := started(t, Config{Policy: policy})
			p.Serve(from.backend())
			quiet, speaks, lost := connect(t, p), connect(t, p), connect(t, p)
			for c, line := range map[net.Conn]string{quiet: "hello", speaks: "speak", lost: "hello"} {
				if got := ask(t, c, line); got != "1 "+line {
					t.Fatalf("answer %q", got)
				}
			}
			if _, err := io.WriteString(lost, "lost\n"); err != nil {
				t.Fatal(err)
			}
			await(t, "what is lost was sent", func() bool { return p.Stats().BytesUp == int64(len("hello\nspeak\nhello\nlost\n")) })
			await(t, "those that were answered are quiet", func() bool {
				o, err := p.Drain(t.Context(), Settle{Quiet: 5 * time.Millisecond, Max: 200 * time.Millisecond})
				return err == nil && o.Done == 2 && o.Stayed == 1
			})
			for _, c := range []net.Conn{quiet, speaks} {
				if _, err := io.WriteString(c, "after\n"); err != nil { // held
					t.Fatal(err)
				}
			}
			close(leaves)
			heard := make(chan string, 1)
			go func() { heard <- hearOne(speaks) }()
			<-told
			p.Left(func(generation int) bool { return generation == 1 })
			await(t, "they have left", func() bool { n := p.Stats(); return n.Parked == 2 && n.Sessions == 2 })
			if got := <-heard; got != said {
				t.Errorf("the last words have %d bytes, want %d", len(got), len(said))
			}
			p.Serve(to.backend())
			p.Resume()
			for _, c := range []net.Conn{quiet, speaks} {
				if got := hear(t, c); got != "2 after" {
					t.Errorf("answer %q", got)
				}
			}
			if how := ended(lost); how != "reset" {
				t.Errorf("the client without an answer: %s", how)
			}
			if n := p.Stats(); n.Resumed != 2 || n.InFlight != 1 || n.Reset != 1 {
				t.Errorf("%+v", n)
			}
		})
	}
}

// hearOne reads one line, or as much of it as there is. Nothing may follow it yet.
func hearOne(c net.Conn) string {
	line, _ := bufio.NewReader(c).ReadString('\n') // what there is
	return strings.TrimSuffix(line, "\n")
}
