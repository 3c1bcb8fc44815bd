package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// web runs the API until the test ends, on loopback unless c says otherwise.
func web(t *testing.T, c HTTPConfig, services ...Service) (*HTTP, string, func()) {
	t.Helper()
	c.Services = func() []Service { return services }
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	h, err := ListenHTTP(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	base, stop := runHTTP(t, h)
	return h, base, stop
}

func runHTTP(t *testing.T, h *HTTP) (base string, stop func()) {
	h.grace = 10 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error("Run:", err)
			}
		case <-time.After(patience):
			t.Error("Run does not end")
		}
	})
	t.Cleanup(stop)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return "http://" + h.Addr().String(), stop
}

// request asks, and reads the whole answer.
func request(t *testing.T, method, target string, change ...func(*http.Request)) (int, string, http.Header) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body), resp.Header
}

func header(key, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set(key, value) }
}

func host(name string) func(*http.Request) { return func(r *http.Request) { r.Host = name } }

// swapper is a service whose swaps end with verdict.
func swapper(verdict string) *fake {
	f := newFake()
	f.status.Generations = []Generation{{Number: 1, State: GenerationServing}}
	f.do = func(_ context.Context, r Request) (Answer, error) {
		switch r.Do {
		case DoRestart, DoRollback:
			return Answer{Verdict: &Verdict{Verdict: verdict, Asked: r.Asked}}, nil
		}
		return Answer{Message: "done"}, nil
	}
	return f
}

func TestHTTPVerdicts(t *testing.T) {
	broken := newFake()
	broken.do = func(context.Context, Request) (Answer, error) { return Answer{}, &Error{CodeStopping, "stopping"} }
	silent := newFake() // answers without a verdict
	_, base, _ := web(t, HTTPConfig{},
		Service{Server: "good", ID: "1.1", Zone: "1", Type: "Game", Handler: swapper(Committed)},
		Service{Server: "good", ID: "1.2", Zone: "1", Type: "Login", Handler: swapper(Committed)},
		Service{Server: "bad", ID: "2.1", Zone: "2", Type: "Game", Handler: swapper(RolledBack)},
		Service{Server: "ugly", ID: "2.2", Zone: "2", Type: "Web", Handler: swapper(Failed)},
		Service{Server: "broken", ID: "3.1", Zone: "3", Type: "Web", Handler: broken},
		Service{Server: "silent", ID: "4.1", Zone: "4", Type: "None", Handler: silent},
	)
	for _, x := range []struct {
		target string
		code   int
		ids    string // of the results
	}{
		{"/restart?Server=good&ID=1.1", 200, "1.1"},
		{"/restart?ID=1.1&wait=commit", 200, "1.1"},
		{"/restart?ID=1.1&wait=probation", 200, "1.1"},
		{"/rollback?ID=1.1", 200, "1.1"},
		{"/reload?ID=1.1", 200, "1.1"},
		{"/stop?ID=1.1", 200, "1.1"},
		{"/stop?ID=1.1&now=1", 200, "1.1"},
		{"/restart?Zone=1", 200, "1.1 1.2"},
		{"/restart?Server=bad", 409, "2.1"},
		{"/restart?Server=ugly", 500, "2.2"},
		{"/restart?Zone=2", 500, "2.1 2.2"},
		{"/restart?ServerType=Game", 409, "1.1 2.1"},
		{"/restart?Server=broken", 503, "3.1"},
		{"/restart?Server=silent", 500, "4.1"},
		{"/reload?Server=silent", 200, "4.1"},
		{"/restartall", 503, "1.1 1.2 2.1 2.2 3.1 4.1"},
		{"/restartall?Zone=1", 200, "1.1 1.2"},
		{"/restart", 400, ""},
		{"/stop", 400, ""},
		{"/restart?ID=9", 404, ""},
		{"/restart?Server=good&ID=2.1", 404, ""},
		{"/restart?Server=", 404, ""},
		{"/restart?Zone=1&Zone=2", 400, ""},
		{"/restart?ID=1.1&dry=1", 400, ""},
		{"/restart?ID=1.1&now=1", 400, ""},
		{"/restart?ID=1.1&wait=no", 400, ""},
		{"/stop?ID=1.1&now=maybe", 400, ""},
		{"/status?now=1", 400, ""},
		{"/restart/", 404, ""},
		{"/", 404, ""},
		{"/restart?ID=%zz", 400, ""},
	} {
		for _, method := range []string{"GET", "POST"} {
			code, body, head := request(t, method, base+x.target)
			if code != x.code {
				t.Errorf("%s %s: %d, want %d: %s", method, x.target, code, x.code, body)
			}
			var all results
			if err := json.Unmarshal([]byte(body), &all); err != nil || head.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %q, %v", x.target, body, err)
			}
			var ids []string
			for _, r := range all.Results {
				ids = append(ids, r.ID)
				if r.Verdict != nil && r.Verdict.Asked != AskedHTTP {
					t.Errorf("%s: asked by %s", x.target, r.Verdict.Asked)
				}
			}
			if strings.Join(ids, " ") != x.ids || all.OK != (code == 200) || (x.ids == "") != (all.Error != nil) {
				t.Errorf("%s: %s", x.target, body)
			}
		}
	}
	form := strings.NewReader(url.Values{"ID": {"1.1"}}.Encode())
	resp, err := http.Post(base+"/restart", "application/x-www-form-urlencoded", form)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("a form: %d", resp.StatusCode)
	}
}

