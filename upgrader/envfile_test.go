package upgrader

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestReadEnvFile(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
		fails      bool
	}{
		{name: "empty"},
		{name: "comments", text: "# a\n; b\n\n  \n"},
		{name: "plain", text: "A=1\nB=two words\n", want: []string{"A=1", "B=two words"}},
		{name: "quotes", text: "A=\"x y\"\nB='z'\nC=\"open\n", want: []string{"A=x y", "B=z", "C=\"open"}},
		{name: "export", text: "export A=1", want: []string{"A=1"}},
		{name: "value with =", text: "A=b=c", want: []string{"A=b=c"}},
		{name: "empty value", text: "A=", want: []string{"A="}},
		{name: "carriage return", text: "A=1\r\nB=2\r\n", want: []string{"A=1", "B=2"}},
		{name: "no =", text: "A\n", fails: true},
		{name: "no key", text: "=1\n", fails: true},
		{name: "blank in key", text: "A B=1\n", fails: true},
		{name: "NUL", text: "A=\x00\n", fails: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "env")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readEnvFile(path)
			if c.fails != (err != nil) || !slices.Equal(got, c.want) {
				t.Errorf("got %q, %v; want %q, fails %v", got, err, c.want, c.fails)
			}
		})
	}
	if _, err := readEnvFile(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a file that does not exist was read")
	}
}

func TestMerge(t *testing.T) {
	got := merge([]string{"A=1", "B=2", "NOTIFY_SOCKET=/x", "junk"}, map[string]bool{"NOTIFY_SOCKET": true}, []string{"B=3", "C=4"}, []string{"A=5"})
	want := []string{"A=5", "B=3", "C=4"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
