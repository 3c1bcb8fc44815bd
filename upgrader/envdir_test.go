package upgrader

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/upgrader/upgrader/listener"
)

func TestReadEnvDir(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ONE": "1", "TWO": "2\nmore\n", "BLANK": "\n", "EMPTY": "", ".HIDDEN": "x", "A=B": "x", "SPACE": " x \n", "NUL": "a\x00b",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "DIR"), 0o700); err != nil {
		t.Fatal(err)
	}
	got := ReadEnvDir(dir)
	slices.Sort(got)
	if want := []string{"BLANK=", "NUL=a\nb", "ONE=1", "SPACE= x ", "TWO=2"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := ReadEnvDir(filepath.Join(dir, "none")); got != nil {
		t.Errorf("no directory: %q", got)
	}
}

func TestNumbers(t *testing.T) {
	for _, row := range []struct {
		given map[int]int
		n     int
		want  []int // nil: refused
	}{
		{nil, 0, []int{}},
		{nil, 3, []int{3, 4, 5}},
		{map[int]int{1: 0}, 3, []int{3, 0, 4}},
		{map[int]int{2: 3, 0: 5}, 4, []int{5, 4, 3, 6}},
		{map[int]int{0: 3, 1: 3}, 2, nil},
		{map[int]int{2: 3}, 2, nil},
		{map[int]int{0: -1}, 1, nil},
	} {
		c := Config{Listen: make([]listener.Address, row.n), Numbers: row.given}
		err := c.checkNumbers()
		switch {
		case row.want == nil && !errors.Is(err, ErrUsage):
			t.Errorf("%v of %d: %v", row.given, row.n, err)
		case row.want != nil && (err != nil || !slices.Equal(c.numbers(row.n), row.want)):
			t.Errorf("%v of %d: %v, %v, want %v", row.given, row.n, c.numbers(row.n), err, row.want)
		}
	}
}

func TestPause(t *testing.T) {
	s := &Service{config: Config{RetryInterval: time.Second, RetryLongest: time.Minute}}
	for failures, want := range map[int]time.Duration{0: 0, 1: 0, 2: time.Second, 3: 2 * time.Second, 7: 32 * time.Second, 8: time.Minute, 99: time.Minute} {
		if got := s.pause(failures); got != want {
			t.Errorf("after %d: %v, want %v", failures, got, want)
		}
	}
	s.config.RetryLongest = 0
	if got, want := s.pause(99), 65536*time.Second; got != want {
		t.Errorf("without a limit: %v, want %v", got, want)
	}
}
