package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/upgrader/upgrader/listener"
	"github.com/upgrader/upgrader/listener/proxy"
	"github.com/upgrader/upgrader/upgrader"
)

// proxyFlags are about the addresses whose clients keep their connections.
// Each of them is an option of one --proxy too.
type proxyFlags struct {
	proxy  []string
	common proxyOptions
}

// proxyOptions are as they were given; "" is the default.
type proxyOptions map[string]*string

// intercepted is the backend of a server that binds the public address.
const intercepted = "intercepted"

// proxyOption is one option: --proxy-NAME, or NAME= behind a backend's ?.
type proxyOption struct {
	name, help string
	set        func(p *upgrader.Proxied, value string) error
}

func proxyOptionList() []proxyOption {
	return []proxyOption{
		{"policy", "when a client of --proxy goes to the successor: `drain|resume|http1` (default drain; resume with --strategy exclusive)", setPolicy},
		{"protocol", "`v2`: tell the server of --proxy each client's address and id by a PROXY header", setHeaderOut},
		{"accept", "PROXY headers from clients of --proxy: `required|optional`", setHeaderIn},
		{"trusted", "`CIDR,...` of who may send them (default: everybody)", setTrusted},
		{"in-flight", "a client of --proxy whose bytes were in flight when its server died: `reset|resume` (default reset)", setInFlight},
		{"max", "connections of --proxy at a time, `N`; more wait (default: as many as descriptors allow)", setMax},
		{"dial", "how long a client of --proxy waits for a server that refuses, `D` (default 10s)", setTime(func(p *upgrader.Proxied) *time.Duration { return &p.Dial })},
		{"idle", "a connection of --proxy that nothing moved in for `D` is reset (default: never)", setTime(func(p *upgrader.Proxied) *time.Duration { return &p.Idle })},
		{"keepalive", "TCP keep-alive of --proxy after `D` without a byte, and as often; off: none (default: as the system has it)", setKeepAlive},
		{"user-timeout", "TCP_USER_TIMEOUT of --proxy, `D` (default: as the system has it)", setTime(func(p *upgrader.Proxied) *time.Duration { return &p.UserTimeout })},
	}
}

func (f *proxyFlags) register(set *pflag.FlagSet) {
	set.StringArrayVar(&f.proxy, "proxy", nil, "keep clients' connections, `PUBLIC=BACKEND`: accept on PUBLIC, connect to BACKEND, an address or intercepted (wherever the server thinks it binds PUBLIC); ?policy=http1&idle=5m and so on behind BACKEND are as the flags that follow; repeatable")
	f.common = proxyOptions{}
	for _, o := range proxyOptionList() {
		value := new(string)
		set.StringVar(value, "proxy-"+o.name, "", o.help)
		f.common[o.name] = value
	}
}

// parse makes the proxies, with an error that names the flag.
func (f *proxyFlags) parse() ([]upgrader.Proxied, error) {
	var all []upgrader.Proxied
	for _, spec := range f.proxy {
		for _, one := range strings.Fields(spec) { // in the environment: blanks between
			p, own, err := parseProxy(one)
			if err != nil {
				return nil, fmt.Errorf("--proxy %s: %w", one, err)
			}
			for _, o := range proxyOptionList() {
				flag, value := "--proxy "+one, own.Get(o.name)
				if value == "" {
					flag, value = "--proxy-"+o.name, *f.common[o.name]
				}
				if value == "" {
					continue
				}
				if err := o.set(&p, value); err != nil {
					return nil, fmt.Errorf("%s: %s %s: %w", flag, o.name, value, err)
				}
			}
			all = append(all, p)
		}
	}
	if len(all) > 0 {
		return all, nil
	}
	for _, o := range proxyOptionList() {
		if *f.common[o.name] != "" {
			return nil, fmt.Errorf("--proxy-%s is about --proxy: give it an address", o.name)
		}
	}
	return nil, nil
}

