package control

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// results is the answer of whatever does something.
type results struct {
	OK      bool     `json:"ok"`
	Results []Result `json:"results,omitempty"`
	Error   *Error   `json:"error,omitempty"` // nothing was done
}

// shown is one service in the answer of /status.
type shown struct {
	Server  string  `json:"server"`
	ID      string  `json:"id,omitempty"`
	Zone    string  `json:"zone,omitempty"`
	Type    string  `json:"type,omitempty"`
	Status  string  `json:"status"`            // running, or down
	Service *Status `json:"service,omitempty"` // as `status --json` prints it
	Error   *Error  `json:"error,omitempty"`
}

// selectors are parameters that say which services are meant.
var selectors = [...]string{"Server", "ID", "ServerType", "Zone"}

// handler serves the API; streams end with ctx.
func (h *HTTP) handler(ctx context.Context) http.Handler {
	do := func(do string, known ...string) func(http.ResponseWriter, *http.Request, url.Values) {
		return func(w http.ResponseWriter, r *http.Request, p url.Values) { h.do(w, r, p, do, known) }
	}
	routes := map[string]func(http.ResponseWriter, *http.Request, url.Values){
		"/restart":     do(DoRestart, "wait", "canary", "step"),
		"/restartall":  do(DoRestart, "wait", "canary", "step"),
		"/rollback":    do(DoRollback, "wait"),
		"/reload":      do(DoReload),
		"/selfupgrade": do(DoSelfUpgrade),
		"/stop":        do(DoStop, "now"),
		"/status":      h.status,
		"/healthz":     h.health,
		"/metrics":     h.metrics,
		"/events":      func(w http.ResponseWriter, r *http.Request, p url.Values) { h.stream(ctx, w, r, p) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.requests.enter() {
			return // the connection is closed already
		}
		defer h.requests.Done()
		// A server's own deadline would end the context of a request that
		// waits: this one is for the body only. Who is refused keeps it.
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(usual().request)) // a connection has deadlines
		parameters, e, code := h.admit(w, r)
		if e != nil {
			w.Header().Set("Connection", "close")
			h.answer(w, code, results{Error: e})
			return
		}
		_ = control.SetReadDeadline(time.Time{}) // as before
		route, ok := routes[r.URL.Path]
		if !ok {
			h.answer(w, http.StatusNotFound, results{Error: &Error{CodeUnknown, "there is nothing at this path"}})
			return
		}
		route(w, r, parameters)
	})
}

// answer writes v, within the time that a client has for that.
func (h *HTTP) answer(w http.ResponseWriter, code int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		code, data = http.StatusInternalServerError, []byte(`{"ok":false}`)
	}
	h.put(w, code, "application/json", append(data, '\n'))
}

// put writes a whole answer: when it returns nothing of it is left here, so
// that the connection may be closed.
func (h *HTTP) put(w http.ResponseWriter, code int, kind string, data []byte) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(h.write)) // a connection has deadlines
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(code)
	_, _ = w.Write(data) // it left
	_ = control.Flush()  // likewise
}

// choose gives the services that p selects.
func (h *HTTP) choose(p url.Values, all bool, known ...string) ([]Service, *Error) {
	selects := all
	for key, values := range p {
		is := slices.Contains(selectors[:], key)
		if !is && !slices.Contains(known, key) {
			return nil, &Error{CodeBadRequest, fmt.Sprintf("no such parameter: %.64q", key)}
		}
		if len(values) != 1 {
			return nil, &Error{CodeBadRequest, fmt.Sprintf("the parameter %s is given more than once", key)}
		}
		selects = selects || is
	}
	services := h.config.Services()
	if !selects && len(services) > 1 {
		return nil, &Error{CodeBadRequest, "there are several services: say which by Server=, ID=, ServerType= or Zone="}
	}
	services = slices.DeleteFunc(slices.Clone(services), func(s Service) bool {
		for i, value := range [...]string{s.Server, s.ID, s.Type, s.Zone} {
			if key := selectors[i]; p.Has(key) && p.Get(key) != value {
				return true
			}
		}
		return false
	})
	if len(services) == 0 {
		return nil, &Error{CodeUnknown, "there is no such service"}
	}
	return services, nil
}

