package ready

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// patient is a context that ends only when something is broken.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// refused gives a Dial that is refused n times and then reaches l.
func refused(n int32, l net.Listener) (func(context.Context, string, string) (net.Conn, error), *atomic.Int32) {
	var dials atomic.Int32
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		if dials.Add(1) <= n {
			return nil, errors.New("refused")
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	}, &dials
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	spec := Spec{Kind: TCP, Address: l.Addr().String()}
	if err := Run(patient(t), spec, nil); err != nil {
		t.Error(err)
	}
	if err := Once(patient(t), spec, nil); err != nil {
		t.Error(err)
	}
	dial, dials := refused(3, l)
	if err := Run(patient(t), spec, &Options{Dial: dial}); err != nil || dials.Load() != 4 {
		t.Errorf("after %d connections: %v", dials.Load(), err)
	}
	_ = l.Close()
	if err := Once(patient(t), spec, nil); err == nil {
		t.Error("nobody listens, and the probe holds")
	}
}

// serve answers with what the path says.
func serve(t *testing.T, start func(*httptest.Server)) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.UserAgent() != "upgrader-probe" {
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	mux.HandleFunc("/long", func(w http.ResponseWriter, _ *http.Request) {
		for _, err := w.Write(make([]byte, 1<<16)); err == nil; _, err = w.Write(make([]byte, 1<<16)) {
		}
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/bad", http.StatusFound) })
	mux.HandleFunc("/bad", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/gone", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	mux.HandleFunc("/hang", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := httptest.NewUnstartedServer(mux)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	start(s)
	t.Cleanup(s.Close)
	return s
}

func TestHTTP(t *testing.T) {
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	for name, start := range map[string]func(*httptest.Server){"http": (*httptest.Server).Start, "https": (*httptest.Server).StartTLS} {
		s := serve(t, start)
		for path, holds := range map[string]bool{"/ok": true, "/long": true, "/away": true, "/bad": false, "/gone": false} {
			err := Once(patient(t), Spec{Kind: HTTP, URL: s.URL + path}, nil)
			if (err == nil) != holds {
				t.Errorf("%s%s: %v", name, path, err)
			}
			if path == "/bad" && !strings.Contains(err.Error(), "503") {
				t.Errorf("the error does not tell the status: %v", err)
			}
		}
	}
}

// A name that only a proxy would be asked for reaches the dialer as it is, and
// the probe is repeated until it is answered.
func TestHTTPDialsTheSuccessor(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	s := serve(t, (*httptest.Server).Start)
	dial, dials := refused(2, s.Listener)
	if err := Run(patient(t), Spec{Kind: HTTP, URL: "http://somewhere.invalid/ok"}, &Options{Dial: dial}); err != nil || dials.Load() != 3 {
		t.Errorf("after %d connections: %v", dials.Load(), err)
	}
}

func TestHTTPDoesNotOutliveItsContext(t *testing.T) {
	s := serve(t, (*httptest.Server).Start)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := Run(ctx, Spec{Kind: HTTP, URL: s.URL + "/hang"}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
