package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// silence is how long an upgrader may show no sign of life.
const silence = 30 * time.Second

// ErrNotRunning is what Dial returns, wrapped, when no upgrader answers in a
// state dir.
var ErrNotRunning = errors.New("no upgrader is running")

// ErrLeft is returned, wrapped, when the upgrader ended before it had answered.
var ErrLeft = errors.New("the upgrader left before it answered")

// ErrSilent is returned, wrapped, when the upgrader shows no sign of life.
var ErrSilent = errors.New("the upgrader does not answer")

// Client talks to one running upgrader: each call is a connection of its own,
// so that calls may be made at the same time. Errors that the upgrader answers
// with are an *Error, wrapped.
type Client struct {
	dir      string
	silence  time.Duration
	services []string // that requests are for
	all      bool
}

// RestartOptions say what Restart and Rollback wait for; the zero value waits
// for the commit.
type RestartOptions struct {
	NoWait        bool // return at once, with a zero Verdict
	WaitProbation bool // return at the end of probation
}

// Dial finds the upgrader whose state dir is dir.
func Dial(ctx context.Context, dir string) (*Client, error) {
	c := &Client{dir: dir, silence: silence}
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	_ = conn.Close() // nothing was said
	return c, nil
}

// Status asks how the service is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	r, err := c.ask(ctx, Request{Do: DoStatus}, nil)
	if err == nil && r.Status == nil {
		err = fmt.Errorf("control: %s: no status in the answer", DoStatus)
	}
	if err != nil {
		return Status{}, err
	}
	return *r.Status, nil
}

// Restart swaps and waits as o says.
func (c *Client) Restart(ctx context.Context, o RestartOptions) (Verdict, error) {
	return c.swap(ctx, DoRestart, o)
}

// Rollback swaps back to what ran before and waits as o says.
func (c *Client) Rollback(ctx context.Context, o RestartOptions) (Verdict, error) {
	return c.swap(ctx, DoRollback, o)
}

func (c *Client) swap(ctx context.Context, do string, o RestartOptions) (Verdict, error) {
	r, err := c.ask(ctx, Request{Do: do, Args: Args{NoWait: o.NoWait, WaitProbation: o.WaitProbation}}, nil)
	switch {
	case err != nil:
		return Verdict{}, err
	case r.Verdict != nil:
		return *r.Verdict, nil
	case o.NoWait:
		return Verdict{}, nil
	}
	return Verdict{}, fmt.Errorf("control: %s: no verdict in the answer", do)
}

// Reload has the serving generation read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	_, err := c.ask(ctx, Request{Do: DoReload}, nil)
	return err
}

// Snapshot does what a.Snapshot says with snapshots of the service's segment.
func (c *Client) Snapshot(ctx context.Context, a Args) (Answer, error) {
	r, err := c.ask(ctx, Request{Do: DoSnapshot, Args: a}, nil)
	if err != nil {
		return Answer{}, err
	}
	return Answer{Verdict: r.Verdict, Message: r.Message, Snapshots: r.Snapshots}, nil
}

// Stop stops the service, at once if now, and returns when it has stopped.
func (c *Client) Stop(ctx context.Context, now bool) error {
	_, err := c.ask(ctx, Request{Do: DoStop, Args: Args{Now: now}}, nil)
	return err
}

// Events calls f with what happens from now on, until the upgrader stops (nil),
// or ctx ends or f fails (that error).
func (c *Client) Events(ctx context.Context, f func(Event) error) error {
	_, err := c.ask(ctx, Request{Do: DoEvents}, f)
	return err
}

// connect makes a connection to an upgrader that is who it should be.
func (c *Client) connect(ctx context.Context) (*net.UnixConn, error) {
	conn, err := dialIn(ctx, c.dir)
	switch {
	case err == nil:
	case absent(err):
		return nil, fmt.Errorf("control: %w in %s", ErrNotRunning, c.dir)
	default:
		return nil, fmt.Errorf("control: connect to the upgrader in %s: %w", c.dir, err)
	}
	if err := checkServer(conn); err != nil {
		_ = conn.Close() // nothing was said
		return nil, fmt.Errorf("control: the upgrader in %s: %w", c.dir, err)
	}
	return conn, nil
}

// ask is converse with an upgrader of which one service answers.
func (c *Client) ask(ctx context.Context, q Request, f func(Event) error) (reply, error) {
	p, err := c.converse(ctx, q, f)
	if err != nil || q.Do == DoEvents || q.Do == DoStop {
		return p, err
	}
	return p.only()
}

// converse sends q and gives the last line of the answer; f gets the events before.
func (c *Client) converse(ctx context.Context, q Request, f func(Event) error) (reply, error) {
	q.Version, q.Services, q.All = ProtocolVersion, c.services, c.all
	line, err := json.Marshal(q)
	if err != nil {
		return reply{}, fmt.Errorf("control: encode the request: %w", err)
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close() // everything was read
	cancelled := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer cancelled()
	// Who refuses may have answered and closed before it read: what it said is
	// there to be read, whatever became of the request.
	_ = conn.SetWriteDeadline(time.Now().Add(c.silence)) // fails as the write then does
	_, _ = conn.Write(append(line, '\n'))
	r := bufio.NewReader(&timed{conn, c.silence})
	for {
		p, err := readReply(r)
		switch {
		case ctx.Err() != nil:
			return reply{}, fmt.Errorf("control: %s: %w", q.Do, context.Cause(ctx))
		case errors.Is(err, os.ErrDeadlineExceeded):
			return reply{}, fmt.Errorf("control: %s: %w for %v", q.Do, ErrSilent, c.silence)
		case err != nil:
			return reply{}, fmt.Errorf("control: %s: %w", q.Do, err)
		case p.Error != nil:
			return reply{}, fmt.Errorf("control: %s: %w", q.Do, p.Error)
		case p.Done:
			return p, nil
		case p.Event != nil && f != nil:
			if err := f(*p.Event); err != nil {
				return reply{}, err
			}
		}
	}
}

// readReply reads one line of an answer.
func readReply(r *bufio.Reader) (reply, error) {
	line, err := readLine(r, maxReply)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, errTooLong):
		return reply{}, err
	case errors.Is(err, io.EOF):
		return reply{}, ErrLeft
	default:
		return reply{}, fmt.Errorf("%w: %w", ErrLeft, err)
	}
	var p reply
	if err := json.Unmarshal(line, &p); err != nil {
		return reply{}, fmt.Errorf("the answer is not understood: %w", err)
	}
	if p.Version != ProtocolVersion && p.Error == nil {
		return reply{}, &Error{CodeVersion, fmt.Sprintf("the upgrader speaks version %d of the control protocol, this client version %d", p.Version, ProtocolVersion)}
	}
	return p, nil
}

// timed ends a read when nothing came for a while.
type timed struct {
	conn  *net.UnixConn
	after time.Duration
}

func (t *timed) Read(b []byte) (int, error) {
	_ = t.conn.SetReadDeadline(time.Now().Add(t.after)) // fails as the read then does
	return t.conn.Read(b)
}
