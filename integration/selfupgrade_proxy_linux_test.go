package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The connections that a proxy keeps go from upgrader to upgrader: none dies,
// and no line is lost, answered twice, or answered out of turn.
func TestSelfUpgradeKeepsSessions(t *testing.T) {
	clients, upgrades := amount("INTEGRATION_CLIENTS", 500), selfUpgrades()
	for _, c := range []struct {
		name  string
		flags []string
		guest func(*scratch) []string
	}{
		{"overlap", []string{"--drain-max", "100"}, func(s *scratch) []string { return []string{"-file", s.path("table")} }},
		{"exclusive", []string{"--strategy", "exclusive", "--shm", "memfd:sessions,size=2M"}, func(*scratch) []string { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScratch(t, 0)
			a := address(t)
			u := ofItsOwn(t, s,
				append([]string{"--init", "--proxy", a + "=intercepted", "--proxy-protocol", "v2", "--settle", "20ms", "--settle-max", "20s", "--probation", "0"}, c.flags...),
				append([]string{sessionsBinary(), "-listen", a}, c.guest(s)...))
			k := startTalkers(t, "tcp", a, clients, 200*time.Millisecond)
			k.awaitAll(1)
			for range upgrades {
				generation, _ := u.selfUpgrade()
				k.awaitAll(generation)
			}
			// A new client is served, and the next swap is as any.
			more := startTalkers(t, "tcp", a, 1, 10*time.Millisecond)
			generation := u.swap()
			k.awaitAll(generation)
			more.awaitAll(generation)
			p := u.status().Proxies[0]
			k.unharmed(fmt.Sprintf("%d self-upgrades", upgrades))
			more.unharmed("a new client")
			t.Logf("%+v", p)
			if p.InFlight != 0 || p.Reset != 0 || p.Accepted != clients+1 || p.Moved+p.Resumed < clients*upgrades {
				t.Errorf("the proxy counts %+v", p)
			}
			u.awaitAlone()
			u.mustCleanShutdown()
		})
	}
}

// So do those of HTTP, in whatever request they are.
func TestSelfUpgradeKeepsRequests(t *testing.T) {
	a := address(t)
	upgrades := min(selfUpgrades(), 10)
	u := ofItsOwn(t, newScratch(t, 0), []string{"--init", "--proxy", a + "=intercepted", "--proxy-policy", "http1", "--settle", "10ms", "--probation", "0"}, []string{guestBinary(), "-http", a})
	b := startBrowsers(t, a, 32, time.Millisecond)
	for range upgrades {
		before := b.answered.Load()
		u.selfUpgrade()
		eventually(t, "requests are answered", func() error {
			if b.answered.Load() < before+500 {
				return fmt.Errorf("%d are", b.answered.Load()-before)
			}
			return nil
		})
	}
	failed := b.end()
	t.Logf("%d self-upgrades: %d requests, %d connections that an answer closed, %d failed", upgrades, b.answered.Load(), b.closed.Load(), len(failed))
	if len(failed) > 0 {
		t.Errorf("%v", failed[0])
	}
	u.awaitAlone()
	u.mustCleanShutdown()
}

