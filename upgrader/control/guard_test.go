package control

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestHTTPGuard(t *testing.T) {
	f := swapper(Committed)
	var swaps atomic.Int32
	inner := f.do
	f.do = func(ctx context.Context, r Request) (Answer, error) { swaps.Add(1); return inner(ctx, r) }
	h, base, _ := web(t, HTTPConfig{Hosts: []string{"ops.example"}}, Service{Server: "api", Handler: f})
	_, port, _ := net.SplitHostPort(h.Addr().String())
	for _, x := range []struct {
		name   string
		method string
		change []func(*http.Request)
		code   int
	}{
		{"plain", "GET", nil, 200},
		{"localhost", "GET", []func(*http.Request){host("localhost:1234")}, 200},
		{"LocalHost.", "GET", []func(*http.Request){host("LocalHost.")}, 200},
		{"v6", "GET", []func(*http.Request){host("[::1]:80")}, 200},
		{"v6 bare", "GET", []func(*http.Request){host("[::1]")}, 200},
		{"named", "GET", []func(*http.Request){host("OPS.example:80")}, 200},
		{"rebound", "GET", []func(*http.Request){host("evil.example:" + port)}, 403},
		{"like", "GET", []func(*http.Request){host("localhost.evil.example")}, 403},
		{"address", "GET", []func(*http.Request){host("192.0.2.1")}, 403},
		{"numbers", "GET", []func(*http.Request){host("127.0.0.1.evil.example")}, 403},
		{"typed", "GET", []func(*http.Request){header("Sec-Fetch-Site", "none")}, 200},
		{"own page", "GET", []func(*http.Request){header("Sec-Fetch-Site", "same-origin"), header("Origin", base), header("Referer", base+"/x")}, 200},
		{"cross-site", "GET", []func(*http.Request){header("Sec-Fetch-Site", "cross-site")}, 403},
		{"same-site", "POST", []func(*http.Request){header("Sec-Fetch-Site", "same-site")}, 403},
		{"origin", "POST", []func(*http.Request){header("Origin", "http://evil.example")}, 403},
		{"null origin", "POST", []func(*http.Request){header("Origin", "null")}, 403},
		{"other port", "POST", []func(*http.Request){header("Origin", "http://127.0.0.1:1")}, 403},
		{"referer", "GET", []func(*http.Request){header("Referer", "https://evil.example/page")}, 403},
		{"head", "HEAD", nil, 405},
		{"put", "PUT", nil, 405},
		{"options", "OPTIONS", nil, 405},
		{"json", "POST", []func(*http.Request){header("Content-Type", "application/json"), posted("{}")}, 415},
		{"text", "POST", []func(*http.Request){header("Content-Type", "text/plain"), posted("Server=api")}, 415},
		{"no kind", "POST", []func(*http.Request){posted("x")}, 415},
		{"get with a body", "GET", []func(*http.Request){header("Content-Type", "application/x-www-form-urlencoded"), posted("Server=api")}, 415},
		{"long form", "POST", []func(*http.Request){header("Content-Type", "application/x-www-form-urlencoded"), posted("Server=" + strings.Repeat("x", maxBody))}, 400},
		{"form", "POST", []func(*http.Request){header("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"), posted("Server=api")}, 200},
	} {
		before := swaps.Load()
		code, body, _ := request(t, x.method, base+"/restart", x.change...)
		if code != x.code {
			t.Errorf("%s: %d, want %d: %s", x.name, code, x.code, body)
		}
		if did := swaps.Load() - before; did != 0 != (x.code == 200) {
			t.Errorf("%s: %d swaps", x.name, did)
		}
	}
}

func posted(body string) func(*http.Request) {
	return func(r *http.Request) {
		r.Body = io.NopCloser(strings.NewReader(body))
		r.ContentLength = int64(len(body))
	}
}

func TestHTTPToken(t *testing.T) {
	_, base, _ := web(t, HTTPConfig{Token: "secret"}, Service{Server: "api", Handler: swapper(Committed)})
	for shown, want := range map[string]int{
		"": 401, "secret": 401, "Bearer": 401, "Bearer secre": 401, "Bearer secrets": 401, "Basic secret": 401, "Bearer secret": 200, "bearer  secret": 200,
	} {
		code, _, head := request(t, "GET", base+"/restart", func(r *http.Request) {
			if shown != "" {
				r.Header.Set("Authorization", shown)
			}
		})
		if code != want || (code == 401) != (head.Get("WWW-Authenticate") != "") {
			t.Errorf("%q: %d, %v", shown, code, head)
		}
	}
	if code, _, _ := request(t, "GET", base+"/healthz"); code != 200 {
		t.Errorf("a probe: %d", code)
	}
	if code, _, _ := request(t, "GET", base+"/status"); code != 401 {
		t.Errorf("the status without it: %d", code)
	}
}

// FuzzHTTP asks whatever: a swap happens only when nothing forbids it, and is
// answered with 2xx only when it was committed.
func FuzzHTTP(f *testing.F) {
	f.Add("GET", "/restart?ID=1", "localhost", "", "", "", "")
	f.Add("POST", "/restartall", "127.0.0.1:80", "http://127.0.0.1:80", "same-origin", "application/x-www-form-urlencoded", "ID=1")
	f.Add("GET", "/stop?now=1&Zone=x", "evil.example", "null", "cross-site", "text/plain", "%zz")
	f.Add("GET", "/metrics", "[::1]", "", "", "", "")
	f.Fuzz(func(t *testing.T, method, target, name, origin, site, kind, body string) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n")))
		if err != nil {
			return
		}
		r.Method, r.Host = method, name
		r.Header = http.Header{}
		for key, value := range map[string]string{"Origin": origin, "Sec-Fetch-Site": site, "Content-Type": kind} {
			if value != "" {
				r.Header.Set(key, value)
			}
		}
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader([]byte(body))), int64(len(body))
		done := 0
		service := swapper(RolledBack)
		inner := service.do
		service.do = func(ctx context.Context, q Request) (Answer, error) {
			if q.Do == DoRestart || q.Do == DoRollback {
				done++
			}
			return inner(ctx, q)
		}
		close(service.events)
		h := &HTTP{config: HTTPConfig{Services: func() []Service { return []Service{{ID: "1", Handler: service}} }}, loopback: true, alive: time.Hour, write: time.Second}
		w := httptest.NewRecorder()
		h.handler(t.Context()).ServeHTTP(w, r)
		if done > 0 {
			if w.Code < 300 {
				t.Errorf("%s %s: a swap that was rolled back got %d", method, target, w.Code)
			}
			if !h.ownHost(name) || site != "" && site != "none" && site != "same-origin" || method != "GET" && method != "POST" || origin == "null" {
				t.Errorf("%s %s of %q, %q, %q swapped", method, target, name, origin, site)
			}
		}
	})
}
