package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Who stands between clients and a server.
const (
	noProxy     = "no proxy"
	proxied     = "upgrader --proxy"
	haproxyTCP  = "haproxy, mode tcp"
	nginxStream = "nginx, stream"
)

func proxies() []string { return []string{noProxy, proxied, haproxyTCP, nginxStream} }

// passage is one of them. Its memory is that of its own process, and of those
// that come of it unless they are the server.
type passage struct {
	recipe
	family bool
}

func (b *bench) passages(origin string) ([]passage, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	own, err := b.address()
	if err != nil {
		return nil, err
	}
	return []passage{
		{recipe: recipe{name: proxied, command: []string{b.upgrader(), "--state-dir", "STATE", "--proxy", "ADDRESS=" + own, "--", exe},
			env: originEnv(own)}},
		{recipe: recipe{name: haproxyTCP, tool: "haproxy", files: map[string]string{"haproxy.cfg": fmt.Sprintf(haproxyConfig, origin)},
			command: []string{"haproxy", "-db", "-f", "DIR/haproxy.cfg"}}, family: true},
		{recipe: recipe{name: nginxStream, tool: "nginx", files: map[string]string{"nginx.conf": fmt.Sprintf(streamConfig, streamModule(), origin)},
			command: []string{"nginx", "-e", "stderr", "-c", "DIR/nginx.conf"}}, family: true},
	}, nil
}

// Both have a thread or a worker for each processor, and descriptors for 9,500
// clients under a limit of 20,000.
const (
	haproxyConfig = `
global
    maxconn 9700
    maxpipes 128
defaults
    mode tcp
    option splice-auto
    timeout connect 10s
    timeout client 10m
    timeout server 10m
listen bench
    bind ADDRESS backlog 4096
    server origin %s
`
	streamConfig = `
daemon off;
pid DIR/nginx.pid;
error_log stderr warn;
load_module %s;
worker_processes auto;
events { worker_connections 19800; }
stream {
    server {
        listen ADDRESS backlog=4096;
        proxy_pass %s;
        proxy_half_close on;
    }
}
`
)

// streamModule is where the package of a distribution puts it.
func streamModule() string {
	found, _ := filepath.Glob("/usr/lib*/nginx/modules/ngx_stream_module.so") // the pattern is right
	return append(found, "")[0]
}

func (p passage) missing() string {
	if p.name == nginxStream && streamModule() == "" {
		return "nginx or its stream module is not installed"
	}
	return p.recipe.missing()
}

// measureProxy compares those that stand between clients and a server: in each
// round all of them, one measure after the other, and the server by itself.
func measureProxy(b *bench) error {
	for round := range b.Amounts.ProxyRounds {
		if err := b.proxyRound(round); err != nil {
			return err
		}
	}
	for _, n := range b.Amounts.ProxyIdle {
		for range b.Amounts.ProxyIdleRounds {
			if err := b.proxyIdle(n); err != nil {
				return err
			}
		}
	}
	return nil
}

// startOrigin is the server behind all but the upgrader, which has its own.
func (b *bench) startOrigin() (*server, error) {
	s, err := b.start(recipe{name: "origin", command: []string{"/proc/self/exe"}, env: originEnv("ADDRESS")})
	if err != nil {
		return nil, err
	}
	return s, b.greeted(s)
}

func (b *bench) startPassages(origin string) (started []*server, family map[string]bool, err error) {
	passages, err := b.passages(origin)
	if err != nil {
		return nil, nil, err
	}
	family = map[string]bool{}
	for _, p := range passages {
		if why := p.missing(); why != "" {
			b.samples.Missing["proxy/"+p.name] = why
			continue
		}
		s, err := b.start(p.recipe)
		if err == nil {
			err = b.greeted(s)
		}
		if err != nil {
			return started, family, err
		}
		started, family[p.name] = append(started, s), p.family
	}
	return started, family, nil
}

// greeted waits until a server answers.
func (b *bench) greeted(s *server) error {
	deadline := time.Now().Add(patience)
	for {
		err := knock(s.address)
		if err == nil {
			return nil
		}
		select {
		case <-s.gone:
			return fmt.Errorf("%s ended: %v\n%s", s.name, s.command.ProcessState, s.output())
		default:
		}
		if b.ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("%s does not answer: %w\n%s", s.name, errors.Join(err, b.ctx.Err()), s.output())
		}
		pause(time.Millisecond)
	}
}

