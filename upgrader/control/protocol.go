package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ProtocolVersion is the "v" of every line.
const ProtocolVersion = 1

// Bounds of the protocol.
const (
	maxRequest = 64 << 10 // bytes of a request line
	maxReply   = 4 << 20  // bytes of a reply line
)

// What a Request can ask for.
const (
	DoStatus   = "status"
	DoEvents   = "events"
	DoRestart  = "restart"  // swap; answered with the verdict
	DoRollback = "rollback" // swap back to what ran before; answered with the verdict
	DoReload   = "reload"   // have the serving generation read its configuration again
	DoSnapshot = "snapshot" // what Args.Snapshot says
	DoStop     = "stop"     // stop the service; answered when it has stopped
)

// The values of Args.Snapshot.
const (
	SnapshotCreate  = "create"
	SnapshotList    = "list"
	SnapshotRestore = "restore" // swap to the same command on the bytes of snapshot Args.Number; answered with the verdict
)

// Request is what a client asks.
type Request struct {
	Version int    `json:"v"`
	Do      string `json:"do"`
	Args    Args   `json:"args,omitzero"`

	Services []string `json:"services,omitempty"` // which are meant, by name or ID
	All      bool     `json:"all,omitempty"`      // all of a fleet, where none is named

	Asked string `json:"-"` // AskedCommand or AskedHTTP: for Verdict.Asked
}

// Args are the options of a Request; each says what it goes with.
type Args struct {
	NoWait        bool `json:"no_wait,omitempty"`        // restart, rollback: answer when it was begun or queued, without a verdict
	WaitProbation bool `json:"wait_probation,omitempty"` // restart, rollback: answer at the end of probation rather than at the commit
	Now           bool `json:"now,omitempty"`            // stop: kill at once

	Snapshot string `json:"snapshot,omitempty"` // snapshot: SnapshotCreate, SnapshotList or SnapshotRestore
	Number   uint64 `json:"number,omitempty"`   // snapshot: of the one to restore
}

// Answer is what a Handler did. Verdict is nil unless a swap was waited for.
type Answer struct {
	Verdict   *Verdict   `json:"verdict,omitempty"`
	Message   string     `json:"message,omitempty"`
	Snapshots []Snapshot `json:"snapshots,omitempty"`
}

// A Handler is the service that a Server speaks for. Its methods are called by
// many goroutines at a time. Contexts end when the client has left or the
// server ends; what was asked for goes on.
type Handler interface {
	// Status tells how the service is. It must not wait for anything.
	Status(ctx context.Context) (Status, error)
	// Do does what r asks: restart, rollback, reload, snapshot or stop. It may wait for
	// as long as the client does. An *Error is passed on as it is.
	Do(ctx context.Context, r Request) (Answer, error)
	// Events calls emit for what happens from now on, in order, from one
	// goroutine, until ctx ends or emit fails, and returns after that. Emit may
	// take seconds when the client is slow: a handler drops events rather than
	// have the service wait.
	Events(ctx context.Context, emit func(Event) error) error
}

// The values of Error.Code.
const (
	CodeBadRequest  = "bad-request" // not understood
	CodeVersion     = "version"     // of another protocol
	CodeUnknown     = "unknown"     // no such command
	CodeUnsupported = "unsupported" // not by this service, or not here
	CodeBusy        = "busy"        // too many connections: come again
	CodeForbidden   = "forbidden"   // another user
	CodeStopping    = "stopping"    // the upgrader is on its way out
	CodeFailed      = "failed"      // anything else
)

// Error is an answer that says why not.
type Error struct {
	Code    string `json:"code"`
	Message string `json:"message"` // one line
}

// Error gives the message.
func (e *Error) Error() string { return e.Message }

// reply is one line of an answer. The last one has Done set.
type reply struct {
	Version int      `json:"v"`
	Done    bool     `json:"done,omitempty"`
	Status  *Status  `json:"status,omitempty"`
	Verdict *Verdict `json:"verdict,omitempty"`
	Event   *Event   `json:"event,omitempty"`
	Message string   `json:"message,omitempty"`
	Error   *Error   `json:"error,omitempty"`

	Snapshots []Snapshot `json:"snapshots,omitempty"`

	Results []Result `json:"results,omitempty"` // of a fleet, in place of what stands above
}

// readRequest reads one request line. What is behind the line is not looked
// at. An *Error is to be answered; any other error means that the client left
// or was too slow.
func readRequest(r io.Reader) (Request, error) {
	line, err := readLine(bufio.NewReaderSize(r, 4096), maxRequest)
	switch {
	case errors.Is(err, errTooLong):
		return Request{}, &Error{CodeBadRequest, fmt.Sprintf("the request is longer than %d bytes", maxRequest)}
	case err != nil:
		return Request{}, err
	}
	return parseRequest(line)
}

// parseRequest understands one request line.
func parseRequest(line []byte) (Request, error) {
	// The version first, leniently: a request of another version may have any
	// other field, and is to be told which version is spoken here.
	var v struct {
		Version *int `json:"v"`
	}
	if err := json.Unmarshal(line, &v); err != nil {
		return Request{}, &Error{CodeBadRequest, "the request is not understood: " + err.Error()}
	}
	if v.Version == nil || *v.Version != ProtocolVersion {
		return Request{}, &Error{CodeVersion, fmt.Sprintf("this upgrader speaks version %d of the control protocol", ProtocolVersion)}
	}
	var q Request
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		return Request{}, &Error{CodeBadRequest, "the request is not understood: " + err.Error()}
	}
	switch q.Do {
	case DoStatus, DoEvents, DoRestart, DoRollback, DoReload, DoSnapshot, DoStop:
		return q, nil
	case "":
		return Request{}, &Error{CodeBadRequest, `the request does not say what to "do"`}
	default:
		return Request{}, &Error{CodeUnknown, fmt.Sprintf("no such command: %.64q", q.Do)}
	}
}

var errTooLong = errors.New("the line is too long")

// readLine reads up to a newline, which it drops, and at most max bytes. Lines
// without anything in them are skipped. A line that ends without a newline is
// io.ErrUnexpectedEOF.
func readLine(r *bufio.Reader, max int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > max+1 {
			return nil, errTooLong
		}
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

// toError makes an *Error of what a handler returned.
func toError(err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, errors.ErrUnsupported):
		return &Error{CodeUnsupported, err.Error()}
	case errors.Is(err, context.Canceled):
		return &Error{CodeStopping, "the upgrader is stopping"}
	default:
		return &Error{CodeFailed, err.Error()}
	}
}
