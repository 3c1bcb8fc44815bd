package tail

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	linesKept = 20
	lineMax   = 4 << 10 // bytes; the rest of a line is left out
)

// lines are the last lines of a stream of bytes. The zero value is empty.
type lines struct {
	whole   [][]byte // at most linesKept, the oldest first
	partial []byte   // what has no line end yet, at most lineMax and one byte that says that there was more
}

// add takes more of the stream; b stays the caller's.
func (l *lines) add(b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		part := b
		if i >= 0 {
			part = b[:i]
		}
		l.partial = append(l.partial, part[:min(len(part), lineMax+1-len(l.partial))]...)
		if i < 0 {
			return
		}
		l.end()
		b = b[i+1:]
	}
}

// gap ends the line under way: what follows belongs to another.
func (l *lines) gap() {
	if len(l.partial) > 0 {
		l.end()
	}
}

func (l *lines) end() {
	if len(l.whole) == linesKept {
		l.whole = append(l.whole[:0], l.whole[1:]...)
	}
	l.whole = append(l.whole, slices.Clone(l.partial))
	l.partial = l.partial[:0]
}

// last gives the last n lines, readable.
func (l *lines) last(n int) []string {
	all := slices.Clone(l.whole)
	if len(l.partial) > 0 {
		all = append(all, l.partial)
	}
	n = max(0, min(n, linesKept, len(all)))
	out := make([]string, 0, n)
	for _, b := range all[len(all)-n:] {
		out = append(out, readable(b))
	}
	return out
}

// readable gives b as text that can neither break a log nor move a cursor: a
// byte that is no UTF-8 becomes \xNN, a character that is not to be seen
// becomes \x1b, \u200b or the like. A tab and a backslash stay as they are.
func readable(b []byte) string {
	b, more := b[:min(len(b), lineMax)], len(b) > lineMax
	if more {
		for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
			if c := b[len(b)-i]; utf8.RuneStart(c) {
				if !utf8.FullRune(b[len(b)-i:]) {
					b = b[:len(b)-i] // a character that was cut through
				}
				break
			}
		}
	}
	b = bytes.TrimSuffix(b, []byte("\r"))
	var s strings.Builder
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && size == 1, r < ' ' && r != '\t', r == 0x7f:
			fmt.Fprintf(&s, `\x%02x`, b[0])
		case r == '\t' || unicode.IsGraphic(r):
			s.Write(b[:size])
		case r > 0xffff:
			fmt.Fprintf(&s, `\U%08x`, r)
		default:
			fmt.Fprintf(&s, `\u%04x`, r)
		}
		b = b[size:]
	}
	if more {
		s.WriteString("…")
	}
	return s.String()
}
