//go:build unix

package control

import "testing"

func TestTrusted(t *testing.T) {
	for _, x := range []struct {
		uid, ours int
		want      bool
	}{{0, 0, true}, {7, 7, true}, {0, 7, true}, {7, 0, false}, {8, 7, false}, {65534, 7, false}} {
		if got := trusted(x.uid, x.ours); got != x.want {
			t.Errorf("uid %d at one of %d: %v", x.uid, x.ours, got)
		}
	}
}
