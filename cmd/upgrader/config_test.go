package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/upgrader"
)

// written puts a configuration file into a folder of its own.
func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "services.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// planned makes the plan of a file with flags and an environment above it.
func planned(t *testing.T, path string, env map[string]string, args ...string) (*plan, []error) {
	t.Helper()
	var f flags
	set := pflag.NewFlagSet("upgrader", pflag.ContinueOnError)
	f.register(set)
	if err := set.Parse(append([]string{"--config", path}, args...)); err != nil {
		t.Fatal(err)
	}
	return makePlan(&f, set, set.Args(), func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

const shop = `
name: shop
state-dir: /run/none/shop
log-level: warn
defaults:
  stop-timeout: 20s
  environment: {COLOUR: red, SIZE: big}
  RestartConfig:
    MaxRetryCount: 7
    KillTimeout: 15000
services:
  api:
    command: [./api, -v]
    listen: [127.0.0.1:7001, "admin=127.0.0.1:7002"]
    id: 1.11.1.1
    zone: 13
    type: GameServer
    environment: {COLOUR: blue}
    RestartConfig:
      RetryInterval: 2.5
      GracefulTimeout: 30
      ForceKillTimeout: 1m
      AutoExitTimeout: 10000
      EventProcessDelay: 50
  web:
    command: ./web --quiet
    listen: 127.0.0.1:7003
    dialect: [systemd, nginx]
    strategy: exclusive
`

func TestPlanSeveral(t *testing.T) {
	p, errs := planned(t, written(t, shop), nil)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	if !p.several || len(p.services) != 2 || p.own.config.Name != "shop" || p.own.config.StateDir != "/run/none/shop" || p.own.logLevel != "warn" {
		t.Fatalf("%+v", p)
	}
	api, web := p.services[0], p.services[1]
	if api.Name != "api" || !slices.Equal(api.Command, []string{"./api", "-v"}) || len(api.Listen) != 2 || api.Listen[1].Name != "admin" {
		t.Errorf("api: %+v", api)
	}
	if api.Labels != (upgrader.Labels{ID: "1.11.1.1", Zone: "13", Type: "GameServer"}) {
		t.Errorf("labels: %+v", api.Labels)
	}
	if api.RetryMax != 7 || api.RetryInterval != 2500*time.Millisecond || api.Insist != 30*time.Second || api.StopTimeout != time.Minute ||
		api.DrainTimeout != 15*time.Second || api.Linger != 10*time.Second || api.RetireDelay() != 50*time.Millisecond {
		t.Errorf("RestartConfig: %+v", api)
	}
	env := strings.Join(api.Environ[len(api.Environ)-3:], " ")
	if !strings.HasSuffix(env, "COLOUR=blue") || !strings.Contains(env, "SIZE=big") {
		t.Errorf("environment: %s", env)
	}
	if !slices.Equal(web.Command, []string{"./web", "--quiet"}) || web.StopTimeout != 20*time.Second || web.Strategy != upgrader.Exclusive || len(web.Dialects) != 2 {
		t.Errorf("web: %+v", web)
	}
	if web.StateDir != "/run/none/shop/service.web" {
		t.Errorf("state dir: %s", web.StateDir)
	}
}

// What is given nearer to the call wins: flag, environment, service, defaults.
func TestPrecedence(t *testing.T) {
	path := written(t, shop)
	for _, c := range []struct {
		env  map[string]string
		args []string
		api  time.Duration
		web  time.Duration
	}{
		{nil, nil, time.Minute, 20 * time.Second},
		{map[string]string{"UPGRADER_STOP_TIMEOUT": "3s"}, nil, 3 * time.Second, 3 * time.Second},
		{map[string]string{"UPGRADER_STOP_TIMEOUT": "3s"}, []string{"--stop-timeout", "4s"}, 4 * time.Second, 4 * time.Second},
	} {
		p, errs := planned(t, path, c.env, c.args...)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		if p.services[0].StopTimeout != c.api || p.services[1].StopTimeout != c.web {
			t.Errorf("%v %v: %v, %v", c.env, c.args, p.services[0].StopTimeout, p.services[1].StopTimeout)
		}
	}
	if _, errs := planned(t, path, nil, "--listen", ":1"); len(errs) != 1 || !strings.Contains(errs[0].Error(), "--listen") {
		t.Errorf("an address for all of several services: %v", errs)
	}
	if _, errs := planned(t, path, nil, "--", "./other"); len(errs) != 1 || !strings.Contains(errs[0].Error(), "./other") {
		t.Errorf("a command beside services: %v", errs)
	}
}

func TestPlanOne(t *testing.T) {
	path := written(t, "command: [./server]\nlisten:\n  - 127.0.0.1:7001\n  - 127.0.0.1:7002\nname: one\nretry-max: 9\n")
	p, errs := planned(t, path, nil)
	if len(errs) > 0 || p.several || len(p.services) != 1 || p.services[0].RetryMax != 9 || len(p.services[0].Listen) != 2 {
		t.Fatalf("%+v, %v", p, errs)
	}
	p, errs = planned(t, path, map[string]string{"UPGRADER_LISTEN": "127.0.0.1:7009"}, "--retry-max", "1", "--", "./other", "-x")
	if len(errs) > 0 || p.services[0].RetryMax != 1 || len(p.services[0].Listen) != 1 || !slices.Equal(p.services[0].Command, []string{"./other", "-x"}) {
		t.Fatalf("%+v, %v", p, errs)
	}
}

// Every mistake is told with its line, and with the way out.
func TestConfigErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "nothing in it"},
		{"- a\n", ":1: want KEY: VALUE"},
		{"services: []\n", ":1: services: wants a mapping"},
		{"services:\n  a:\n    command: [x]\n  a:\n    command: [y]\n", ":4: "},
		{"services:\n  a:\n    listen: [:1]\n", ":2: a has no command"},
		{"services:\n  a b:\n    command: [x]\n", `:2: the name "a b" must consist of`},
		{"services:\n  a:\n    command: [x]\n    stop_timeout: 3s\n", ":4: there is no key stop_timeout: it is called stop-timeout"},
		{"services:\n  a:\n    command: [x]\n    maxretrycount: 3\n", ":4: there is no key maxretrycount: it is called MaxRetryCount under RestartConfig"},
		{"services:\n  a:\n    command: [x]\n    nonsense: 3\n", ":4: there is no key nonsense: keys are the flags"},
		{"services:\n  a:\n    command: [x]\n    stop-timeout: 3\n", `:4: stop-timeout: "3" is no duration: write a number with its unit`},
		{"services:\n  a:\n    command: [x]\n    retry-max: many\n", ":4: retry-max: "},
		{"services:\n  a:\n    command: [x]\n    warmup: {}\n", ":4: there is no key warmup"},
		{"services:\n  a:\n    command: [x]\n    die-with-parent: perhaps\n", ":4: die-with-parent: "},
		{"services:\n  a:\n    command: [x]\n    strategy: hope\n", ":4: strategy hope: want overlap, exclusive"},
		{"services:\n  a:\n    command: [x]\n    drain-max: 0\n", ":4: drain-max must be at least 1"},
		{"services:\n  a:\n    command: [x]\n    RestartConfig: {MaxRetryCount: -1}\n", ":4: RestartConfig: MaxRetryCount: "},
		{"services:\n  a:\n    command: [x]\n    RestartConfig: {KillTimeout: soon}\n", ":4: RestartConfig: KillTimeout: "},
		{"services:\n  a:\n    command: [x]\n    RestartConfig:\n      Tries: 3\n", ":5: RestartConfig: there is no key Tries: want "},
		{"services:\n  a:\n    command: [x]\n    RestartConfig:\n      DataBackupEnabled: true\n", ":5: RestartConfig: DataBackupEnabled is not needed"},
		{"services:\n  a:\n    command: [x]\n    retry-max: 3\n    RestartConfig:\n      MaxRetryCount: 3\n", ":6: MaxRetryCount says what retry-max in line 4 said"},
		{"services:\n  a:\n    command: x | y\n", ":3: command: no shell reads it"},
		{"services:\n  a:\n    command: [[x]]\n", ":3: command: want a list of words"},
		{"services:\n  a:\n    command: [x]\n    name: b\n", ":4: the name of a service is its key"},
		{"services:\n  a:\n    command: [x]\n    http: on\n", ":4: http belongs to the upgrader itself"},
		{"services:\n  a:\n    command: [x]\n    config: b\n", ":4: there is no key config"},
		{"services:\n  a:\n    command: [x]\n    environment: [a]\n", ":4: environment: want NAME: VALUE lines"},
		{"stop-timeout: 3s\nservices:\n  a:\n    command: [x]\n", ":1: stop-timeout belongs to a service"},
		{"defaults: {listen: \":1\"}\nservices:\n  a:\n    command: [x]\n", ":1: listen cannot be the same for several"},
		{"services:\n  a: {command: [x], listen: \":7001\"}\n  b:\n    command: [x]\n    listen: \":7001\"\n", ":5: tcp://:7001 is claimed by a too"},
		{"services:\n  a: {command: [x], listen: \":7001\"}\n  b:\n    command: [x]\n    proxy: 7001=intercepted\n", ":5: tcp://:7001 is claimed by a too"},
		{"services:\n  a:\n    command: [x]\n    proxy: 7001=7002?policy=never\n", ":4: proxy 7001=7002?policy=never: "},
		{"defaults: {proxy: 7001=intercepted}\nservices:\n  a:\n    command: [x]\n", ":1: proxy cannot be the same for several"},
		{"listen: [:1]\n", "no command: write command: [./server]"},
		{"command: [x]\n---\ncommand: [y]\n", ":3: a second document"},
		{"command: *x\n", ":1: "},
		{"command: [x\n", ":1: "},
		{"a: &a [*a, *a]\n", ":1: "},
		{"command: !exec x\n", ":1: "},
	} {
		path := written(t, c.text)
		_, errs := planned(t, path, nil)
		if len(errs) == 0 {
			t.Errorf("%q was accepted", c.text)
			continue
		}
		if got := errs[0].Error(); !strings.HasPrefix(got, path+":") || !strings.Contains(strings.TrimPrefix(got, path), c.want) {
			t.Errorf("%q\n got %s\nwant %s", c.text, strings.TrimPrefix(got, path), c.want)
		}
	}
}

