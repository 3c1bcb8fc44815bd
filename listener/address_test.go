package listener

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for spec, want := range map[string]Address{
		"8080":                          {Network: "tcp", Port: 8080},
		":8080":                         {Network: "tcp", Port: 8080},
		"*:8080":                        {Network: "tcp", Port: 8080},
		"0":                             {Network: "tcp"},
		"localhost:80":                  {Network: "tcp", Host: "localhost", Port: 80},
		"127.0.0.1:80":                  {Network: "tcp", Host: "127.0.0.1", Port: 80},
		"[::1]:80":                      {Network: "tcp", Host: "::1", Port: 80},
		"[fe80::1%eth0]:80":             {Network: "tcp", Host: "fe80::1%eth0", Port: 80},
		"tcp://8080":                    {Network: "tcp", Port: 8080},
		"tcp4://:80":                    {Network: "tcp4", Port: 80},
		"tcp6://[::]:80":                {Network: "tcp6", Host: "::", Port: 80},
		"udp://127.0.0.1:53":            {Network: "udp", Host: "127.0.0.1", Port: 53},
		"udp4://:53":                    {Network: "udp4", Port: 53},
		"udp6://[::1]:53":               {Network: "udp6", Host: "::1", Port: 53},
		"unix:///run/a.sock":            {Network: "unix", Path: "/run/a.sock"},
		"unix:/run//a.sock":             {Network: "unix", Path: "/run/a.sock"},
		"unix:///run/a=b:c.sock":        {Network: "unix", Path: "/run/a=b:c.sock"},
		"unixgram:///run/a.sock":        {Network: "unixgram", Path: "/run/a.sock"},
		"unixgram:/run/a.sock":          {Network: "unixgram", Path: "/run/a.sock"},
		"log=unixgram:///a?mode=0666":   {Name: "log", Network: "unixgram", Path: "/a", Mode: 0o666},
		"web=:80":                       {Name: "web", Network: "tcp", Port: 80},
		"web-1.x_y=tcp://h:80":          {Name: "web-1.x_y", Network: "tcp", Host: "h", Port: 80},
		":80?backlog=7":                 {Network: "tcp", Port: 80, Backlog: 7},
		"unix:///a?mode=0660&user=u":    {Network: "unix", Path: "/a", Mode: 0o660, User: "u"},
		"x=unix:///a?group=7&backlog=2": {Name: "x", Network: "unix", Path: "/a", Group: "7", Backlog: 2},
	} {
		got, err := ParseAddress(spec)
		if err != nil {
			t.Errorf("%q: %v", spec, err)
			continue
		}
		want.Spec = strings.TrimPrefix(spec, want.Name+"=")
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got %+v, want %+v", spec, got, want)
		}
	}
}

func TestParseAddressErrors(t *testing.T) {
	for spec, reason := range map[string]string{
		"":                                "empty",
		"web=":                            "empty",
		"=:80":                            "name",
		"a b=:80":                         "name",
		strings.Repeat("n", 256) + "=:80": "name",
		"host":                            "missing port",
		"/run/a.sock":                     "unix://",
		"http://:80":                      "scheme",
		":http":                           "not a number",
		":65536":                          "more than 65535",
		":-1":                             "not a number",
		"70000":                           "more than 65535",
		"1:2:3":                           "too many colons",
		"[::1]":                           "missing port",
		"tcp4://[::1]:80":                 "no IPv4",
		"udp6://127.0.0.1:80":             "no IPv6",
		"unix://run/a.sock":               "three slashes",
		"unixgram://run/a.sock":           "three slashes",
		"unixgram:///a?backlog=1":         "not for unixgram",
		"unixgram:///a?mode=888":          "octal",
		"unixgram:@abstract":              "abstract",
		"unix://":                         "missing",
		"unix:@abstract":                  "abstract",
		"unix:///run/":                    "directory",
		"unix:///run/.lane-x":             "taken",
		"unix:///" + strings.Repeat("x", maxUnixPath): "bytes long",
		":80?mode=0600":           "unix and unixgram only",
		":80?colour=red":          "none of",
		":80?backlog=":            "empty",
		":80?backlog=0":           "positive",
		":80?backlog=1&backlog=2": "twice",
		"udp://:53?backlog=1":     "not for udp",
		"unix:///a?mode=999":      "octal",
		"unix:///a?mode=01777":    "octal",
		":80\n":                   "control",
	} {
		_, err := ParseAddress(spec)
		if err == nil || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want one line with %q", spec, err, reason)
		}
	}
}

func TestAddressString(t *testing.T) {
	for spec, want := range map[string]string{
		"web=8080":           "tcp://:8080",
		"[::1]:80":           "tcp://[::1]:80",
		"unix:///a?mode=600": "unix:///a",
	} {
		a, err := ParseAddress(spec)
		if err != nil || a.String() != want {
			t.Errorf("%q: got %q, %v, want %q", spec, a.String(), err, want)
		}
	}
}