// parseProxy reads PUBLIC=BACKEND?OPTIONS. PUBLIC may have a = of its own: the
// first = with an address on both sides divides them.
func parseProxy(spec string) (p upgrader.Proxied, options url.Values, err error) {
	first := errors.New("want PUBLIC=BACKEND, as in 8080=127.0.0.1:9000 or 8080=intercepted")
	for i := range len(spec) {
		if spec[i] != '=' {
			continue
		}
		public, err := listener.ParseAddress(spec[:i])
		if err != nil {
			continue
		}
		p.Public = public
		if p.Backend, options, err = parseBackend(spec[i+1:]); err == nil {
			return p, options, nil
		}
		first = err
	}
	return p, nil, first
}

func parseBackend(spec string) (listener.Address, url.Values, error) {
	rest, query, _ := strings.Cut(spec, "?")
	options, err := url.ParseQuery(query)
	if err != nil {
		return listener.Address{}, nil, fmt.Errorf("options: %w", err)
	}
	for key, values := range options {
		if !slices.ContainsFunc(proxyOptionList(), func(o proxyOption) bool { return o.name == key }) {
			return listener.Address{}, nil, fmt.Errorf("the option %q is none of %s", key, optionNames())
		}
		if len(values) != 1 || values[0] == "" {
			return listener.Address{}, nil, fmt.Errorf("the option %s is given twice, or empty", key)
		}
	}
	if rest == intercepted {
		return listener.Address{}, options, nil
	}
	a, err := listener.ParseAddress(rest)
	if err == nil && a.Name != "" {
		err = fmt.Errorf("the backend %s has no name", rest)
	}
	if err == nil && a.Port == 0 && a.Path == "" {
		err = fmt.Errorf("the backend %s needs a port", rest)
	}
	return a, options, err
}

func optionNames() string {
	var names []string
	for _, o := range proxyOptionList() {
		names = append(names, o.name)
	}
	return strings.Join(names, ", ")
}

func setPolicy(p *upgrader.Proxied, value string) error {
	policy, err := proxy.ParsePolicy(value)
	p.Policy = &policy
	return err
}

func setHeaderOut(p *upgrader.Proxied, value string) error {
	if value != "v2" {
		return errors.New("want v2")
	}
	p.HeaderOut = true
	return nil
}

func setHeaderIn(p *upgrader.Proxied, value string) error {
	switch value {
	case "required":
		p.HeaderIn.Mode = proxy.HeaderRequired
	case "optional":
		p.HeaderIn.Mode = proxy.HeaderOptional
	default:
		return errors.New("want required or optional")
	}
	return nil
}

func setTrusted(p *upgrader.Proxied, value string) error {
	if p.HeaderIn.Mode == proxy.HeaderOff {
		return errors.New("nobody may send a PROXY header: give accept too")
	}
	for one := range strings.SplitSeq(value, ",") {
		prefix, err := netip.ParsePrefix(one)
		if ip, ipErr := netip.ParseAddr(one); ipErr == nil {
			prefix, err = ip.Prefix(ip.BitLen())
		}
		if err != nil {
			return fmt.Errorf("%s is no network", one)
		}
		p.HeaderIn.Trusted = append(p.HeaderIn.Trusted, prefix)
	}
	return nil
}

func setInFlight(p *upgrader.Proxied, value string) error {
	switch value {
	case "reset":
		p.InFlight = proxy.InFlightReset
	case "resume":
		p.InFlight = proxy.InFlightResume
	default:
		return errors.New("want reset or resume")
	}
	return nil
}

func setMax(p *upgrader.Proxied, value string) error {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return errors.New("want a number of at least 1")
	}
	p.Max = n
	return nil
}

func setTime(of func(*upgrader.Proxied) *time.Duration) func(*upgrader.Proxied, string) error {
	return func(p *upgrader.Proxied, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return errors.New("want a time such as 30s")
		}
		*of(p) = d
		return nil
	}
}

func setKeepAlive(p *upgrader.Proxied, value string) error {
	if value == "off" {
		p.KeepAlive = net.KeepAliveConfig{Enable: false, Idle: -1, Interval: -1, Count: -1}
		return nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < time.Second {
		return errors.New("want off, or a time of at least 1s")
	}
	p.KeepAlive = net.KeepAliveConfig{Enable: true, Idle: d, Interval: d, Count: -1}
	return nil
}
