package main

import (
	"context"

	"golang.org/x/sys/windows"
)

// terminal is a console, with the modes that it had.
type terminal struct {
	in, out         windows.Handle
	modeIn, modeOut uint32
}

// open has the console give what is typed at once, not show it, and understand
// what a terminal is told. It reports whether there is one that can.
func (t *terminal) open() bool {
	t.in, t.out = windows.Stdin, windows.Stdout
	if windows.GetConsoleMode(t.in, &t.modeIn) != nil || windows.GetConsoleMode(t.out, &t.modeOut) != nil {
		return false
	}
	if windows.SetConsoleMode(t.out, t.modeOut|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) != nil {
		return false
	}
	if windows.SetConsoleMode(t.in, t.modeIn&^(windows.ENABLE_LINE_INPUT|windows.ENABLE_ECHO_INPUT)) != nil {
		_ = windows.SetConsoleMode(t.out, t.modeOut) // as it was
		return false
	}
	return true
}

func (t *terminal) restore() {
	_ = windows.SetConsoleMode(t.in, t.modeIn) // it may have gone away
	_ = windows.SetConsoleMode(t.out, t.modeOut)
}

// size is the screen's, in characters.
func (t *terminal) size() (width, height int) {
	var info windows.ConsoleScreenBufferInfo
	if windows.GetConsoleScreenBufferInfo(t.out, &info) != nil {
		return 80, 24
	}
	return int(info.Window.Right-info.Window.Left) + 1, int(info.Window.Bottom-info.Window.Top) + 1
}

// signals has none to obey: Ctrl-C cancels.
func (s *screen) signals(context.Context, context.CancelFunc) <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}
