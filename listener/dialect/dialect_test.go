package dialect

import (
	"slices"
	"strconv"
	"strings"
	"testing"
)

// guest is what most cases are given: two streams, a datagram socket, a path,
// and something that was parked.
func guest() []Lane {
	return []Lane{
		{Claim: "web", Spec: "127.0.0.1:8080", Network: "tcp", Fd: 3},
		{Claim: "", Spec: "tcp6://[::1]:443?backlog=9", Network: "tcp6", Fd: 4},
		{Claim: "dns", Spec: "udp://:53", Network: "udp", Fd: 5},
		{Claim: "local", Spec: "unix:///run/app.sock?mode=0660", Network: "unix", Fd: 6},
		{Claim: "conn", Fd: 7, Stored: true},
	}
}

// said gives the variables as KEY=VALUE, marks as <pid> and <pidfd>.
func said(vs []Variable) []string {
	var out []string
	for _, v := range vs {
		value := v.Value
		if v.Pid {
			value += "<pid>"
		}
		if v.Pidfd {
			value += "<pidfd>"
		}
		out = append(out, v.Key+"="+value)
	}
	return out
}

func TestEnviron(t *testing.T) {
	for name, want := range map[string]struct{ some, none []string }{
		"systemd": {some: []string{"LISTEN_FDS=5", "LISTEN_FDNAMES=web:unknown:dns:local:conn", "LISTEN_PID=<pid>", "LISTEN_PIDFDID=<pidfd>"}},
		"server-starter": {
			some: []string{"SERVER_STARTER_PORT=127.0.0.1:8080=3;[::1]:443=4;53=5;/run/app.sock=6", "SERVER_STARTER_GENERATION=7"},
			none: []string{"SERVER_STARTER_PORT=", "SERVER_STARTER_GENERATION=7"},
		},
		"nginx": {some: []string{"NGINX=3;4;5;6;"}},
		"einhorn": {
			some: []string{"EINHORN_FD_COUNT=4", "EINHORN_FDS=3 4 5 6", "EINHORN_FD_0=3", "EINHORN_FD_1=4", "EINHORN_FD_2=5", "EINHORN_FD_3=6"},
			none: []string{"EINHORN_FD_COUNT=0", "EINHORN_FDS="},
		},
		"gunicorn": {some: []string{"GUNICORN_FD=3,4,6", "GUNICORN_PID=<pid>"}},
		"unicorn":  {some: []string{"UNICORN_FD=3,4,6"}},
		"puma":     {some: []string{"PUMA_INHERIT_0=3:tcp://127.0.0.1:8080", "PUMA_INHERIT_1=4:tcp://[::1]:443", "PUMA_INHERIT_2=6:unix:///run/app.sock"}},
		"catflap":  {some: []string{"LISTEN_FD=3"}},
		"tableflip": {
			some: []string{"TABLEFLIP_HAS_PARENT_7DIU3=yes"},
			none: []string{"TABLEFLIP_HAS_PARENT_7DIU3=yes"},
		},
		"none": {},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := said(d[0].Environ(guest(), 7)); !slices.Equal(got, want.some) {
				t.Errorf("with lanes:\n got %q\nwant %q", got, want.some)
			}
			if got := said(d[0].Environ(nil, 7)); !slices.Equal(got, want.none) {
				t.Errorf("without lanes:\n got %q\nwant %q", got, want.none)
			}
		})
	}
}

// Whatever a claim is called, there are as many names as descriptors.
func TestNamesMatchTheCount(t *testing.T) {
	for _, name := range []string{"", "a:b", ":::", "a\nb", "a\x00b", "é", "a b", "\x7f", strings.Repeat("x", 300)} {
		lanes := []Lane{{Claim: name, Fd: 3}, {Claim: "next", Fd: 4}, {Claim: name, Fd: 5, Stored: true}}
		vs := systemd{}.Environ(lanes, 1)
		names := strings.Split(vs[1].Value, ":")
		if vs[0].Value != strconv.Itoa(len(names)) || names[1] != "next" {
			t.Errorf("%q: %q names for %s descriptors", name, names, vs[0].Value)
		}
		for _, n := range names {
			if n == "" || len(n) > 255 || strings.ContainsFunc(n, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
				t.Errorf("%q became %q, which systemd refuses", name, n)
			}
		}
	}
}

func TestStarterNames(t *testing.T) {
	for _, c := range []struct{ network, spec, want string }{
		{"tcp", "8080", "8080"},
		{"tcp", ":8080", "8080"},
		{"tcp", "0.0.0.0:8080", "0.0.0.0:8080"},
		{"tcp", "localhost:80", "localhost:80"},
		{"tcp", "[::1]:80", "[::1]:80"},
		{"tcp", "[::]:80", "[::]:80"},
		{"tcp4", "tcp4://127.0.0.1:0", "127.0.0.1:0"},
		{"tcp", "tcp://:80?backlog=3", "80"},
		{"udp", "u443", "443"},
		{"udp", "127.0.0.1:u443", "127.0.0.1:443"},
		{"udp", "udp://127.0.0.1:443", "127.0.0.1:443"},
		{"unix", "/run/a b.sock", "/run/a b.sock"},
		{"unix", "unix:/run/a.sock", "/run/a.sock"},
		{"unix", "unix:///run/a.sock?mode=0600&user=www", "/run/a.sock"},
		{"unix", "run/a:1.sock", "run/a:1.sock"},
	} {
		if got := starterName(Lane{Network: c.network, Spec: c.spec}); got != c.want {
			t.Errorf("%s %q: got %q, want %q", c.network, c.spec, got, c.want)
		}
	}
}