func (b *bench) proxyRound(round int) error {
	origin, err := b.startOrigin()
	if err != nil {
		return err
	}
	started, family, err := b.startPassages(origin.address)
	if err != nil {
		return err
	}
	all := append([]*server{{name: noProxy, address: origin.address}}, started...)
	turn := round % len(all) // whoever is first in one round is last in another
	all = slices.Concat(all[turn:], all[:turn])
	measures := []struct {
		name string
		take func(address string, d time.Duration) (float64, error)
	}{{"down", download}, {"up", upload}, {"requests", echoes}, {"connections", visits}}
	for _, m := range measures {
		for _, s := range all {
			if b.ctx.Err() != nil {
				return b.ctx.Err()
			}
			if _, err := m.take(s.address, b.Amounts.ProxySlice/5); err != nil { // buffers and windows grow now
				return fmt.Errorf("%s: %s: %w\n%s", s.name, m.name, err, s.output())
			}
			got, each, err := spending(s, family[s.name], func() (float64, error) { return m.take(s.address, b.Amounts.ProxySlice) })
			if err != nil {
				return fmt.Errorf("%s: %s: %w\n%s", s.name, m.name, err, s.output())
			}
			b.samples.add("proxy/"+s.name+"/"+m.name, got)
			if s.name != noProxy {
				b.samples.add("proxy/"+s.name+"/"+m.name+"/time", each)
			}
		}
	}
	return stopAll(append(started, origin))
}

// proxyIdle takes what n idle connections cost each of them: memory (proportional
// set size, without pages of its program) and descriptors, beyond what it has without.
func (b *bench) proxyIdle(n int) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if need := uint64(2*n + 500); limit.Max < need {
		b.samples.Missing[fmt.Sprintf("proxy/idle %d", n)] = fmt.Sprintf("needs %d descriptors, the limit is %d", need, limit.Max)
		return nil
	}
	origin, err := b.startOrigin()
	if err != nil {
		return err
	}
	started, family, err := b.startPassages(origin.address)
	if err != nil {
		return err
	}
	for _, s := range started {
		if err := b.calm(); err != nil {
			return err
		}
		before, err := footprintOf(s.command.Process.Pid, family[s.name])
		if err != nil {
			return err
		}
		clients, err := b.gather(s.address, n)
		if err != nil {
			return fmt.Errorf("%s: %d clients: %w\n%s", s.name, len(clients), err, s.output())
		}
		if err := b.calm(); err != nil {
			return err
		}
		after, err := footprintOf(s.command.Process.Pid, family[s.name])
		for _, c := range clients {
			hangUp(c)
		}
		if err != nil {
			return err
		}
		at := fmt.Sprintf("proxy/%s/idle %d/", s.name, n)
		b.samples.add(at+"kB", (after.pss-before.pss)*1000/float64(n))
		b.samples.add(at+"descriptors", float64(after.descriptors-before.descriptors)/float64(n))
		b.samples.add(at+"base", before.pss)
	}
	return stopAll(append(started, origin))
}

// calm lets them have nothing to do for a while: what they need for a moment is no cost of a connection.
func (b *bench) calm() error {
	select {
	case <-b.ctx.Done():
		return b.ctx.Err()
	case <-time.After(b.Amounts.ProxyRest):
		return nil
	}
}

// gather opens n connections, each of which has been used once.
func (b *bench) gather(address string, n int) ([]net.Conn, error) {
	var clients []net.Conn
	for range n {
		if b.ctx.Err() != nil {
			return clients, b.ctx.Err()
		}
		c, err := converse(address)
		if err != nil {
			return clients, err
		}
		clients = append(clients, c)
	}
	return clients, nil
}

type footprint struct {
	pss         float64 // MB
	descriptors int
}

// footprintOf a process, and of what comes of it if that is asked for.
func footprintOf(pid int, family bool) (footprint, error) {
	var f footprint
	for _, pid := range processesOf(pid, family) {
		mb, err := ownPss(pid)
		if err != nil {
			return f, err
		}
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return f, err
		}
		f.pss, f.descriptors = f.pss+mb, f.descriptors+len(open)
	}
	return f, nil
}
