package tail

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestLines(t *testing.T) {
	twenty := make([]string, 25)
	for i := range twenty {
		twenty[i] = fmt.Sprintf("line %d", i)
	}
	for name, c := range map[string]struct {
		in   []string // pieces
		n    int
		want []string
	}{
		"nothing":             {nil, 20, nil},
		"one":                 {[]string{"a\n"}, 20, []string{"a"}},
		"no line end":         {[]string{"a\nb"}, 20, []string{"a", "b"}},
		"in pieces":           {[]string{"a", "b", "\nc", "", "d\n", "\n"}, 20, []string{"ab", "cd", ""}},
		"the last two":        {[]string{"a\nb\nc\n"}, 2, []string{"b", "c"}},
		"none asked for":      {[]string{"a\n"}, 0, nil},
		"fewer than none":     {[]string{"a\n"}, -1, nil},
		"more than are kept":  {[]string{strings.Join(twenty, "\n") + "\n"}, 99, twenty[5:]},
		"and one under way":   {[]string{strings.Join(twenty, "\n")}, 99, twenty[5:]},
		"carriage returns":    {[]string{"a\r\n10%\r20%\r\n"}, 20, []string{"a", `10%\x0d20%`}},
		"escapes":             {[]string{"\x1b[31mred\x1b[0m\a\x00\x7f\n"}, 20, []string{`\x1b[31mred\x1b[0m\x07\x00\x7f`}},
		"tab and backslash":   {[]string{"a\tb\\n\n"}, 20, []string{"a\tb\\n"}},
		"UTF-8":               {[]string{"é 你好\u3000\n"}, 20, []string{"é 你好\u3000"}},
		"UTF-8 in pieces":     {[]string{"\xe4\xbd", "\xa0\n"}, 20, []string{"你"}},
		"not UTF-8":           {[]string{"\xff\xfea\xe4\xbd\n"}, 20, []string{`\xff\xfea\xe4\xbd`}},
		"direction and joins": {[]string{"a\u202eb\u200b\u2028\u0085\U000e0001\n"}, 20, []string{`a\u202eb\u200b\u2028\u0085\U000e0001`}},
		"as long as allowed":  {[]string{strings.Repeat("x", lineMax) + "\n"}, 20, []string{strings.Repeat("x", lineMax)}},
		"too long":            {[]string{strings.Repeat("x", lineMax), "yz", strings.Repeat("y", 9999) + "\nb\n"}, 20, []string{strings.Repeat("x", lineMax) + "…", "b"}},
		"cut in a character":  {[]string{strings.Repeat("x", lineMax-1) + "é\n"}, 20, []string{strings.Repeat("x", lineMax-1) + "…"}},
	} {
		t.Run(name, func(t *testing.T) {
			var l lines
			for _, piece := range c.in {
				l.add([]byte(piece))
			}
			if got := l.last(c.n); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\xff\x1b[0m"), 3)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		var whole, pieces lines
		whole.add(b)
		cut = min(max(cut, 0), len(b))
		pieces.add(b[:cut])
		pieces.add(b[cut:])
		got := whole.last(99)
		if !slices.Equal(got, pieces.last(99)) {
			t.Errorf("in pieces it is %q, whole %q", pieces.last(99), got)
		}
		for _, line := range got {
			if !utf8.ValidString(line) || strings.ContainsAny(line, "\n\r\x1b\x00") {
				t.Errorf("a line that breaks a log: %q", line)
			}
		}
	})
}
