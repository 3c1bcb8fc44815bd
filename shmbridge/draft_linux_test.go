package shmbridge

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// attachDraft attaches to a draft as its command does, in this process.
func attachDraft(t *testing.T, d *Draft) *Bridge {
	t.Helper()
	c, err := d.Command()
	must(t, err)
	env := map[string]string{}
	for _, line := range c.Env {
		key, value, _ := strings.Cut(line, "=")
		env[key] = value
	}
	number := func(f *os.File) string { // ours are not from 3 on
		var text string
		must(t, control(f, func(fd int) error { text = strconv.Itoa(fd); return nil }))
		return text
	}
	env[EnvBridge], env[EnvFd] = number(c.Files[0]), number(c.Files[1])
	b, err := AttachTo(func(key string) string { return env[key] })
	must(t, err)
	t.Cleanup(func() { must(t, b.Close()) })
	return b
}

func TestDraft(t *testing.T) {
	ctx := context.Background()
	for _, kind := range kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			s, b := savedSegment(t, kind, oddSize)
			before := bytes.Clone(b)
			store := openStore(t, StoreConfig{})
			snap, err := s.Snapshot(ctx, store)
			must(t, err)

			// Whatever is done to a draft, the segment does not change.
			d, err := s.Draft(ctx)
			must(t, err)
			defer d.Close()
			bridge := attachDraft(t, d)
			if bridge.Found() != Saved || !bytes.Equal(bridge.Bytes(), before) {
				t.Fatalf("the copy is %v, or has other bytes", bridge.Found())
			}
			lease, err := bridge.Take(ctx, 6)
			must(t, err)
			bridge.Bytes()[0]++
			bridge.Bytes()[oddSize-1]++
			if err := d.Finish(6); err == nil {
				t.Error("a command that took the lease and did not save has migrated")
			}
			if !bytes.Equal(b, before) {
				t.Fatal("the segment changed with its copy")
			}
			mustBe(t, lease.Save(0), ErrVoid)

			d, err = s.Draft(ctx)
			must(t, err)
			defer d.Close()
			bridge = attachDraft(t, d)
			lease, err = bridge.Take(ctx, 6)
			must(t, err)
			bridge.Bytes()[0]++
			bridge.Bytes()[oddSize-1]++
			must(t, lease.Save(0))
			mustBe(t, d.Finish(7), ErrSchema)
			must(t, d.Finish(6))

			// Cut short, it is undone; else it is done.
			cut, cancel := context.WithCancel(ctx)
			store.chunk = func(int64) { cancel() }
			mustBe(t, store.Migrate(cut, s, d, snap, 6, RestoreOptions{Generation: 2}), context.Canceled)
			store.chunk = nil
			mustBe(t, s.Lease(3, 0), ErrRestoring)
			finished, err := store.Finish(ctx, s)
			must(t, err)
			if !finished || !bytes.Equal(b, before) {
				t.Fatal("a migration that was cut short was not undone")
			}
			must(t, store.Migrate(ctx, s, d, snap, 6, RestoreOptions{Generation: 5}))
			if want := append([]byte{before[0] + 1}, before[1:oddSize-1]...); !bytes.Equal(b[:oddSize-1], want) || b[oddSize-1] != before[oddSize-1]+1 {
				t.Fatal("other bytes")
			}
			now, err := s.State()
			must(t, err)
			if now.State != Saved || now.Schema != 6 || now.Restoring || time.Since(now.SavedAt) > time.Hour {
				t.Fatalf("%+v", now)
			}
			must(t, s.Lease(5, 0))
			must(t, s.Remove())
		})
	}
}
