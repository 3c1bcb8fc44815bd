package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/upgrader/upgrader/upgrader/control"
	"github.com/upgrader/upgrader/upgrader/monitor"
)

// What a terminal is told (ECMA-48, and xterm's alternate screen).
const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // another screen, without a cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	eraseLine   = "\x1b[K"
	eraseBelow  = "\x1b[J"
)

// A screen shows a board on the terminal that is our stdout. It owns the
// terminal's settings from openScreen to close.
type screen struct {
	terminal
	again chan struct{} // asks for what is known to be drawn anew
}

// openScreen takes the terminal; nil when stdin and stdout are none.
func openScreen() *screen {
	s := &screen{again: make(chan struct{}, 1)}
	if !s.terminal.open() {
		return nil
	}
	s.write(enterScreen)
	return s
}

func (s *screen) close() {
	s.write(leaveScreen)
	s.terminal.restore()
}

// monitor follows c until q is typed, a signal comes, or the upgrader leaves.
func (s *screen) monitor(ctx context.Context, c *control.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.keys(cancel) // blocked in a read until the process ends
	ended := s.signals(ctx, cancel)
	err := monitor.Follow(ctx, source{c}, s, monitor.Config{Again: s.again})
	cancel()
	<-ended
	s.close()
	if gone(err) {
		fmt.Fprintln(os.Stderr, "upgrader: the upgrader has left")
		return nil
	}
	return err
}

// keys reads what is typed; q, Ctrl-C where it is no signal, and the end of the terminal leave.
func (s *screen) keys(leave context.CancelFunc) {
	for b := make([]byte, 64); ; {
		n, err := os.Stdin.Read(b)
		if err != nil || bytes.ContainsAny(b[:n], "qQ\x03") {
			leave()
			return
		}
	}
}

// Happened has nothing to draw: Show comes soon.
func (s *screen) Happened(control.Event) error { return nil }

// Show draws over what was drawn before.
func (s *screen) Show(b *monitor.Board, now time.Time, _ bool) error {
	width, height := s.size()
	var out bytes.Buffer
	out.WriteString(home)
	for i, line := range b.Text(width, height, now) {
		if i > 0 {
			out.WriteByte('\n') // the terminal begins a line with it
		}
		out.WriteString(line + eraseLine)
	}
	out.WriteString(eraseBelow)
	_, err := os.Stdout.Write(out.Bytes())
	return err
}

func (s *screen) write(text string) { _, _ = os.Stdout.WriteString(text) } // a terminal that went away shows nothing
