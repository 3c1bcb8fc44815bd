package ready

import (
	"strings"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for s, want := range map[string]Spec{
		"auto":                          {Kind: Auto},
		"notify":                        {Kind: Notify},
		"listen":                        {Kind: Listen},
		"accept":                        {Kind: Accept},
		"delay=1500ms":                  {Kind: Delay, Delay: 1500 * time.Millisecond},
		"delay=0":                       {Kind: Delay},
		"tcp=8080":                      {Kind: TCP, Address: ":8080"},
		"tcp=:8080":                     {Kind: TCP, Address: ":8080"},
		"tcp=tcp://[::1]:80":            {Kind: TCP, Address: "[::1]:80"},
		"tcp=localhost:80":              {Kind: TCP, Address: "localhost:80"},
		"http=http://h/x?a=b=c":         {Kind: HTTP, URL: "http://h/x?a=b=c"},
		"http=https://h:8443/":          {Kind: HTTP, URL: "https://h:8443/"},
		"http=:8080/healthz":            {Kind: HTTP, URL: "http://localhost:8080/healthz"},
		"http=8080":                     {Kind: HTTP, URL: "http://localhost:8080"},
		"http=127.0.0.1:80/#part":       {Kind: HTTP, URL: "http://127.0.0.1:80/"},
		"exec=test -e /x && echo a=b":   {Kind: Exec, Command: "test -e /x && echo a=b"},
		"exec= /usr/bin/check --now   ": {Kind: Exec, Command: "/usr/bin/check --now"},
	} {
		got, err := Parse(s)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v; want %+v", s, got, err, want)
			continue
		}
		if again, err := Parse(got.String()); err != nil || again != got {
			t.Errorf("%q: String gives %q, which reads as %+v, %v", s, got, again, err)
		}
	}
	for _, s := range []string{
		"", "redy", "=", "auto=1", "accept=", "delay", "delay=", "delay=5", "delay=-1s", "delay=soon", "tcp", "tcp=", "tcp=h", "tcp=h:http",
		"tcp=h:0", "tcp=h:65536", "tcp=::1", "http=", "http=ftp://h", "http=http://", "http=http://:x/", "http=http:///x", "http=:0/x", "http=http://h:99999",
		"http=http://a b/", "exec=", "exec=  ", "exec=a\x00b", "delay=1s\ntcp=2",
	} {
		if got, err := Parse(s); err == nil {
			t.Errorf("%q was read as %+v", s, got)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: an error of more than one line: %q", s, err)
		}
	}
	if s := (Spec{}).String(); s != "auto" {
		t.Errorf("the zero value is %q", s)
	}
}