func TestHTTPStatus(t *testing.T) {
	down := newFake()
	broken := newFake()
	broken.err = errors.New("oh")
	good := swapper(Committed)
	good.status.Name = "good"
	_, base, _ := web(t, HTTPConfig{},
		Service{Server: "good", ID: "1", Handler: good}, Service{Server: "down", ID: "2", Handler: down}, Service{Server: "broken", ID: "3", Handler: broken})
	for target, x := range map[string]struct {
		code int
		part string
	}{
		"/status?ID=1":       {200, `{"services":[{"server":"good","id":"1","status":"running","service":{"version":1,"name":"good"`},
		"/status?ID=2":       {200, `"status":"down"`},
		"/status":            {500, `"error":{"code":"failed","message":"oh"}`},
		"/healthz?ID=1":      {200, `{"ok":true}`},
		"/healthz?ID=2":      {503, `{"ok":false}`},
		"/healthz":           {503, `{"ok":false}`},
		"/healthz?ID=9":      {404, `unknown`},
		"/metrics?ID=1":      {200, `upgrader_serving{service="good",id="1"} 1`},
		"/metrics?ID=3":      {500, `oh`},
		"/events?ID=9":       {404, `unknown`},
		"/metrics?Server=no": {404, `unknown`},
	} {
		code, body, head := request(t, "GET", base+target)
		if code != x.code || !strings.Contains(body, x.part) {
			t.Errorf("%s: %d %s", target, code, body)
		}
		if head.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", target, head)
		}
	}
	if code, body, _ := request(t, "HEAD", base+"/healthz?ID=1"); code != 200 || body != "" {
		t.Errorf("HEAD: %d %q", code, body)
	}
}

func TestHTTPAddress(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0"} {
		h, err := ListenHTTP(t.Context(), HTTPConfig{Address: address})
		if err == nil || !strings.Contains(err.Error(), "token") {
			t.Errorf("%s without a token: %v", address, err)
			h.Close()
		}
		if h, err = ListenHTTP(t.Context(), HTTPConfig{Address: address, Token: "t"}); err != nil {
			t.Error(err)
			continue
		}
		if h.loopback {
			t.Errorf("%s is loopback", address)
		}
		h.Close()
	}
	h, err := ListenHTTP(t.Context(), HTTPConfig{Address: "0"})
	if err != nil || !h.loopback {
		t.Fatalf("a port alone: %v", err)
	}
	h.Close()
	if _, err := ListenHTTP(t.Context(), HTTPConfig{Address: "what"}); err == nil {
		t.Error("no address was one")
	}
}

func TestHTTPInherit(t *testing.T) {
	first, base, stop := web(t, HTTPConfig{}, Service{Handler: swapper(RolledBack)})
	f, err := first.File()
	if err != nil {
		t.Fatal(err)
	}
	stop()
	http.DefaultClient.CloseIdleConnections()
	h, err := InheritHTTP(f, HTTPConfig{Services: func() []Service { return []Service{{Handler: swapper(Committed)}} }})
	if err != nil {
		t.Fatal(err)
	}
	runHTTP(t, h)
	if code, body, _ := request(t, "GET", base+"/restart"); code != 200 {
		t.Errorf("%d %s", code, body)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := InheritHTTP(r, HTTPConfig{Token: "t"}); err == nil {
		t.Error("a pipe was taken for a socket")
	}
}

func TestHTTPEvents(t *testing.T) {
	one, two := newFake(), newFake()
	h, base, stop := web(t, HTTPConfig{}, Service{Server: "one", Handler: one}, Service{Server: "two", ID: "2", Handler: two})
	_ = h
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	follow := func(query string) *bufio.Reader {
		r, err := http.NewRequestWithContext(ctx, "GET", base+"/events"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatal(resp.Status)
		}
		return bufio.NewReader(resp.Body)
	}
	all := follow("")
	receive(t, "a subscription", one.began)
	receive(t, "a subscription", two.began)
	next := func() (e sent) {
		t.Helper()
		for {
			line, err := all.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				if err := json.Unmarshal([]byte(data), &e); err != nil {
					t.Fatal(err)
				}
				return e
			}
		}
	}
	one.events <- Event{What: "ready", Generation: 3, Message: "two\nlines"}
	if e := next(); e.Server != "one" || e.What != "ready" || e.Generation != 3 || e.Message != "two\nlines" {
		t.Errorf("%+v", e)
	}
	two.events <- Event{What: "gone"}
	if e := next(); e.Server != "two" || e.ID != "2" {
		t.Errorf("%+v", e)
	}
	stop()
	receive(t, "its end", one.ended)
	receive(t, "its end", two.ended)
	_, _ = io.ReadAll(all) // it ends, in the middle or not
}

