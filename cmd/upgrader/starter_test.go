package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/upgrader/upgrader/upgrader"
)

func TestParseStarter(t *testing.T) {
	text := func(s string) *string { return &s }
	span := func(d time.Duration) *seconds { n := seconds(d); return &n }
	for _, row := range []struct {
		args string
		want starter
		err  string // part of it; "": none
	}{
		{"--port 80 --port=[::1]:81 --path /s -- srv -x --port 9", starter{ports: []string{"80", "[::1]:81"}, paths: []string{"/s"}, command: []string{"srv", "-x", "--port", "9"}}, ""},
		{"-port 80 srv", starter{ports: []string{"80"}, command: []string{"srv"}}, ""},
		{"srv --PORT 80 arg", starter{ports: []string{"80"}, command: []string{"srv", "arg"}}, ""},
		{"--interval 2 --kill-old-delay=0 --auto-restart-interval 1m -- srv", starter{interval: span(2 * time.Second), killDelay: span(0), autoEvery: span(time.Minute), command: []string{"srv"}}, ""},
		{"--int=0.5 --ena --envd= - srv", starter{interval: span(500 * time.Millisecond), auto: true, envdir: text(""), command: []string{"-", "srv"}}, ""},
		{"--signal-on-hup USR1 --signal-on-term=SIGQUIT --backlog 7 --dir /d -- srv", starter{hup: "USR1", term: "SIGQUIT", backlog: 7, dir: "/d", command: []string{"srv"}}, ""},
		{"--daemonize --log-file /l --pid-file /p --status-file /s srv", starter{daemonize: true, logFile: "/l", pidFile: "/p", statusFile: "/s", command: []string{"srv"}}, ""},
		{"--stop --pid-file /p", starter{mode: starterStop, pidFile: "/p"}, ""},
		{"--restart --pid /p --status /s", starter{mode: starterRestart, pidFile: "/p", statusFile: "/s"}, ""},
		{"--stop --restart --version --help", starter{mode: starterHelp}, ""},
		{"--restart --stop --pid-file /p --status-file /s", starter{mode: starterRestart, pidFile: "/p", statusFile: "/s"}, ""},
		{"--version", starter{mode: starterTell}, ""},

		{"", starter{}, "server program not specified"},
		{"--", starter{}, "server program not specified"},
		{"--daemonize srv", starter{}, "--log-file"},
		{"--stop", starter{}, "--pid-file"},
		{"--restart --pid-file /p", starter{}, "--status-file"},
		{"--signal TERM srv", starter{}, "ambiguous (signal-on-hup, signal-on-term)"},
		{"--nonsense srv", starter{}, "unknown option: nonsense"},
		{"--stop=1", starter{}, "does not take"},
		{"srv --port", starter{}, "port requires"},
		{"--interval soon srv", starter{}, "interval"},
		{"--interval -1 srv", starter{}, "interval"},
		{"--backlog many srv", starter{}, "backlog"},
	} {
		got, err := parseStarter(strings.Fields(row.args))
		switch {
		case row.err == "" && err != nil:
			t.Errorf("%q: %v", row.args, err)
		case row.err != "" && (err == nil || !strings.Contains(err.Error(), row.err)):
			t.Errorf("%q: error %v, want %s", row.args, err, row.err)
		case row.err == "" && !reflect.DeepEqual(*got, row.want):
			t.Errorf("%q: %+v, want %+v", row.args, *got, row.want)
		}
	}
}

func TestStarterPort(t *testing.T) {
	for _, row := range []struct {
		spec, network, host, name string
		port, fd                  int
	}{
		{"8080", "tcp4", "", "8080", 8080, -1},
		{" 8080 ", "tcp4", "", "8080", 8080, -1},
		{"8080=3", "tcp4", "", "8080", 8080, 3},
		{"8080 =0", "tcp4", "", "8080", 8080, 0},
		{"u443", "udp4", "", "443", 443, -1},
		{"u443=9", "udp4", "", "443", 443, 9},
		{"127.0.0.1:80", "tcp4", "127.0.0.1", "127.0.0.1:80", 80, -1},
		{"127.0.0.1:u80=4", "udp4", "127.0.0.1", "127.0.0.1:80", 80, 4},
		{"localhost:80", "tcp4", "localhost", "localhost:80", 80, -1},
		{"[::1]:80", "tcp6", "::1", "[::1]:80", 80, -1},
		{"::1:80", "tcp6", "::1", "[::1]:80", 80, -1},
		{"[::1]:u80=5", "udp6", "::1", "[::1]:80", 80, 5},
		{"[127.0.0.1]:80", "tcp4", "127.0.0.1", "127.0.0.1:80", 80, -1},
		{"0", "tcp4", "", "0", 0, -1},
	} {
		a, fd, err := parsePort(row.spec, 5)
		if err != nil {
			t.Errorf("%q: %v", row.spec, err)
			continue
		}
		if a.Network != row.network || a.Host != row.host || a.Spec != row.name || a.Port != row.port || fd != row.fd {
			t.Errorf("%q: %+v, descriptor %d, want %+v", row.spec, a, fd, row)
		}
		if want := map[bool]int{true: 0, false: 5}[strings.HasPrefix(row.network, "udp")]; a.Backlog != want {
			t.Errorf("%q: backlog %d, want %d", row.spec, a.Backlog, want)
		}
	}
	for _, spec := range []string{"", "http", ":80", "host", "host:", "host:http", "70000", "host:70000", "80=", "80=x", "80=99999999", "-1", "u", "tcp://host:80/"} {
		if a, _, err := parsePort(spec, 0); err == nil {
			t.Errorf("%q: %+v, want an error", spec, a)
		}
	}
}

