package main

import (
	"fmt"
	"os/exec"
)

// Who is measured.
const (
	bare      = "the server alone"
	bareAgain = "the server alone, once more"
	listens   = "upgrader --listen"
	ownBind   = "upgrader, own bind"
	tini      = "tini"
	dumbInit  = "dumb-init"
	floor     = "a Go program that only executes the server"
	linked    = "the same, with our libraries linked in"

	starter       = "Server::Starter"
	reload        = "nginx reload"
	wrappedNginx  = "upgrader, nginx"
	besideGuest   = "no swap, a server starts beside"
	besideNginx   = "no swap, nginx starts beside"
	stopThenStart = "stop, then start"
	exclusive     = "upgrader --strategy exclusive"
	exclusiveBare = "upgrader --strategy exclusive --settle 0"
)

func (b *bench) bareGuest(more ...string) recipe {
	return recipe{name: bare, command: append([]string{b.guest(), "-http", "ADDRESS"}, more...)}
}

// listening is the guest with its socket from the upgrader.
func (b *bench) listening(flags []string, more ...string) recipe {
	argv := append([]string{b.upgrader(), "--state-dir", "STATE", "--listen", "ADDRESS"}, flags...)
	return recipe{name: listens, command: append(append(argv, "--", b.guest(), "-http", "env"), more...)}
}

// binding is the guest that binds by itself, taken over.
func (b *bench) binding(flags []string, more ...string) recipe {
	argv := append([]string{b.upgrader(), "--state-dir", "STATE", "--intercept", "on"}, flags...)
	return recipe{name: ownBind, command: append(append(argv, "--", b.guest(), "-http", "ADDRESS"), more...)}
}

func (b *bench) starting(more ...string) recipe {
	argv := []string{"start_server", "--port", "ADDRESS", "--", b.guest(), "-http", "env", "-dialect", "server-starter"}
	return recipe{name: starter, tool: "start_server", command: append(argv, more...)}
}

const nginxConfig = `
daemon off;
pid DIR/nginx.pid;
error_log stderr warn;
worker_processes 1;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path DIR/t1; proxy_temp_path DIR/t2; fastcgi_temp_path DIR/t3; uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5;
    server {
        listen ADDRESS;
        location / { return 200 "pid=$pid\n"; }
    }
}
`

func (b *bench) nginx() recipe {
	return recipe{
		name: reload, tool: "nginx", files: map[string]string{"nginx.conf": nginxConfig},
		command: []string{"nginx", "-e", "stderr", "-c", "DIR/nginx.conf"},
	}
}

func (b *bench) upgradedNginx() recipe {
	r := b.nginx()
	r.name = wrappedNginx
	r.command = append([]string{b.upgrader(), "--state-dir", "STATE", "--intercept", "on", "--stop-signal", "QUIT", "--"}, r.command...)
	return r
}

// missing says why a recipe cannot be followed, "" if it can.
func (r recipe) missing() string {
	if r.tool == "" {
		return ""
	}
	if _, err := exec.LookPath(r.tool); err != nil {
		return fmt.Sprintf("%s is not installed", r.tool)
	}
	return ""
}
