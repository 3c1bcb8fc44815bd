package integration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Each service of a fleet has proxies of its own: the swap of one moves its
// clients, and its end gives the address up for the next start.
func TestFleetProxies(t *testing.T) {
	s := newScratch(t, 0)
	a, b, api := address(t), address(t), address(t)
	config := s.write(t, "services.yaml", fmt.Sprintf(`
http: %s
defaults:
  proxy-policy: http1
  probation: 0s
services:
  a: {command: [%q, -http, %q], proxy: "%[3]s=intercepted"}
  b: {command: [%[2]q, -http, %[4]q], proxy: ["%[4]s=intercepted?idle=1h"]}
`, api, guestBinary(), a, b), 0o644)
	u := start(t, options{scratch: s, flags: []string{"--config", config}})
	u.awaitFleet("both serve", serve([]string{"a", "b"}))
	const clients, swaps = 8, 3
	loads := map[string]*browsers{"a": startBrowsers(t, a, clients, 20*time.Millisecond), "b": startBrowsers(t, b, clients, 20*time.Millisecond)}
	u.awaitFleet("all clients are connected", func(all map[string]statusReport) error {
		for _, name := range []string{"a", "b"} {
			if n := all[name].Proxies[0].Connections; n != clients {
				return fmt.Errorf("%s has %d", name, n)
			}
		}
		return nil
	})
	for range swaps {
		if _, stderr, code := u.run("restart", "a"); code != 0 {
			t.Fatalf("restart a: %d: %s", code, stderr)
		}
	}
	all := u.awaitFleet("the clients of a moved", func(all map[string]statusReport) error {
		if n := all["a"].Proxies[0].Moved; n < clients*swaps {
			return fmt.Errorf("%d moved", n)
		}
		return nil
	})
	if got := all["b"].Proxies[0]; got.Moved != 0 || got.Connections != clients {
		t.Errorf("the proxy of b counts %+v", got)
	}
	r, err := http.Get("http://" + api + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }() // only read
	metrics, err := io.ReadAll(r.Body)
	if n := strings.Count(string(metrics), "\nupgrader_proxy_connections{"); err != nil || n != 2 {
		t.Errorf("%d proxies in the metrics (%v)", n, err)
	}
	for name, load := range loads {
		if failed := load.end(); len(failed) > 0 || load.answered.Load() == 0 {
			t.Errorf("%s: of %d requests %d failed: %v", name, load.answered.Load(), len(failed), failed)
		}
	}

	if _, stderr, code := u.run("stop", "a"); code != 0 {
		t.Fatalf("stop a: %d: %s", code, stderr)
	}
	u.awaitFleet("a has stopped", serve([]string{"b"}, "a"))
	if stdout, stderr, code := u.run("restart", "a"); code != 0 {
		t.Fatalf("restart of one that has stopped: %d: %s%s", code, stdout, stderr)
	}
	u.awaitFleet("a serves again", serve([]string{"a", "b"}))
	again := startBrowsers(t, a, 1, 0)
	eventually(t, "a client is answered again", func() error {
		if again.answered.Load() == 0 {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	if failed := again.end(); len(failed) > 0 {
		t.Error(failed)
	}
	u.signal(syscall.SIGTERM)
	if code := u.wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