// A new upgrader that fails, at whatever moment, leaves the connections where
// they are.
func TestFailedSelfUpgradesKeepSessions(t *testing.T) {
	s := newScratch(t, 0)
	a := address(t)
	u := ofItsOwn(t, s, []string{"--init", "--proxy", a + "=intercepted", "--proxy-protocol", "v2", "--settle", "20ms", "--settle-max", "20s", "--ready-timeout", "2s", "--probation", "0"},
		[]string{sessionsBinary(), "-listen", a, "-file", s.path("table")})
	k := startTalkers(t, "tcp", a, 200, 50*time.Millisecond)
	k.awaitAll(1)
	before := u.status()
	for _, script := range []string{"kill -SEGV $$", "exit 3", "exec sleep 1000"} {
		s.write(t, "upgrader", "#!/bin/sh\n"+script+"\n", 0o755)
		if stdout, stderr, code := u.run("self-upgrade"); code != 1 {
			t.Errorf("%s: self-upgrade exited %d\nstdout: %s\nstderr: %s", script, code, stdout, stderr)
		}
		u.mustBeAs(t, before)
		k.mustTalk(200)
	}
	// It is stopped while it takes over, sooner and later: it is late then, or
	// goes on, if it was in charge already.
	install(t, upgraderBinary(), s.path("upgrader"))
	late := 0
	for _, sockets := range []int{0, 50, 300, 401} {
		before := u.status()
		answer := make(chan string, 1)
		go func() {
			stdout, stderr, _ := u.run("self-upgrade")
			answer <- stdout + stderr
		}()
		heir := u.awaitHeir(before.Pid, sockets)
		_ = unix.Kill(heir, unix.SIGSTOP) // it may be gone
		eventually(t, "the old one is done with it", func() error {
			if now := processes()[heir]; now.pid != 0 && now.parent == before.Pid {
				return fmt.Errorf("pid %d is the child of %d", heir, before.Pid)
			}
			return nil
		})
		_ = unix.Kill(heir, unix.SIGCONT) // as above
		if said := <-answer; strings.Contains(said, "rolled") {
			late++
			u.mustBeAs(t, before)
		} else {
			eventually(t, "the new one serves", func() error {
				now, err := u.tryStatus()
				if err == nil && (now.Pid != heir || now.serving() == before.serving()) {
					err = fmt.Errorf("pid %d is in charge, generation %d serves", now.Pid, now.serving())
				}
				return err
			})
		}
		k.mustTalk(200)
	}
	t.Logf("%d of 4 were late", late)
	install(t, upgraderBinary(), s.path("upgrader"))
	generation, _ := u.selfUpgrade()
	k.awaitAll(generation)
	k.unharmed("self-upgrades that failed")
	u.awaitAlone()
	u.mustCleanShutdown()
}

// mustTalk waits until that many lines more are answered.
func (k *talkers) mustTalk(more int64) {
	k.t.Helper()
	before := k.lines.Load()
	eventually(k.t, "lines are answered", func() error {
		if n := k.lines.Load() - before; n < more {
			return fmt.Errorf("%d are", n)
		}
		return nil
	})
}

// awaitHeir waits until a new upgrader has that many sockets.
func (u *upgrader) awaitHeir(old, sockets int) (pid int) {
	u.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if pid == 0 {
			for _, p := range processes() {
				if p.parent == old && p.name == "upgrader" {
					pid = p.pid
				}
			}
			continue
		}
		n := 0
		for _, target := range descriptors(pid) {
			if strings.HasPrefix(target, "socket:") {
				n++
			}
		}
		if n >= sockets {
			return pid
		}
	}
	u.t.Fatalf("no new upgrader has %d sockets", sockets)
	return 0
}

// What is parked in the store goes along, and what came of it since.
func TestSelfUpgradeOfStore(t *testing.T) {
	clients, upgrades := amount("INTEGRATION_CLIENTS", 500), selfUpgrades()
	a := address(t)
	u := ofItsOwn(t, newScratch(t, 0), []string{"--init", "--listen", "main=" + a, "--strategy", "exclusive", "--probation", "0", "--settle", "20ms", "--settle-max", "1s"}, []string{parkerBinary()})
	s := startStreams(t, a, clients, 200*time.Millisecond)
	for range upgrades {
		u.selfUpgrade()
	}
	u.await("all are parked", parked(clients+1)) // and what was read of unfinished lines
	failed := s.end()
	t.Logf("%d self-upgrades: %d connections, %d lines, %d connections lost bytes or died", upgrades, clients, s.lines.Load(), len(failed))
	if len(failed) > 0 {
		t.Errorf("%v", failed[0])
	}
	u.await("the connections are gone", parked(1))
	u.awaitAlone()
	u.mustCleanShutdown()
}
