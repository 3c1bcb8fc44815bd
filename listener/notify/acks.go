package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	acksAtATime = 16
	ackTime     = 5 * time.Second // for a client to say what it wants
)

// Acks is a control socket as einhorn has it, as far as its workers use it:
// one that has come up connects and says worker:ack. A command is one line, a
// YAML or JSON mapping in which % is written %25 and a line end %0A.
type Acks struct {
	path     string
	info     os.FileInfo
	listener *net.UnixListener
}

// ListenAcks makes the socket at path, mode 0600, as Listen makes its own.
func ListenAcks(path string) (*Acks, error) {
	l, err := listenStream(path)
	if err != nil {
		return nil, fmt.Errorf("notify: listen on %s: %w", path, err)
	}
	return &Acks{path: path, info: stat(path), listener: l}, nil
}

// Path is what EINHORN_SOCK_PATH says.
func (a *Acks) Path() string { return a.path }

// Run gives the pid of each process that says worker:ack to handle, which many
// goroutines may call, until ctx ends or Close. It returns when all of them have.
func (a *Acks) Run(ctx context.Context, handle func(pid int)) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	defer context.AfterFunc(ctx, func() { _ = a.listener.Close() })()
	slots := make(chan struct{}, acksAtATime)
	for {
		conn, err := a.listener.AcceptUnix()
		switch {
		case err == nil:
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return nil
		default: // no descriptor is left, say
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			_ = conn.Close() // nobody is asked any more
			return nil
		}
		clients.Go(func() {
			defer func() { <-slots }()
			defer conn.Close() // all was said
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			_ = conn.SetDeadline(time.Now().Add(ackTime)) // an error: it is closed
			if pid, ok := acked(conn); ok {
				handle(pid)
			}
		})
	}
}

// acked reads one command, and gives the pid of whoever sent it if that was an
// ack. To other commands it says that they are not known, as einhorn does.
func acked(conn *net.UnixConn) (pid int, ok bool) {
	line, err := bufio.NewReader(io.LimitReader(conn, maxMessage)).ReadString('\n')
	if err != nil {
		return 0, false
	}
	command := commandOf(line)
	if command == "worker:ack" {
		pid, err := peerPid(conn)
		return pid, err == nil
	}
	if command != "worker:ping" { // it wants no answer
		_, _ = io.WriteString(conn, `{"message":"Unrecognized command: only worker:ack is known here"}`+"\n") // it may have left
	}
	return 0, false
}

// commandOf gives the value of the key command of an encoded mapping; "" when
// there is none.
func commandOf(line string) string {
	text := strings.NewReplacer("%0A", "\n", "%25", "%").Replace(strings.TrimSpace(line))
	if strings.HasPrefix(text, "{") {
		var m struct {
			Command string `json:"command"`
		}
		if json.Unmarshal([]byte(text), &m) != nil {
			return ""
		}
		return m.Command
	}
	for pair := range strings.SplitSeq(text, "\n") {
		key, value, ok := strings.Cut(pair, ": ")
		if key = strings.Trim(key, `:"' `); ok && key == "command" {
			return strings.Trim(value, `"' `)
		}
	}
	return ""
}

// Close ends Run and removes the socket, if what is at its path still is it.
func (a *Acks) Close() error {
	if now := stat(a.path); now != nil && a.info != nil && os.SameFile(now, a.info) {
		_ = os.Remove(a.path) // the directory is swept at the next start
	}
	if err := a.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("notify: close: %w", err)
	}
	return nil
}
