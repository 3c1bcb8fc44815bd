package main

import (
	"context"
	"fmt"
	"os/exec"
)

const nodeRude = `
const http = require('http');
http.createServer((request, response) => {
  response.end('gen=' + (process.env.UPGRADER_GENERATION || '0') + ' pid=' + process.pid + '\n');
}).listen(8080, '127.0.0.1');
`

const nodeGraceful = `
const http = require('http');
const server = http.createServer((request, response) => {
  response.end('gen=' + (process.env.UPGRADER_GENERATION || '0') + ' pid=' + process.pid + '\n');
});
server.listen(8080, '127.0.0.1');
process.on('SIGTERM', () => server.close(() => process.exit(0)));
`

const haproxyConfig = `
global
  maxconn 256
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
frontend f
  bind 127.0.0.1:8080
  http-request return status 200 content-type text/plain string "served\n"
`

// nginxConfig for the given directives, and options of listen.
func nginxConfig(p place, directives, listen string) string {
	return fmt.Sprintf(`
%[2]s
pid %[1]s/nginx.pid;
worker_processes 2;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
    server {
        listen 127.0.0.1:8080%[3]s;
        location / { return 200 "pid=$pid\n"; }
    }
}
`, p.dir, directives, listen)
}

func nginx(name, signal, directives, listen string) server {
	return server{
		name: name, signal: signal, tools: []string{"nginx"}, version: []string{"nginx", "-v"},
		command: func(_ context.Context, p place) ([]string, error) {
			path, err := p.write("nginx.conf", nginxConfig(p, directives, listen))
			return []string{find("nginx"), "-e", "stderr", "-c", path}, err
		},
	}
}

func node(name, text string) server {
	return server{
		name: name, tools: []string{"node"}, version: []string{"node", "--version"},
		command: func(_ context.Context, p place) ([]string, error) {
			path, err := p.write("server.js", text)
			return []string{find("node"), path}, err
		},
	}
}

func haproxy(name, signal string) server {
	return server{
		name: name, signal: signal, tools: []string{"haproxy"}, version: []string{"haproxy", "-v"},
		command: func(_ context.Context, p place) ([]string, error) {
			path, err := p.write("haproxy.cfg", haproxyConfig)
			return []string{find("haproxy"), "-db", "-f", path}, err
		},
	}
}

// webServers are those that others wrote, for HTTP but for Redis.
func webServers() []server {
	const foreground = "daemon off; error_log stderr warn;"
	daemon := nginx("nginx, daemonises", "QUIT", "daemon on; error_log stderr warn;", "")
	told := daemon
	told.name = "nginx, daemonises, --forking-pid-file"
	told.flags = func(p place) []string { return []string{"--forking-pid-file", p.path("nginx.pid")} }
	redisAs := func(name, strategy string) server {
		return server{
			name: name, strategy: strategy, tools: []string{"redis-server"}, version: []string{"redis-server", "--version"},
			command: func(_ context.Context, p place) ([]string, error) {
				return []string{find("redis-server"), "--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--save", "", "--dir", p.dir}, nil
			},
			loads: spokenTo(redis{}, 8, 200),
		}
	}
	return []server{
		nginx("nginx, TERM", "TERM", foreground, ""),
		nginx("nginx, QUIT", "QUIT", foreground, ""),
		nginx("nginx, reuseport", "QUIT", foreground, " reuseport"),
		daemon,
		told,
		haproxy("HAProxy, TERM", "TERM"),
		haproxy("HAProxy, USR1", "USR1"),
		redisAs("Redis", overlap),
		redisAs("Redis, exclusive", exclusive),
		node("node, closes", nodeGraceful),
		node("node, dies of TERM", nodeRude),
		{
			name: "python http.server", tools: []string{"python3"}, version: []string{"python3", "--version"},
			command: func(_ context.Context, p place) ([]string, error) {
				_, err := p.write("index.html", "served\n")
				return []string{find("python3"), "-m", "http.server", fmt.Sprint(port), "--bind", "127.0.0.1", "--directory", p.dir}, err
			},
			loads: without(web(), keepAlive), // HTTP/1.0: it keeps no connection
		},
		{
			name: "C++, epoll before bind", tools: []string{"g++"}, version: []string{"g++", "--version"},
			command: func(ctx context.Context, p place) ([]string, error) {
				source, err := p.write("asio.cpp", asio)
				if err != nil {
					return nil, err
				}
				if out, err := exec.CommandContext(ctx, find("g++"), "-O1", "-Wall", "-Wextra", "-o", p.path("asio"), source).CombinedOutput(); err != nil {
					return nil, fmt.Errorf("g++: %w: %s", err, out)
				}
				return []string{p.path("asio"), fmt.Sprint(port)}, nil
			},
		},
	}
}
