package ready

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Kind says what proves readiness.
type Kind string

// The kinds.
const (
	Auto   Kind = "auto"   // the first of what can be seen: READY=1, an accept, a listen
	Notify Kind = "notify" // READY=1 on NOTIFY_SOCKET
	Listen Kind = "listen" // its listen(2), when intercepted
	Accept Kind = "accept" // a connection on its own lane is accepted
	Delay  Kind = "delay"  // it lived for so long
	TCP    Kind = "tcp"    // a connection is made
	HTTP   Kind = "http"   // a GET is answered 2xx or 3xx
	Exec   Kind = "exec"   // a command exits 0
)

// Spec is what a user asked for. The zero value is Auto.
type Spec struct {
	Kind    Kind
	Delay   time.Duration // of Delay
	Address string        // of TCP: HOST:PORT
	URL     string        // of HTTP
	Command string        // of Exec: for the shell
}

// usage is what every error of Parse ends with.
const usage = "want auto, notify, listen, accept, delay=D, tcp=ADDR, http=URL or exec=CMD"

// Parse reads auto|notify|listen|accept|delay=D|tcp=ADDR|http=URL|exec=CMD.
// Its errors are one line.
func Parse(s string) (Spec, error) {
	word, value, has := strings.Cut(s, "=")
	k := Kind(strings.TrimSpace(word))
	switch k {
	case Auto, Notify, Listen, Accept:
		if has {
			return Spec{}, fmt.Errorf("ready: %s takes no value: %s", k, usage)
		}
		return Spec{Kind: k}, nil
	case Delay, TCP, HTTP, Exec:
	default:
		return Spec{}, fmt.Errorf("ready: %q is not known: %s", word, usage)
	}
	if value = strings.TrimSpace(value); value == "" {
		return Spec{}, fmt.Errorf("ready: %s needs a value: %s", k, usage)
	}
	spec := Spec{Kind: k}
	var err error
	switch k {
	case Delay:
		spec.Delay, err = parseDelay(value)
	case TCP:
		spec.Address, err = parseAddress(value)
	case HTTP:
		spec.URL, err = parseURL(value)
	case Exec:
		if spec.Command = value; strings.ContainsRune(value, 0) {
			err = errors.New("a NUL in a command")
		}
	}
	if err != nil {
		return Spec{}, fmt.Errorf("ready: %s=%q: %w", k, value, err)
	}
	return spec, nil
}

// String gives what Parse reads.
func (s Spec) String() string {
	switch s.Kind {
	case "":
		return string(Auto)
	case Delay:
		return "delay=" + s.Delay.String()
	case TCP:
		return "tcp=" + s.Address
	case HTTP:
		return "http=" + s.URL
	case Exec:
		return "exec=" + s.Command
	}
	return string(s.Kind)
}

func parseDelay(value string) (time.Duration, error) {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return 0, errors.New("want a duration such as 500ms or 2s")
	}
	return d, nil
}

// parseAddress reads PORT, :PORT, HOST:PORT or [HOST]:PORT, with or without
// tcp:// in front. Without a host it is this one.
func parseAddress(value string) (string, error) {
	value = strings.TrimPrefix(value, "tcp://")
	if strings.Trim(value, "0123456789") == "" {
		value = ":" + value
	}
	host, port, err := net.SplitHostPort(value)
	if err != nil {
		return "", errors.New("want PORT or HOST:PORT")
	}
	if err := checkPort(port); err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

func checkPort(port string) error {
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is no port from 1 to 65535", port)
	}
	return nil
}

// parseURL reads an http or https URL. What has no scheme is http; what has no
// host is on this one: :8080/healthz, 8080/healthz, HOST:PORT/healthz.
func parseURL(value string) (string, error) {
	if !strings.Contains(value, "://") {
		if port, _, _ := strings.Cut(value, "/"); strings.Trim(port, "0123456789") == "" {
			value = ":" + value
		}
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil {
		return "", errors.New("not a URL")
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("want an http or https URL")
	}
	if port := u.Port(); port != "" {
		if err := checkPort(port); err != nil {
			return "", err
		}
		if u.Hostname() == "" {
			u.Host = net.JoinHostPort("localhost", port)
		}
	}
	if u.Hostname() == "" {
		return "", errors.New("a URL without a host")
	}
	u.Fragment = ""
	return u.String(), nil
}