// do asks the selected services, one after the other, to do something: a
// self-upgrade is of all at once.
func (h *HTTP) do(w http.ResponseWriter, r *http.Request, p url.Values, do string, known []string) {
	q := Request{Version: ProtocolVersion, Do: do, Asked: AskedHTTP}
	services, e := h.choose(p, strings.HasSuffix(r.URL.Path, "all") || do == DoSelfUpgrade, known...)
	if e == nil {
		q.Args, e = arguments(p)
	}
	if e != nil {
		h.answer(w, statusOf(e), results{Error: e})
		return
	}
	all, code := results{OK: true}, http.StatusOK
	all.Results = make([]Result, len(services))
	codes := make([]int, len(services))
	each := func(i int) { all.Results[i], codes[i] = ask(r.Context(), services[i], q) }
	var together sync.WaitGroup
	for i := range services {
		if do == DoSelfUpgrade { // one for all of them
			together.Go(func() { each(i) })
		} else {
			each(i)
		}
	}
	together.Wait()
	code = max(code, slices.Max(codes))
	all.OK = code == http.StatusOK
	h.answer(w, code, all)
}

// arguments understands the parameters that go with a request.
func arguments(p url.Values) (Args, *Error) {
	var a Args
	switch wait := p.Get("wait"); wait {
	case "", "commit":
	case "probation":
		a.WaitProbation = true
	default:
		return a, &Error{CodeBadRequest, fmt.Sprintf("wait must be commit or probation, not %.64q", wait)}
	}
	switch now := p.Get("now"); now {
	case "", "0", "false":
	case "1", "true":
		a.Now = true
	default:
		return a, &Error{CodeBadRequest, fmt.Sprintf("now must be 0 or 1, not %.64q", now)}
	}
	return a, a.canary(p.Get("canary"), p.Get("step"))
}

// ask asks one service, and gives the HTTP status of what became of it.
func ask(ctx context.Context, s Service, q Request) (Result, int) {
	one := Result{Server: s.Server, ID: s.ID}
	a, err := s.Handler.Do(ctx, q)
	if err != nil {
		one.Error = toError(err)
		return one, statusOf(one.Error)
	}
	one.Verdict, one.Message, one.Snapshots = a.Verdict, a.Message, a.Snapshots
	swap := q.Do == DoRestart || q.Do == DoRollback || q.Do == DoSelfUpgrade
	switch {
	case !swap || a.Verdict != nil && a.Verdict.Verdict == Committed:
		return one, http.StatusOK
	case a.Verdict != nil && a.Verdict.Verdict == RolledBack:
		return one, http.StatusConflict
	default:
		return one, http.StatusInternalServerError
	}
}

// statusOf maps an error to an HTTP status.
func statusOf(e *Error) int {
	switch e.Code {
	case CodeBadRequest, CodeVersion:
		return http.StatusBadRequest
	case CodeUnknown:
		return http.StatusNotFound
	case CodeUnsupported:
		return http.StatusNotImplemented
	case CodeForbidden:
		return http.StatusForbidden
	case CodeBusy, CodeStopping:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// status tells how the selected services are, all if none is.
func (h *HTTP) status(w http.ResponseWriter, r *http.Request, p url.Values) {
	services, e := h.choose(p, true)
	if e != nil {
		h.answer(w, statusOf(e), results{Error: e})
		return
	}
	var all struct {
		Services []shown `json:"services"`
	}
	code := http.StatusOK
	for _, s := range services {
		one := shown{Server: s.Server, ID: s.ID, Zone: s.Zone, Type: s.Type, Status: "down"}
		status, err := s.Handler.Status(r.Context())
		if err != nil {
			one.Error = toError(err)
			code = max(code, statusOf(one.Error))
		} else {
			status.fill()
			one.Service = &status
			if status.Serves() {
				one.Status = "running"
			}
		}
		all.Services = append(all.Services, one)
	}
	h.answer(w, code, all)
}

// health is what probes of an orchestrator ask: it tells nothing else.
func (h *HTTP) health(w http.ResponseWriter, r *http.Request, p url.Values) {
	services, e := h.choose(p, true)
	ok := e == nil
	for _, s := range services {
		status, err := s.Handler.Status(r.Context())
		ok = ok && err == nil && status.Serves()
	}
	switch {
	case ok:
		h.answer(w, http.StatusOK, results{OK: true})
	case e != nil:
		h.answer(w, statusOf(e), results{Error: e})
	default:
		h.answer(w, http.StatusServiceUnavailable, results{})
	}
}
