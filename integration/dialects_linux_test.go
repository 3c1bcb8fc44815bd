package integration

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/upgrader/upgrader/integration/load"
)

// What a worker of einhorn does to say that it has come up, by Ruby's standard
// library alone.
const einhornServer = `
require 'socket'
require 'yaml'
raise "EINHORN_MASTER_PID is not our parent" unless ENV['EINHORN_MASTER_PID'].to_i == Process.ppid
server = TCPServer.for_fd(Integer(ENV['EINHORN_FD_0']))
trap('TERM') { exit 0 }
UNIXSocket.open(ENV['EINHORN_SOCK_PATH']) do |s|
  s.write(YAML.dump('command' => 'worker:ack', 'pid' => Process.pid).gsub(/%|\n/, '%' => '%25', "\n" => '%0A') + "\n")
end
loop do
  client = server.accept
  while (line = client.gets) && line != "\r\n"; end
  body = "gen=#{ENV['UPGRADER_GENERATION']} pid=#{Process.pid}\n"
  client.write("HTTP/1.1 200 OK\r\nContent-Length: #{body.bytesize}\r\nConnection: close\r\n\r\n#{body}")
  client.close
end
`

const pumaConfig = `
threads 1, 4
environment 'production'
app { |env| [200, {'Content-Type' => 'text/plain'}, ["gen=#{ENV['UPGRADER_GENERATION']} pid=#{Process.pid}\n"]] }
`

const rackApp = `
run lambda { |_| [200, {'content-type' => 'text/plain'}, ["gen=#{ENV['UPGRADER_GENERATION']} pid=#{Process.pid}\n"]] }
`

// Servers of others, unmodified, that are handed their socket in a dialect of
// their own.
func TestDialects(t *testing.T) {
	killed := 128 + int(syscall.SIGTERM)
	for _, c := range []struct {
		name    string
		tools   []string
		flags   []string
		command func(s *scratch, a string) []string
		exit    int
	}{
		{name: "tableflip", flags: []string{"--dialect", "tableflip", "--ready", "notify"}, command: func(_ *scratch, a string) []string { return []string{flipBinary(), a} }},
		{name: "gunicorn", tools: []string{"gunicorn"}, flags: []string{"--dialect", "gunicorn"}, command: func(s *scratch, a string) []string {
			s.write(t, "app.py", wsgiServer, 0o644)
			return []string{"gunicorn", "--chdir", s.dir, "--workers", "2", "--worker-tmp-dir", s.dir, "--bind", a, "app:application"}
		}},
		{name: "puma", tools: []string{"puma"}, flags: []string{"--dialect", "puma"}, exit: killed, command: func(s *scratch, a string) []string {
			return []string{"puma", "-C", s.write(t, "puma.rb", pumaConfig, 0o644), "-b", "tcp://" + a}
		}},
		{name: "unicorn", tools: []string{"unicorn"}, flags: []string{"--dialect", "unicorn", "--stop-signal", "QUIT"}, command: func(s *scratch, a string) []string {
			s.write(t, "config.ru", rackApp, 0o644)
			return []string{"unicorn", "-E", "none", "-l", a, "-c", s.write(t, "unicorn.rb", "worker_processes 2\n", 0o644), s.path("config.ru")}
		}},
		{name: "einhorn, with its ack", tools: []string{"ruby"}, flags: []string{"--dialect", "einhorn", "--ready", "notify"}, command: func(s *scratch, _ string) []string {
			return []string{"ruby", s.write(t, "worker.rb", einhornServer, 0o644)}
		}},
		{name: "einhorn", flags: []string{"--dialect", "einhorn"}, command: func(*scratch, string) []string {
			return []string{guestBinary(), "-dialect", "einhorn", "-http", "env"}
		}},
		{name: "catflap", flags: []string{"--dialect", "catflap"}, command: func(*scratch, string) []string {
			return []string{guestBinary(), "-dialect", "listen-fd", "-http", "env"}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			need(t, c.tools...)
			s := newScratch(t, 0)
			a := address(t)
			u := start(t, options{scratch: s, flags: append([]string{"--listen", a, "--retry-interval", "1s"}, c.flags...), command: c.command(s, a)})
			u.awaitServing()
			l := startLoad(t, load.Config{Address: a, Clients: 8, PerConnection: 1, Rate: 300})
			u.swapUnder(l, amount("INTEGRATION_SWAPS", 2), 20)
			lossless(t, c.name, l)
			u.awaitAlone()
			u.mustShutdown(c.exit)
		})
	}
}

// A server that no longer says that it lives is ended and started again; one
// that does is left alone.
func TestWatchdog(t *testing.T) {
	a := address(t)
	u := start(t, options{
		flags:   []string{"--listen", a, "--watchdog", "2s", "--retry-interval", "10ms", "--retry-max", "100"},
		command: []string{guestBinary(), "-http", "env", "-notify", "-beats", "3"},
	})
	u.await("it was started again", func(s statusReport) error {
		if s.Restarts == 0 || s.serving() < 2 {
			return fmt.Errorf("restarts %d, generation %d", s.Restarts, s.serving())
		}
		return nil
	})
	if text, err := os.ReadFile(u.log); err != nil || !strings.Contains(string(text), "no WATCHDOG=1 came within 2s") {
		t.Errorf("the log does not say why: %v", err)
	}
	u.signal(syscall.SIGTERM)
	u.wait() // as the server ended: it may have been about to be aborted
}

// Upward: READY=1 and WATCHDOG=1 for a service manager, as long as we live.
func TestUpward(t *testing.T) {
	s := newScratch(t, 0)
	path := s.path("systemd.sock")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }() // only read
	_ = c.SetReadDeadline(time.Now().Add(patience))
	u := start(t, options{
		scratch: s, env: []string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=200000"},
		flags: []string{"--listen", address(t)}, command: []string{guestBinary(), "-http", "env"},
	})
	seen := map[string]int{}
	for buf := make([]byte, 4096); seen["READY=1"] == 0 || seen["WATCHDOG=1"] < 3; {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%v; heard %v", err, seen)
		}
		for line := range strings.SplitSeq(string(buf[:n]), "\n") {
			seen[line]++
		}
	}
	u.awaitServing()
	u.mustCleanShutdown()
}