func TestFlipNames(t *testing.T) {
	got := FlipNames(append(guest(), Lane{Spec: "8080", Network: "tcp", Fd: 9}))
	want := [][]string{
		{"listener", "tcp", "127.0.0.1:8080"}, {"listener", "tcp6", "[::1]:443"}, {"packet", "udp", ":53"}, {"listener", "unix", "/run/app.sock"}, {"listener", "tcp", ":8080"},
	}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestPumaURLs(t *testing.T) {
	for _, c := range []struct{ network, spec, want string }{
		{"tcp", "8080", "tcp://0.0.0.0:8080"},
		{"tcp6", "tcp6://:8080", "tcp://[::]:8080"},
		{"tcp", "localhost:80", "tcp://localhost:80"},
		{"unix", "/run/a.sock", "unix:///run/a.sock"},
	} {
		if got := pumaURL(Lane{Network: c.network, Spec: c.spec}); got != c.want {
			t.Errorf("%q: got %q, want %q", c.spec, got, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	for list, want := range map[string]string{
		"systemd,server-starter":       "systemd,server-starter",
		" nginx , einhorn ":            "nginx,einhorn",
		"puma,puma,unicorn":            "puma,unicorn",
		"none":                         "none",
		strings.Join(Names()[:8], ","): strings.Join(Names()[:8], ","),
	} {
		d, err := Parse(list)
		if err != nil {
			t.Errorf("%q: %v", list, err)
			continue
		}
		var names []string
		for _, d := range d {
			names = append(names, d.Name())
		}
		if got := strings.Join(names, ","); got != want {
			t.Errorf("%q: got %q, want %q", list, got, want)
		}
	}
	for _, list := range []string{"", "sytemd", "systemd,", "none,systemd", "tableflip,systemd", "systemd;nginx"} {
		_, err := Parse(list)
		if err == nil {
			t.Errorf("%q was accepted", list)
			continue
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: more than one line: %v", list, err)
		}
		if !strings.Contains(err.Error(), "none cannot") && !strings.Contains(err.Error(), "where tableflip") {
			for _, name := range Names() {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%q: the error does not name %s: %v", list, name, err)
				}
			}
		}
	}
}

func TestCheck(t *testing.T) {
	all, err := Parse(strings.Join(Names()[:8], ","))
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(all, guest()); err != nil {
		t.Error(err)
	}
	odd := []Lane{{Spec: "/run/a=b.sock", Network: "unix", Fd: 3}, {Spec: "/run/a.sock", Network: "unix", Fd: 4}}
	if err := Check(all, odd); err == nil || !strings.Contains(err.Error(), "server-starter") {
		t.Errorf("a path with '=': got %v", err)
	}
	if got := (serverStarter{}).Environ(odd, 1)[0].Value; got != "/run/a.sock=4" {
		t.Errorf("what cannot be said was not left out: %q", got)
	}
}

func TestClear(t *testing.T) {
	env := []string{
		"PATH=/bin", "LISTEN_PID=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b", "LISTEN_PIDFDID=7", "LISTEN_FDS_FIRST_FD=3",
		"TABLEFLIP_HAS_PARENT_7DIU3=yes", "SERVER_STARTER_PORT=80=3", "LISTEN_FD=9", "NGINX=/usr/sbin/nginx",
		"PUMA_INHERIT_0=3:tcp://x", "PUMA_INHERIT_12=4:tcp://y", "PUMA_INHERIT_X=kept", "PUMA_INHERIT_=kept",
		"EINHORN_FD_3=3", "EINHORN_FD_COUNT=1", "LISTEN_PORT=kept", "=odd", "bare",
	}
	for list, want := range map[string][]string{
		"none": {"PATH=/bin", "LISTEN_FD=9", "NGINX=/usr/sbin/nginx", "PUMA_INHERIT_0=3:tcp://x", "PUMA_INHERIT_12=4:tcp://y",
			"PUMA_INHERIT_X=kept", "PUMA_INHERIT_=kept", "EINHORN_FD_3=3", "EINHORN_FD_COUNT=1", "LISTEN_PORT=kept", "=odd", "bare"},
		"puma,einhorn,nginx,catflap": {"PATH=/bin", "PUMA_INHERIT_X=kept", "PUMA_INHERIT_=kept", "LISTEN_PORT=kept", "=odd", "bare"},
	} {
		d, err := Parse(list)
		if err != nil {
			t.Fatal(err)
		}
		before := slices.Clone(env)
		if got := Clear(env, d); !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", list, got, want)
		}
		if !slices.Equal(env, before) {
			t.Fatalf("%s: the caller's environment was changed", list)
		}
	}
}

// Every dialect clears what it says itself: a value of an earlier life never
// survives beside it.
func TestEveryDialectClearsWhatItSays(t *testing.T) {
	for _, d := range known() {
		for _, v := range d.Environ(guest(), 1) {
			if left := Clear([]string{v.Key + "=old"}, []Dialect{d}); len(left) > 0 {
				t.Errorf("%s sets %s and does not clear it", d.Name(), v.Key)
			}
		}
		if left := Clear([]string{"TABLEFLIP_HAS_PARENT_7DIU3=yes"}, []Dialect{d}); len(left) > 0 {
			t.Errorf("%s lets tableflip's variable through", d.Name())
		}
		if !slices.Contains(d.Clears(), "TABLEFLIP_HAS_PARENT_7DIU3") {
			t.Errorf("%s: Clears does not name tableflip's variable", d.Name())
		}
	}
}
