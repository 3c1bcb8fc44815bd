package integration

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/upgrader/upgrader/integration/load"
)

// fleetUpgrade asks for a self-upgrade of several services, which must be
// committed for all of them, and waits until each is swapped. It gives the
// generations that serve, and the pid of the upgrader in charge.
func (u *upgrader) fleetUpgrade(services ...string) (generations map[string]int, pid int) {
	u.t.Helper()
	before, err := u.fleetStatus()
	if err != nil {
		u.t.Fatal(err)
	}
	stdout, stderr, code := u.run("self-upgrade")
	if code != 0 || strings.Count(stdout, "committed") < len(services) {
		u.t.Fatalf("self-upgrade exited %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	generations = map[string]int{}
	u.awaitFleet("each has a generation of the new upgrader's", func(all map[string]statusReport) error {
		for _, name := range services {
			now := all[name]
			if now.Pid == before[name].Pid || now.serving() != before[name].serving()+1 || now.State != "serving" {
				return fmt.Errorf("%s: pid %d, state %s, generation %d serves; before pid %d, generation %d", name, now.Pid, now.State, now.serving(), before[name].Pid, before[name].serving())
			}
			generations[name], pid = now.serving(), now.Pid
		}
		return nil
	})
	return generations, pid
}

// All services of one upgrader go to the new one at once, those that have
// stopped stay so, and no client notices.
func TestSelfUpgradeOfFleet(t *testing.T) {
	upgrades := selfUpgrades()
	s := newScratch(t, 0)
	a, b, c := address(t), address(t), address(t)
	config := func(more string) {
		s.write(t, "fleet.yaml", fmt.Sprintf(`
defaults: {probation: 0s, settle: 10ms}
services:
  claimed: {command: [%q, -http, env], listen: %q}
  bound: {command: [%[1]q, -http, %[3]q]}
  proxied: {command: [%[1]q, -http, %[4]q], proxy: "%[4]s=intercepted", proxy-policy: http1, strategy: exclusive}
  over: {command: [sh, -c, "exit 7"]}
%s`, guestBinary(), a, b, c, more), 0o644)
	}
	config("")
	install(t, upgraderBinary(), s.path("upgrader"))
	u := start(t, options{scratch: s, binary: s.path("upgrader"), flags: []string{"--init", "--config", s.path("fleet.yaml"), "--pid-file", s.path("pid")}})
	u.options.binary = upgraderBinary()
	names := []string{"claimed", "bound", "proxied"}
	before := u.awaitFleet("three serve", serve(names, "over"))
	loads := map[string]*load.Load{}
	for name, address := range map[string]string{"claimed": a, "bound": b} {
		loads[name] = startLoad(t, load.Config{Address: address, Clients: 8, PerConnection: 3, Rate: 300})
	}
	kept := startBrowsers(t, c, 16, 5*time.Millisecond)
	for _, l := range loads {
		awaitMore(t, l, 50)
	}
	unchanged := func(what string) {
		t.Helper()
		u.awaitFleet(what, func(all map[string]statusReport) error {
			for _, name := range names {
				if now := all[name]; now.Pid != before[name].Pid || now.serving() != 1 || now.State != "serving" || len(now.Generations) != 1 {
					return fmt.Errorf("%s is %+v", name, now)
				}
			}
			return nil
		})
	}

	// A new upgrader that fails changes nothing, and neither does one that finds other services.
	s.write(t, "upgrader", "#!/bin/sh\nkill -SEGV $$\n", 0o755)
	if stdout, stderr, code := u.run("self-upgrade"); code != 1 || strings.Count(stdout, "rolled") < 3 {
		t.Errorf("with one that crashes: exit %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	unchanged("it crashes")
	install(t, upgraderBinary(), s.path("upgrader"))
	config(fmt.Sprintf("  more: {command: [%q]}\n", guestBinary()))
	if stdout, stderr, code := u.run("self-upgrade"); code != 1 || !strings.Contains(stdout, "the services are") {
		t.Errorf("with another service: exit %d\nstdout: %s\nstderr: %s", code, stdout, stderr)
	}
	unchanged("there are other services")
	config("")

	pids := map[int]bool{before["claimed"].Pid: true}
	for range upgrades {
		generations, pid := u.fleetUpgrade(names...)
		if pids[pid] {
			t.Fatalf("the upgrader in charge is %d again", pid)
		}
		pids[pid] = true
		for name, l := range loads {
			awaitGeneration(t, l, generations[name])
		}
	}
	all := u.awaitFleet("three serve, one has stopped", serve(names, "over"))
	if !strings.Contains(all["over"].Message, "status 7") {
		t.Errorf("over says %q", all["over"].Message)
	}
	// It does what it did before: swaps, starts what had stopped, is asked by name.
	if stdout, stderr, code := u.run("restart", "--all"); code != 2 || strings.Count(stdout, "committed") != 3 || !strings.Contains(stdout, "over: failed") {
		t.Errorf("restart --all exited %d: %s%s", code, stdout, stderr)
	}
	for _, name := range slices.Sorted(maps.Keys(loads)) {
		lossless(t, fmt.Sprintf("%s: %d self-upgrades", name, upgrades), loads[name])
	}
	if failed := kept.end(); len(failed) > 0 || kept.answered.Load() == 0 || kept.closed.Load() > 0 {
		t.Errorf("of %d requests through the proxy %d failed, %d connections were closed: %v", kept.answered.Load(), len(failed), kept.closed.Load(), failed)
	}
	t.Logf("proxied: %d requests, %+v", kept.answered.Load(), all["proxied"].Proxies)
	u.signal(syscall.SIGTERM)
	if code := u.wait(); code != 7 {
		t.Errorf("the fleet ended with %d, want that of the service that failed", code)
	}
	u.mustLeaveNothing()
}

// By HTTP all are asked at once, and the API goes on at the same address. One
// service that is being swapped is waited for.
func TestSelfUpgradeOfFleetByHTTP(t *testing.T) {
	s := newScratch(t, 0)
	api := address(t)
	config := s.write(t, "fleet.yaml", fmt.Sprintf("http: %s\nservices:\n  a: {command: [%q, -http, env], listen: %q}\n  b: {command: [%[2]q, -http, env, -warm-up, 500ms], listen: %[4]q}\n",
		api, guestBinary(), address(t), address(t)), 0o644)
	u := start(t, options{scratch: s, flags: []string{"--init", "--config", config}})
	all := u.awaitFleet("both serve", serve([]string{"a", "b"}))
	if _, stderr, code := u.run("restart", "--no-wait", "b"); code != 0 {
		t.Fatalf("restart b exited %d: %s", code, stderr)
	}
	r, err := http.Post("http://"+api+"/selfupgrade", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close() // the status says it
	if r.StatusCode != http.StatusOK {
		t.Errorf("/selfupgrade answered %s", r.Status)
	}
	eventually(t, "the new upgrader is healthy", func() error {
		r, err := http.Get("http://" + api + "/healthz")
		if err == nil {
			_ = r.Body.Close() // as above
			if r.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s", r.Status)
			}
		}
		return err
	})
	now := u.awaitFleet("both were swapped", func(all map[string]statusReport) error {
		if all["a"].serving() != 2 || all["b"].serving() != 3 || all["a"].State != "probation" && all["a"].State != "serving" {
			return fmt.Errorf("generations %d and %d serve", all["a"].serving(), all["b"].serving())
		}
		return nil
	})
	if now["a"].Pid == all["a"].Pid || now["a"].Pid != now["b"].Pid {
		t.Errorf("pids %d and %d, before %d", now["a"].Pid, now["b"].Pid, all["a"].Pid)
	}
	u.signal(syscall.SIGTERM)
	if code := u.wait(); code != 0 {
		t.Errorf("the fleet ended with %d", code)
	}
	u.mustLeaveNothing()
}
