package windows

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// refusedHonestly: when nobody has served for longer than hold-max, clients are
// refused, and the next server that starts is answered for at the same address.
// That nobody else can take it meanwhile is not to be seen here: wine lets
// another socket have an address that is bound and not listened on.
func refusedHonestly(t *testing.T, w *wine) {
	no := filepath.Join(w.folder(t), "no")
	u := w.upgrade(t, []string{"--ready", "notify", "--hold-max", "200ms", "--retry-interval", "500ms", "--retry-max", "100"}, "-fail", w.path(no))
	u.ready()
	for range 3 {
		if err := os.WriteFile(no, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		_ = u.get("/die")
		u.awaitPart("\trefusing\t")
		c, err := net.Dial("tcp", u.address)
		if err == nil {
			_ = c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a client is not refused: %v", err)
		}
		if err := os.Remove(no); err != nil {
			t.Fatal(err)
		}
		u.ready()
		if got := u.get("/"); got == "" {
			t.Error("nobody answers")
		}
	}
	u.stop()
}
