package control

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"
)

// HTTPDefault is the address that "on" means.
const HTTPDefault = "127.0.0.1:6011"

var (
	// ErrAddress says that an HTTPConfig's Address is none.
	ErrAddress = errors.New("want on, PORT or HOST:PORT")
	// ErrNoToken says that it lacks a Token.
	ErrNoToken = errors.New("an address that can be reached from elsewhere needs a token")
)

// HTTPConfig describes the HTTP API.
type HTTPConfig struct {
	// Address is host:port, a port on loopback, or "on" for HTTPDefault. One
	// that is not loopback needs a Token.
	Address string
	// Token is what requests have to show ("Authorization: Bearer TOKEN"),
	// all but those of /healthz; "": none. On loopback every local user may
	// ask for anything without one.
	Token string
	// Hosts are names that Host may have on loopback besides localhost and
	// addresses of it; nil: none.
	Hosts []string
	// Services gives what there is, for each request.
	Services func() []Service
	// Observe is told what went wrong with a connection, from any goroutine;
	// nil: nobody.
	Observe func(error)
}

// Service is one service that HTTP requests can select.
type Service struct {
	Server, ID, Zone, Type string // as given by --name, --id, --zone, --type
	Handler                Handler
}

// HTTP is the HTTP API: it answers with JSON, 2xx for a swap only if that was
// committed.
//
//	/restart    swap those selected, one after the other; wait=probation waits for the end of it;
//	            canary=5%,25%,100% and step=10s give the successor a growing share
//	/restartall swap all
//	/rollback   swap back
//	/reload     have them read their configuration again
//	/selfupgrade  replace the upgrader by a new one
//	/stop       stop them; now=1 kills at once
//	/status     how they are
//	/events     what happens, as server-sent events
//	/healthz    200 while all serve, 503 else
//	/metrics    Prometheus text
//
// Server=, ID=, ServerType= and Zone= select; all that are given have to fit.
// Without any the only service is meant. Methods are GET and POST, parameters
// are in the query or in a form; one that is not known is refused.
//
// Answers of restart, restartall, rollback, reload and stop are
//
//	{"ok":true,"results":[{"server":"api","id":"1","verdict":{...}}]}
//
// and their status is 200, else the highest of: 409 rolled back, 500 failed,
// and those of Error: 400, 401, 403, 404, 405, 415, 501, 503.
//
// A page of another site cannot make a browser ask: the Host has to be
// loopback's, and Origin, Referer and Sec-Fetch-Site must not tell of another
// site.
type HTTP struct {
	config   HTTPConfig
	listener net.Listener
	loopback bool
	alive    time.Duration // between signs of life of /events
	write    time.Duration // for a client to take an answer
	grace    time.Duration // for answers that are due when Run ends
	requests gate
}

// ListenHTTP takes the address of the API. ErrAddress, ErrNoToken.
func ListenHTTP(ctx context.Context, c HTTPConfig) (*HTTP, error) {
	address := c.Address
	if address == "on" {
		address = HTTPDefault
	} else if _, err := strconv.ParseUint(address, 10, 16); err == nil {
		address = "127.0.0.1:" + address
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, fmt.Errorf("control: %w", ErrAddress)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("control: http: %w", err)
	}
	return newHTTP(l, c)
}

// InheritHTTP takes the listening socket of the API from f, a duplicate that
// another process made by File. It takes ownership of f.
func InheritHTTP(f *os.File, c HTTPConfig) (*HTTP, error) {
	defer f.Close() // it was duplicated
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("control: inherit http: %w", err)
	}
	return newHTTP(l, c)
}

func newHTTP(l net.Listener, c HTTPConfig) (*HTTP, error) {
	tcp, ok := l.Addr().(*net.TCPAddr)
	loopback := ok && tcp.IP.IsLoopback()
	if !loopback && c.Token == "" {
		_ = l.Close() // it was not used
		return nil, fmt.Errorf("control: %w", ErrNoToken)
	}
	return &HTTP{config: c, listener: l, loopback: loopback, alive: 15 * time.Second, write: 10 * time.Second, grace: usual().grace}, nil
}

// Addr is where the API listens.
func (h *HTTP) Addr() net.Addr { return h.listener.Addr() }

// File duplicates the listening socket for another process.
func (h *HTTP) File() (*os.File, error) {
	l, ok := h.listener.(*net.TCPListener)
	if !ok {
		return nil, fmt.Errorf("control: duplicate http: %w", errors.ErrUnsupported)
	}
	f, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("control: duplicate http: %w", err)
	}
	return f, nil
}

// Close releases the socket of an HTTP that was never run.
func (h *HTTP) Close() error { return h.listener.Close() }

// Run answers until ctx ends and everything that it started has. Answers that
// are due then are still given, for a second.
func (h *HTTP) Run(ctx context.Context) error {
	asked, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	server := h.server(ctx, asked)
	done := make(chan error, 1)
	go func() { done <- server.Serve(netutil.LimitListener(h.listener, connections)) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-done:
		done <- err
	}
	// Shutdown closes the listener at once and then waits; what it does not
	// end is closed, so that its error says nothing new.
	soft, cancel := context.WithTimeout(asked, h.grace)
	defer cancel()
	_ = server.Shutdown(soft)
	giveUp()
	h.requests.close()
	_ = server.Close()
	if served := <-done; err == nil && !errors.Is(served, http.ErrServerClosed) {
		err = served
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("control: http: %w", err)
	}
	return nil
}

// server answers within bounds of time and size. Streams end with ctx, all
// else with asked.
func (h *HTTP) server(ctx, asked context.Context) *http.Server {
	return &http.Server{
		Handler:           h.handler(ctx),
		ReadHeaderTimeout: usual().request,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return asked },
		ErrorLog:          log.New(observer(h.config.Observe), "", 0),
	}
}

// observer makes errors of lines.
type observer func(error)

func (o observer) Write(line []byte) (int, error) {
	if o != nil {
		o(errors.New(strings.TrimSpace(string(line))))
	}
	return len(line), nil
}

// gate counts requests until it is closed.
type gate struct {
	sync.WaitGroup
	mu     sync.Mutex
	closed bool
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.Add(1)
	return true
}

func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.Wait()
}
