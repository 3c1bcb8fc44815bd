package windows

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// testMisbehaving runs unmodified servers with every bad habit that was found
// against our asking side, which maps the memory before it asks, as a parent
// that holds it does. Whatever they do, the memory is kept, and nobody writes
// beside a server that still does.
func testMisbehaving(t *testing.T, w *wine) {
	tests := []struct {
		name   string
		server string   // options of the server
		asking []string // options of ours
		meant  func(t *testing.T, s *guest)
		during func(t *testing.T, s, a *guest)
		says   []string // lines of ours, in order
	}{
		{name: "none", says: []string{"result confirmed saved", "data kept, foreign 0"}},
		{name: "stops for longer than allowed", server: "stop=4000 limit=1000",
			says: []string{"result confirmed saved", "data kept, foreign 0"}},
		{name: "ignores Kill", server: "mode=ignore", asking: []string{"-confirm", "300ms"},
			during: func(_ *testing.T, s, a *guest) { a.await("event unnoticed"); s.kill() },
			says:   []string{"result exited unsaved", "data kept, foreign 0"}},
		{name: "dies without confirming", server: "mode=silent",
			says: []string{"event exited", "result exited unsaved", "data kept, foreign 0"}},
		{name: "confirms late", server: "late=1500", asking: []string{"-confirm", "300ms"},
			says: []string{"event deadline", "result confirmed saved", "data kept, foreign 0"}},
		{name: "crashes after confirming", server: "mode=crash", asking: []string{"-open", "100ms"},
			says: []string{"result confirmed saved", "data kept, foreign 0"}},
		{name: "does not linger", server: "linger=0 hold=0", asking: []string{"-open", "200ms"},
			says: []string{"result confirmed saved", "data kept, foreign 0"}},
		{name: "confirms for another", server: "mode=wrong linger=500",
			says: []string{"event exited", "result exited saved", "data kept, foreign 0"}},
		{name: "does not say that it saved", server: "mode=unmarked linger=500",
			says: []string{"event doubted", "result exited unsaved", "data kept, foreign 0"}},
		{name: "closes its confirmation at once", server: "stop=0 hold=0",
			says: []string{"result confirmed saved", "data kept, foreign 0"}},
		{name: "looks rarely", server: "poll=300",
			says: []string{"result confirmed saved", "data kept, foreign 0"}},
		{name: "listens in the global name space", server: `prefix=Global\`,
			says: []string{"result confirmed saved", "data kept, foreign 0"}},
		{name: "file-backed, dies", server: "mode=silent file=FILE",
			says: []string{"result exited unsaved", "data kept, foreign 0"}},
		{name: "file-backed, crashes", server: "mode=crash file=FILE", asking: []string{"-open", "100ms"},
			says: []string{"result confirmed saved", "data kept, foreign 0"}},
		{name: "keeps its port", server: "port=PORT", asking: []string{"-listen", "127.0.0.1:PORT"},
			says: []string{"result confirmed saved", "data kept, foreign 0", "listening"}},
		{name: "confirmation set before", server: "stop=500",
			meant: func(t *testing.T, s *guest) { squatter(t, w, s) },
			says:  []string{"event stale", "result confirmed saved", "data kept, foreign 0"}},
		{name: "two at once", server: "stop=2000",
			during: func(t *testing.T, s, a *guest) {
				s.await("stopping")
				second := w.ask(t, "Go", s)
				second.await("error")
				second.end(1)
			},
			says: []string{"result confirmed saved", "data kept, foreign 0"}},
		{name: "nobody has the id",
			meant: func(t *testing.T, s *guest) { s.kill(); s.writePid("1000000000") },
			says:  []string{"result nobody"}},
		{name: "the id is another's", meant: func(t *testing.T, s *guest) {
			text, err := os.ReadFile(s.pidFile)
			if err != nil {
				t.Fatal(err)
			}
			meta := fmt.Sprintf(`{"pid":%s,"created":"2001-02-03T04:05:06Z"}`, text)
			if err := os.WriteFile(s.pidFile+".meta", []byte(meta), 0o644); err != nil {
				t.Fatal(err)
			}
		}, says: []string{"result nobody"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir, segment := w.folder(t), clean(t.Name())
			fill := strings.NewReplacer("FILE", w.path(filepath.Join(dir, "memory")), "PORT", w.port(t))
			pidFile := filepath.Join(dir, "server.pid")
			options := strings.Fields("segment=" + segment + " stop=100 linger=1000 " + fill.Replace(test.server))
			s := w.start(t, "peer.exe", append([]string{"asked", w.path(pidFile)}, options...)...)
			s.pidFile = pidFile
			s.await("ready")
			if test.meant != nil {
				test.meant(t, s)
			}
			args := []string{"-segment", segment}
			for _, arg := range test.asking {
				args = append(args, fill.Replace(arg))
			}
			a := w.ask(t, "Go", s, args...)
			if test.during != nil {
				test.during(t, s, a)
			}
			for _, line := range test.says {
				a.await(line)
			}
		})
	}
}

// squatter is a stranger that has set the confirmation before anybody asked.
func squatter(t *testing.T, w *wine, s *guest) {
	w.start(t, "peer.exe", "squat", w.path(s.pidFile)).await("squatting")
}

func (g *guest) writePid(text string) {
	if err := os.WriteFile(g.pidFile, []byte(text), 0o644); err != nil {
		g.Fatal(err)
	}
}

// port is one that nobody else of this test gets and that the system does not
// give out by itself.
func (w *wine) port(t *testing.T) string {
	for range 1000 {
		port := strconv.Itoa(25000 + int(w.ports.Add(1)+int32(os.Getpid()%100)*50)%7000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return ""
}