// config check tells of everything at once, and of what is not on this machine.
func TestConfigCheck(t *testing.T) {
	path := written(t, "services:\n  a:\n    command: [/no/such/server]\n  b:\n    command: [/bin/sh]\n    env-file: /no/such/file\n  c:\n    command: [/bin/sh]\n    user: nobody-of-that-name\n")
	names, _, errs := checkConfig(path)
	if len(errs) != 3 || !slices.Equal(names, []string{"a", "b"}) {
		t.Fatalf("%v, %v", names, errs)
	}
	for i, want := range []string{":9: user: nobody-of-that-name", ":2: a: ", ":4: b: env-file: "} {
		if got := strings.TrimPrefix(errs[i].Error(), path); !strings.HasPrefix(got, want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// Whatever is in a file, it is read or refused.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(shop))
	f.Add([]byte("a: &a {b: 1}\nc:\n  <<: *a\n  d: |\n    x\n"))
	f.Add([]byte("command: [x, 'y', \"z\"]\nlisten: [8080]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tree, err := parseTree(data)
		if err != nil {
			return
		}
		r := &sectionReader{path: "f", known: knownFlags()}
		r.section(tree, oneService)
	})
}

// What has no effect is told with its line, and is no mistake.
func TestConfigIdle(t *testing.T) {
	path := written(t, `
defaults:
  stop-timeout: 10s
  RestartConfig: {GracefulTimeout: 30}
services:
  one:
    command: [sleep, "1"]
    strategy: exclusive
    RestartConfig:
      EventProcessDelay: 50
      KillTimeout: 15000
      AutoExitTimeout: 15000
  two:
    command: [sleep, "1"]
    retry-max: 1
    retry-interval: 3s
    RestartConfig: {EventProcessDelay: 50, AutoExitTimeout: 9000, GracefulTimeout: 5}
`)
	names, idle, errs := checkConfig(path)
	if len(errs) > 0 || len(names) != 2 {
		t.Fatalf("%v, %v", names, errs)
	}
	want := []string{
		":10: EventProcessDelay: retire-delay has no effect: with --strategy exclusive",
		":4: GracefulTimeout: graceful-timeout has no effect: KILL comes first",
		":12: AutoExitTimeout: linger-timeout has no effect: KILL comes first",
		":16: retry-interval has no effect: it is the pause before the second retry",
	}
	if len(idle) != len(want) {
		t.Errorf("%d are told, want %d: %v", len(idle), len(want), idle)
	}
	for i, text := range want[:min(len(want), len(idle))] {
		if got := idle[i].Error(); !strings.HasPrefix(got, path+text) {
			t.Errorf("%q, want %q", got, text)
		}
	}
}
