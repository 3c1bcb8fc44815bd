package main

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/listener/proxy"
	"github.com/upgrader/upgrader/upgrader"
)

// parseProxies reads flags as they are given.
func parseProxies(t *testing.T, arguments ...string) ([]upgrader.Proxied, error) {
	t.Helper()
	var f proxyFlags
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.register(set)
	if err := set.Parse(arguments); err != nil {
		t.Fatal(err)
	}
	return f.parse()
}

func TestProxyAddresses(t *testing.T) {
	for _, c := range []struct{ spec, public, name, backend string }{
		{"8080=intercepted", "tcp://:8080", "", ""},
		{"8080=9000", "tcp://:8080", "", "tcp://:9000"},
		{"web=8080=127.0.0.1:9000", "tcp://:8080", "web", "tcp://127.0.0.1:9000"},
		{"[::1]:80=tcp6://[::1]:81", "tcp://[::1]:80", "", "tcp6://[::1]:81"},
		{"unix:///a?mode=0600=unix:///b", "unix:///a", "", "unix:///b"},
		{"unix:///a?mode=0600=intercepted?idle=5m", "unix:///a", "", ""},
	} {
		all, err := parseProxies(t, "--proxy", c.spec)
		if err != nil || len(all) != 1 {
			t.Errorf("%s: %v, %v", c.spec, all, err)
			continue
		}
		p, backend := all[0], ""
		if !p.Intercepted() {
			backend = p.Backend.String()
		}
		if p.Public.String() != c.public || p.Public.Name != c.name || backend != c.backend {
			t.Errorf("%s: %s (%s) to %q", c.spec, p.Public, p.Public.Name, backend)
		}
	}
}

func TestProxyOptions(t *testing.T) {
	all, err := parseProxies(t, "--proxy", "8080=intercepted?policy=http1&idle=5m&max=7", "--proxy", "8081=intercepted 8082=9000",
		"--proxy-policy", "drain", "--proxy-protocol", "v2", "--proxy-accept", "required", "--proxy-trusted", "10.0.0.0/8,::1",
		"--proxy-in-flight", "resume", "--proxy-dial", "3s", "--proxy-keepalive", "30s", "--proxy-user-timeout", "20s")
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	own, common := all[0], all[2]
	if *own.Policy != proxy.PolicyHTTP1 || own.Idle != 5*time.Minute || own.Max != 7 {
		t.Errorf("%+v", own)
	}
	if *common.Policy != proxy.PolicyDrain || common.Idle != 0 || common.Max != 0 || !common.HeaderOut || common.HeaderIn.Mode != proxy.HeaderRequired ||
		len(common.HeaderIn.Trusted) != 2 || common.InFlight != proxy.InFlightResume || common.Dial != 3*time.Second ||
		!common.KeepAlive.Enable || common.KeepAlive.Idle != 30*time.Second || common.UserTimeout != 20*time.Second {
		t.Errorf("%+v", common)
	}
}

func TestProxyMistakes(t *testing.T) {
	for says, arguments := range map[string][]string{
		"PUBLIC=BACKEND":    {"--proxy", "8080"},
		"is about --proxy":  {"--proxy-idle", "5m"},
		"or empty":          {"--proxy", "8080=intercepted?policy="},
		"hope":              {"--proxy", "8080=intercepted?policy=hope"},
		"want reset":        {"--proxy", "8080=intercepted?in-flight=maybe"},
		"want v2":           {"--proxy", "8080=intercepted", "--proxy-protocol", "v1"},
		"want required":     {"--proxy", "8080=intercepted", "--proxy-accept", "yes"},
		"give accept too":   {"--proxy", "8080=intercepted", "--proxy-trusted", "10.0.0.0/8"},
		"no network":        {"--proxy", "8080=intercepted?accept=required&trusted=home"},
		"at least 1":        {"--proxy", "8080=intercepted?max=0"},
		"a time such as":    {"--proxy", "8080=intercepted?idle=5"},
		"want off":          {"--proxy", "8080=intercepted?keepalive=1ms"},
		"needs a port":      {"--proxy", "8080=127.0.0.1:0"},
		"has no name":       {"--proxy", "8080=api=127.0.0.1:9000"},
		"given twice":       {"--proxy", "8080=intercepted?max=1&max=2"},
		"is none of policy": {"--proxy", "8080=intercepted?colour=red"},
	} {
		if _, err := parseProxies(t, arguments...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v, want %q", arguments, err, says)
		}
	}
}