func TestHTTPEventsEndWithTheClient(t *testing.T) {
	f := newFake()
	_, base, _ := web(t, HTTPConfig{}, Service{Handler: f})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", base+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	receive(t, "the subscription", f.began)
	cancel()
	resp.Body.Close()
	receive(t, "its end", f.ended)
}

func TestHTTPAnswersThatAreDueAtTheEnd(t *testing.T) {
	f := newFake()
	stopped := make(chan struct{})
	f.do = func(ctx context.Context, r Request) (Answer, error) {
		f.began <- struct{}{}
		if r.Do == DoStop {
			<-stopped
			return Answer{Message: "stopped"}, nil
		}
		<-ctx.Done()
		return Answer{}, ctx.Err()
	}
	_, base, stop := web(t, HTTPConfig{}, Service{Handler: f})
	codes := make(chan string, 2)
	var all sync.WaitGroup
	defer all.Wait()
	for _, path := range []string{"/stop", "/restart"} {
		all.Go(func() {
			resp, err := http.Get(base + path)
			if err != nil {
				codes <- fmt.Sprint(path, " ", err)
				return
			}
			resp.Body.Close()
			codes <- fmt.Sprint(path, " ", resp.StatusCode)
		})
	}
	receive(t, "the call", f.began)
	receive(t, "the call", f.began)
	close(stopped)
	if got := receive(t, "the answer", codes); got != "/stop 200" {
		t.Error(got)
	}
	stop()
	if got := receive(t, "the answer", codes); got != "/restart 503" {
		t.Error(got)
	}
}

func TestHTTPObserves(t *testing.T) {
	got := make(chan error, 10)
	f := newFake()
	f.do = func(context.Context, Request) (Answer, error) { panic("a mistake") }
	_, base, _ := web(t, HTTPConfig{Observe: func(err error) { got <- err }}, Service{Handler: f})
	if resp, err := http.Get(base + "/reload"); err == nil {
		resp.Body.Close()
		t.Error("it was answered")
	}
	if err := receive(t, "the error", got); !strings.Contains(err.Error(), "a mistake") {
		t.Error(err)
	}
}

func TestMetrics(t *testing.T) {
	s := sample()
	s.Generations[1].Members = 4
	var x exposition
	x.add(Service{Server: "a\"b\\c\nd", ID: "1"}, s, noon)
	x.add(Service{ID: "2"}, s, noon)
	text := string(x.bytes())
	for _, line := range []string{
		`upgrader_serving{service="a\"b\\c\nd",id="1"} 1`,
		`upgrader_state{service="api",id="2",state="probation"} 1`,
		`upgrader_state_seconds{service="api",id="2"} 5`,
		`upgrader_swaps{service="api",id="2",verdict="committed"} 8`,
		`upgrader_swaps{service="api",id="2",verdict="rolled-back"} 1`,
		`upgrader_restarts_total{service="api",id="2"} 2`,
		`upgrader_generations{service="api",id="2",state="draining"} 1`,
		`upgrader_generations{service="api",id="2",state="warm"} 0`,
		`upgrader_serving_generation{service="api",id="2"} 10`,
		`upgrader_processes{service="api",id="2"} 4`,
		`upgrader_queue{service="api",id="2",claim="web",address="tcp :80"} 3`,
		`upgrader_last_swap_committed{service="api",id="2"} 1`,
		`upgrader_last_swap_duration_seconds{service="api",id="2"} 0.25`,
		`# TYPE upgrader_restarts_total counter`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("there is no %s in\n%s", line, text)
		}
	}
	if n := strings.Count(text, "# TYPE upgrader_serving gauge\n"); n != 1 {
		t.Errorf("a family came %d times", n)
	}
}
