package monitor

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/upgrader/upgrader/upgrader/control"
)

// Lines is a Display that writes a line for each change: for a pipe, or a file.
type Lines struct {
	Out  io.Writer
	JSON bool // lines are objects: {"event": …}, and {"status": …} at the start and after events

	shown bool
}

// line is one of JSON.
type line struct {
	Event  *control.Event  `json:"event,omitempty"`
	Status *control.Status `json:"status,omitempty"`
}

// Happened writes an event.
func (l *Lines) Happened(e control.Event) error {
	if l.JSON {
		return l.encode(line{Event: &e})
	}
	of := ""
	if e.Service != "" {
		of = control.Clean(e.Service) + ": "
	}
	_, err := fmt.Fprintf(l.Out, "%s %s%s\n", stamp(e.Time), of, Describe(e))
	return err
}

// Show writes how the services are, once; as JSON, after events too.
func (l *Lines) Show(b *Board, now time.Time, after bool) error {
	if l.shown && !(l.JSON && after) {
		return nil
	}
	l.shown = true
	for _, s := range b.services {
		if l.JSON {
			if err := l.encode(line{Status: &s.status}); err != nil {
				return err
			}
			continue
		}
		queued, busy := s.load()
		_, err := fmt.Fprintf(l.Out, "%s %s: %s for %s, generation %s serves, %s queued, %s in flight, last verdict %s\n",
			stamp(now), control.Clean(s.status.Name), s.status.State, control.Span(now.Sub(s.status.Since)), s.serves(), queued, busy, s.last(now))
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Lines) encode(v line) error { return json.NewEncoder(l.Out).Encode(v) }

func stamp(t time.Time) string { return t.Local().Format("2006-01-02T15:04:05.000Z07:00") }
