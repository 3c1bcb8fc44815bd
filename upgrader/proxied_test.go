package upgrader

import (
	"errors"
	"testing"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/proxy"
)

func parsed(t *testing.T, spec string) listener.Address {
	t.Helper()
	a, err := listener.ParseAddress(spec)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSameStream(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:81", false},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{":80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "localhost:80", true},
		{"[::1]:80", "127.0.0.1:80", false},
		{"tcp4://0.0.0.0:80", "tcp6://[::1]:80", true},
		{"unix:///a", "unix:///a", true},
		{"unix:///a", "unix:///b", false},
		{"unix:///a", "80", false},
		{"udp://:80", ":80", false},
	} {
		if got := sameStream(parsed(t, c.a), parsed(t, c.b)); got != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

func TestCheckProxies(t *testing.T) {
	config := func(strategy Strategy, intercept Intercept, public, backend string, listen ...string) *Config {
		c := &Config{Strategy: strategy, Intercept: intercept, Proxies: []Proxied{{Public: parsed(t, public)}}}
		if backend != "" {
			c.Proxies[0].Backend = parsed(t, backend)
		}
		for _, l := range listen {
			c.Listen = append(c.Listen, parsed(t, l))
		}
		return c
	}
	for _, c := range []struct {
		config *Config
		policy proxy.Policy
		wrong  bool
	}{
		{config: config(Overlap, InterceptAuto, "80", ""), policy: proxy.PolicyDrain},
		{config: config(Exclusive, InterceptAuto, "80", ""), policy: proxy.PolicyResume},
		{config: config(Overlap, InterceptAuto, "80", "81"), policy: proxy.PolicyDrain},
		{config: config(Overlap, InterceptOff, "80", "81", "81"), policy: proxy.PolicyDrain},
		{config: config(Exclusive, InterceptOff, "80", "81"), policy: proxy.PolicyResume},
		{config: config(Exclusive, InterceptAuto, "80", "unix:///b"), policy: proxy.PolicyResume},
		{config: config(Overlap, InterceptAuto, "unix:///a", "unix:///b", "unix:///b"), policy: proxy.PolicyDrain},
		{config: config(Overlap, InterceptOff, "80", ""), wrong: true},
		{config: config(Overlap, InterceptOff, "80", "81"), wrong: true},
		{config: config(Overlap, InterceptAuto, "80", "unix:///b"), wrong: true},
		{config: config(Overlap, InterceptAuto, "unix:///a", ""), wrong: true},
		{config: config(Overlap, InterceptAuto, "udp://80", ""), wrong: true},
	} {
		err := c.config.checkProxies()
		p := c.config.Proxies[0]
		switch {
		case c.wrong && !errors.Is(err, ErrUsage):
			t.Errorf("%s to %s: %v", p.Public, p.Backend, err)
		case !c.wrong && (err != nil || *p.Policy != c.policy):
			t.Errorf("%s to %s: %v, policy %v", p.Public, p.Backend, err, p.Policy)
		case !c.wrong && p.Intercepted() && c.config.Intercept != InterceptOn:
			t.Errorf("%s: binds are not taken over", p.Public)
		}
	}
}
