package windows

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/upgrader/upgrader/integration/load"
)

// testProxy has clients' connections outlive servers that know nothing of the
// upgrader, and bind their port by themselves.
func testProxy(t *testing.T, w *wine) {
	for _, c := range []struct {
		name     string
		sessions int
		swaps    int
		flags    string
		server   string // options of testdata/peer.cpp
	}{
		{"resume", 40, 10, "", "ends=close lines=1 linger=300"},
		{"drain", 20, 3, "--proxy-policy drain", "ends=close lines=1 linger=300"},
		{"a header for each connection", 20, 3, "--proxy-protocol v2", "ends=close lines=2 linger=300"},
		{"a server that lingers with port and connections", 20, 3, "", "ends=leave lines=1 linger=1500"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			u := w.proxied(t, c.flags, "peer.exe", "lines", c.server)
			k := startTalkers(t, u.address, c.sessions)
			pid := k.awaitOther(0)
			for range c.swaps {
				u.do(0, "restart")
				pid = k.awaitOther(pid)
			}
			k.unharmed()
			u.counts(c.sessions, c.sessions*c.swaps)
			u.stop()
		})
	}
	t.Run("http1", func(t *testing.T) { t.Parallel(); proxiedHTTP(t, w) })
	t.Run("crash", func(t *testing.T) { t.Parallel(); proxiedCrash(t, w) })
	t.Run("mistakes", func(t *testing.T) { t.Parallel(); proxyMistakes(t, w) })
}

// proxied starts an upgrader with a proxy before a server that binds by itself.
func (w *wine) proxied(t *testing.T, flags, program, memory, options string) *upgrader {
	t.Helper()
	dir, port, public, api := w.folder(t), w.port(t), w.port(t), w.port(t)
	u := &upgrader{w: w, state: w.path(w.folder(t)), address: "127.0.0.1:" + public, api: "127.0.0.1:" + api}
	args := []string{"--proxy", u.address + "=127.0.0.1:" + port, "--ask", "events", "--state-dir", u.state,
		"--stop-timeout", "60s", "--probation", "0", "--http", u.api}
	args = append(args, strings.Fields(flags)...)
	if memory != "" {
		memory = clean(t.Name())
		args = append(args, "--dev", "--shm", "section:"+memory)
		options = w.path(filepath.Join(dir, "server.pid")) + " stop=50 port=" + port + " segment=" + memory + " " + options
		options = "asked " + options
	} else {
		options = "-listen 127.0.0.1:" + port + " " + options
	}
	args = append(append(args, "--", w.path(filepath.Join(w.dir, program))), strings.Fields(options)...)
	u.guest = w.start(t, "upgrader.exe", args...)
	u.ready()
	return u
}

// counts wants the proxy to have lost nothing, and the status and the metrics
// to say so.
func (u *upgrader) counts(accepted, resumed int) {
	u.Helper()
	status := u.do(0, "status")
	if row := status.awaitPart("tcp://" + u.address); len(strings.Fields(row)) != 10 {
		u.Errorf("the status has %q", row)
	}
	client := http.Client{Timeout: patience}
	r, err := client.Get("http://" + u.api + "/metrics")
	if err != nil {
		u.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		u.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && strings.HasPrefix(name, "upgrader_proxy_") {
			name, _, _ = strings.Cut(name, "{")
			found[name] = value
		}
	}
	for name, want := range map[string]string{"accepted_total": strconv.Itoa(accepted), "in_flight_total": "0", "reset_total": "0"} {
		if got := found["upgrader_proxy_"+name]; got != want {
			u.Errorf("%s is %q, want %s; all are %v", name, got, want, found)
		}
	}
	if n, err := strconv.Atoi(found["upgrader_proxy_resumed_total"]); err != nil || n < resumed {
		u.Errorf("%d sessions have resumed, want %d; all are %v", n, resumed, found)
	}
}

// proxiedHTTP: no request fails, on connections that stay.
func proxiedHTTP(t *testing.T, w *wine) {
	const swaps = 5
	u := w.proxied(t, "--proxy-policy http1", "web.exe", "", "-linger 300ms")
	l, err := load.Start(load.Config{Address: u.address, Clients: 4, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	more := func() {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := l.AwaitMore(ctx, 20); err != nil {
			t.Fatal(err)
		}
	}
	for range swaps {
		more()
		u.do(0, "restart")
	}
	more()
	r := l.Stop()
	t.Log(r)
	if r.Failed() > 0 || len(r.Generations) != swaps+1 {
		t.Errorf("%d failed, %d processes answered", r.Failed(), len(r.Generations))
	}
	u.counts(4, 0)
	u.stop()
}

// proxiedCrash: clients that have their answers go on at the next process.
func proxiedCrash(t *testing.T, w *wine) {
	u := w.proxied(t, "", "web.exe", "", "")
	client := http.Client{Timeout: patience} // with one connection that stays
	get := func(path string) (string, error) {
		r, err := client.Get("http://" + u.address + path)
		if err != nil {
			return "", err
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		return string(text), err
	}
	first, err := get("/")
	if err != nil {
		t.Fatal(err)
	}
	other := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	if r, err := other.Get("http://" + u.address + "/die"); err == nil {
		_ = r.Body.Close()
		t.Error("who asked for it heard an answer")
	}
	u.awaitPart("\tdied\t")
	u.ready()
	second, err := get("/")
	if err != nil || second == first {
		t.Errorf("%q, then %q: %v", first, second, err)
	}
	client.CloseIdleConnections()
	u.stop()
}

// proxyMistakes are told in a line, with exit code 100.
func proxyMistakes(t *testing.T, w *wine) {
	for said, args := range map[string][]string{
		"on Linux only":          {"--proxy", "127.0.0.1:8080=intercepted"},
		"no unix sockets":        {"--proxy", "127.0.0.1:8080=unix:///x"},
		"--strategy overlap":     {"--proxy", "127.0.0.1:8080=127.0.0.1:8081", "--strategy", "overlap"},
		"TCP_USER_TIMEOUT":       {"--proxy", "127.0.0.1:8080=127.0.0.1:8081", "--proxy-user-timeout", "5s"},
		"no connections to keep": {"--proxy", "udp://127.0.0.1:8080=udp://127.0.0.1:8081"},
	} {
		g := w.start(t, "upgrader.exe", append(args, "--state-dir", w.path(w.folder(t)), "--", "server.exe")...)
		g.awaitPart(said)
		g.end(100)
	}
}
