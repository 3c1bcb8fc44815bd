//go:build unix

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// terminal is stdin and stdout as one, with the settings that it had.
type terminal struct{ before unix.Termios }

// open has the terminal give what is typed at once, and not show it. It
// reports whether there is one.
func (t *terminal) open() bool {
	_, err := unix.IoctlGetTermios(1, getTermios)
	if err != nil {
		return false
	}
	now, err := unix.IoctlGetTermios(0, getTermios)
	if err != nil {
		return false
	}
	t.before = *now
	return t.quiet() == nil
}

func (t *terminal) quiet() error {
	now := t.before
	now.Lflag &^= unix.ICANON | unix.ECHO
	now.Cc[unix.VMIN], now.Cc[unix.VTIME] = 1, 0
	return unix.IoctlSetTermios(0, setTermios, &now)
}

func (t *terminal) restore() { _ = unix.IoctlSetTermios(0, setTermios, &t.before) } // it may have gone away

// size is the screen's, in characters.
func (t *terminal) size() (width, height int) {
	w, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ)
	if err != nil || w.Col == 0 || w.Row == 0 {
		return 80, 24
	}
	return int(w.Col), int(w.Row)
}

// signals obeys those that have to do with the terminal until ctx ends; the
// channel is closed then.
func (s *screen) signals(ctx context.Context, leave context.CancelFunc) <-chan struct{} {
	got, done := make(chan os.Signal, 8), make(chan struct{})
	signal.Notify(got, unix.SIGWINCH, unix.SIGTSTP, unix.SIGCONT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		defer close(done)
		defer signal.Stop(got)
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-got:
				switch sig {
				case unix.SIGTERM, unix.SIGHUP:
					leave()
				case unix.SIGTSTP: // Ctrl-Z
					s.close()
					_ = syscall.Kill(os.Getpid(), unix.SIGSTOP) // ourselves
				case unix.SIGCONT:
					_ = s.quiet() // a terminal that has gone away ends us by HUP
					s.write(enterScreen)
				}
				s.redraw()
			}
		}
	}()
	return done
}

// redraw asks for the board to be shown again.
func (s *screen) redraw() {
	select {
	case s.again <- struct{}{}:
	default: // asked already
	}
}
