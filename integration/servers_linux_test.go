package integration

import (
	"fmt"
	"os/exec"
	"syscall"
	"testing"

	"github.com/upgrader/upgrader/integration/load"
)

// Servers as their distributors ship them: nothing in them knows of us, they
// bind their port by themselves.

// Without a handler node dies of TERM on the spot.
const nodeServer = `
const http = require('http');
const generation = process.env.UPGRADER_GENERATION || '0';
http.createServer((request, response) => {
  response.end('gen=' + generation + ' pid=' + process.pid + '\n');
}).listen({host: '127.0.0.1', port: Number(process.argv[2])});
`

const wsgiServer = `
import os


def application(environ, start_response):
    body = f"gen={os.environ.get('UPGRADER_GENERATION', '0')} pid={os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
`

const pythonServer = `
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"gen={os.environ.get('UPGRADER_GENERATION', '0')} pid={os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
`

// nginxConfig has no way to tell the generation: its answers count as 0.
func nginxConfig(dir string, port int, more string) string {
	return fmt.Sprintf(`
daemon off;
pid %[1]s/nginx.pid;
error_log stderr warn;
worker_processes 2;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
    server {
        listen 127.0.0.1:%[2]d%[3]s;
        location / { return 200 "pid=$pid\n"; }
    }
}
`, dir, port, more)
}

// foreign is a server of somebody else in one scenario.
type foreign struct {
	name    string
	tools   []string
	command func(t *testing.T, s *scratch, port int) []string
	flags   []string
	exit    int  // at a full stop
	silent  bool // its answers do not tell the generation
}

func node(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"node", "nodejs"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("needs node")
	return ""
}

func foreignServers() []foreign {
	killed := 128 + int(syscall.SIGTERM)
	return []foreign{
		{
			name: "node", exit: killed,
			command: func(t *testing.T, s *scratch, port int) []string {
				return []string{node(t), s.write(t, "server.js", nodeServer, 0o644), fmt.Sprint(port)}
			},
		},
		{
			name: "python", tools: []string{"/usr/bin/python3"}, exit: killed,
			command: func(t *testing.T, s *scratch, port int) []string {
				return []string{"/usr/bin/python3", s.write(t, "server.py", pythonServer, 0o644), fmt.Sprint(port)}
			},
		},
		{
			name: "nginx", tools: []string{"nginx"}, silent: true, flags: []string{"--stop-signal", "QUIT"},
			command: func(t *testing.T, s *scratch, port int) []string {
				return []string{"nginx", "-e", "stderr", "-c", s.write(t, "nginx.conf", nginxConfig(s.dir, port, ""), 0o644)}
			},
		},
		{
			name: "nginx with reuseport", tools: []string{"nginx"}, silent: true, flags: []string{"--stop-signal", "QUIT"},
			command: func(t *testing.T, s *scratch, port int) []string {
				return []string{"nginx", "-e", "stderr", "-c", s.write(t, "nginx.conf", nginxConfig(s.dir, port, " reuseport"), 0o644)}
			},
		},
		{
			name: "gunicorn", tools: []string{"gunicorn"},
			command: func(t *testing.T, s *scratch, port int) []string {
				s.write(t, "app.py", wsgiServer, 0o644)
				return []string{"gunicorn", "--chdir", s.dir, "--workers", "2", "--worker-tmp-dir", s.dir, "--bind", fmt.Sprintf("127.0.0.1:%d", port), "app:application"}
			},
		},
		{
			name: "uwsgi", tools: []string{"uwsgi"},
			command: func(t *testing.T, s *scratch, port int) []string {
				return []string{
					"uwsgi", "--plugin", "python3", "--http-socket", fmt.Sprintf("127.0.0.1:%d", port), "--master", "--processes", "2",
					"--wsgi-file", s.write(t, "app.py", wsgiServer, 0o644), "--die-on-term", "--disable-logging",
				}
			},
		},
	}
}

func TestForeignServers(t *testing.T) {
	for _, c := range foreignServers() {
		t.Run(c.name, func(t *testing.T) {
			need(t, c.tools...)
			s := newScratch(t, 0)
			p := port(t)
			a := fmt.Sprintf("127.0.0.1:%d", p)
			u := start(t, options{scratch: s, flags: c.flags, command: c.command(t, s, p)})
			u.awaitServing()
			l := startLoad(t, load.Config{Address: a, Clients: 16, PerConnection: 1, Rate: 500})
			swaps := amount("INTEGRATION_SWAPS", 50)
			for range swaps {
				generation := u.swap()
				if !c.silent {
					awaitGeneration(t, l, generation)
				}
				awaitMore(t, l, 50)
				u.awaitAlone()
			}
			lossless(t, fmt.Sprintf("%d swaps", swaps), l)
			u.mustShutdown(c.exit)
		})
	}
}