func TestStarterPath(t *testing.T) {
	a, err := parsePath("./run/../s.sock", 3)
	if err != nil || a.Spec != "./run/../s.sock" || !strings.HasSuffix(a.Path, "/s.sock") || a.Path[0] != '/' || a.Mode != 0o777 || a.Backlog != 3 {
		t.Errorf("%+v, %v", a, err)
	}
	for _, path := range []string{"", "/", "/a;b", "/a=b", "/a?b", "unix:/a", "/" + strings.Repeat("x", 200)} {
		if a, err := parsePath(path, 0); err == nil {
			t.Errorf("%q: %+v, want an error", path, a)
		}
	}
}

func TestStarterEnv(t *testing.T) {
	for _, row := range []struct {
		args   string
		called []string
		auto   bool
		every  time.Duration
		delay  time.Duration
		dir    string
	}{
		{"srv", nil, false, 0, 0, ""},
		{"--enable-auto-restart srv", nil, true, 360 * time.Second, 5 * time.Second, ""},
		{"--enable-auto-restart --auto-restart-interval 9 --kill-old-delay 2 srv", nil, true, 9 * time.Second, 2 * time.Second, ""},
		{"--kill-old-delay 3 srv", []string{"KILL_OLD_DELAY=7"}, false, 0, 3 * time.Second, ""},
		{"srv", []string{"ENABLE_AUTO_RESTART=1", "AUTO_RESTART_INTERVAL=4", "KILL_OLD_DELAY=7"}, true, 4 * time.Second, 7 * time.Second, ""},
		{"srv", []string{"ENABLE_AUTO_RESTART=0", "KILL_OLD_DELAY="}, false, 0, 0, ""},
		{"srv", []string{"ENVDIR=/nowhere"}, false, 0, 0, "/nowhere"},
		{"--envdir /elsewhere srv", []string{"ENVDIR=/nowhere"}, false, 0, 0, "/elsewhere"},
	} {
		s, err := parseStarter(strings.Fields(row.args))
		if err != nil {
			t.Fatal(err)
		}
		e := s.environ(row.called)
		if auto, every := e.auto(); auto != row.auto || every != row.every {
			t.Errorf("%q with %q: auto %v every %v, want %v %v", row.args, row.called, auto, every, row.auto, row.every)
		}
		if got := e.killOldDelay(); got != row.delay {
			t.Errorf("%q with %q: delay %v, want %v", row.args, row.called, got, row.delay)
		}
		if e.dir != row.dir {
			t.Errorf("%q with %q: directory %q, want %q", row.args, row.called, e.dir, row.dir)
		}
		if row.dir != "" && !slices.Contains(e.base, "ENVDIR="+row.dir) {
			t.Errorf("%q with %q: the server finds %q", row.args, row.called, e.base)
		}
	}
}

func TestStarterNames(t *testing.T) {
	for name, want := range map[string]bool{"start_server": true, "/usr/bin/start_server": true, "./start_server.exe": true, "upgrader": false, "start_server2": false, "": false} {
		if calledStarter(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
	for spec, want := range map[string]string{"| logger -t x": "logger -t x", "  |cat": "cat", "/var/log/x": "", "a|b": ""} {
		if got, piped := pipedTo(spec); piped != (want != "") || piped && got != want {
			t.Errorf("%q: %q, %v", spec, got, piped)
		}
	}
}

func TestAutoRestartDue(t *testing.T) {
	s, err := parseStarter([]string{"--enable-auto-restart", "--auto-restart-interval", "10", "srv"})
	if err != nil {
		t.Fatal(err)
	}
	a := newAutoRestart(s.environ(nil))
	began := time.Unix(1000, 0)
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	if a.due(at(100)) {
		t.Error("before anything came up")
	}
	a.saw(event("ready", 1, began))
	if a.due(at(9)) {
		t.Error("too early")
	}
	if !a.due(at(10)) {
		t.Error("not in time")
	}
	if a.due(at(11)) {
		t.Error("twice")
	}
	a.saw(event("ready", 2, at(12)))
	if a.due(at(23)) {
		t.Error("while the predecessor is left")
	}
	if !a.due(at(32)) {
		t.Error("not though it is twice as old")
	}
	a.saw(event("gone", 1, at(33)))
	if !a.due(at(42)) {
		t.Error("not after the predecessor left")
	}
}

func event(what string, generation int, at time.Time) upgrader.Event {
	return upgrader.Event{What: what, Generation: generation, Time: at}
}
