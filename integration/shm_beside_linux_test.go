package integration

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A successor that writes over the segment as its first act, whoever has the
// lease, is rolled back, and nothing of it is in the snapshot: it starts while
// that is still being completed, and waits where it would reach the memory. The
// ledger lies where the copy comes to last.
func TestMemoryFirstAct(t *testing.T) {
	grab := newScratch(t, 0).path("grab")
	if out, err := exec.Command("cc", "-static", "-O1", "-o", grab, "testdata/grab.c").CombinedOutput(); err != nil {
		t.Skipf("no C compiler: %v\n%s", err, out)
	}
	for kind, shm := range segments(t) {
		if kind == "file" {
			continue // of a disk: its copies would take all the time
		}
		t.Run(kind, func(t *testing.T) {
			backups, err := os.MkdirTemp("/dev/shm", "upgrader-test-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(backups) }) // what is left is the system's to clean
			const own = "-at-end"
			u, s, a := onLedgerWith(t, own, strings.Replace(shm, "size=1M", fmt.Sprintf("size=%dM", amount("INTEGRATION_MEMORY_FIRST_MIB", 64)), 1), "--backup-dir", backups, "--backup-keep", "1")
			if now := u.status().Segment; now.SecondPhase != "beside" {
				t.Skip(now.SecondPhaseWhy)
			}
			for range amount("INTEGRATION_MEMORY_FIRST_ACTS", 2) {
				before := commit(t, a, 3)
				s.write(t, "server", "#!/bin/sh\nexec "+grab+"\n", 0o755)
				v := u.rolledBack()
				if !strings.Contains(fmt.Sprint(v.Stderr), "grabbed") {
					t.Errorf("the successor said %q", v.Stderr)
				}
				after := ledgerOf(t, a)
				sameRecords(t, "a successor that wrote as its first act", before, after)
				if after.Found != "saved" {
					t.Errorf("the predecessor's own found the segment %s", after.Found)
				}
				s.ledger(t, own)
				u.swap()
				sameRecords(t, "a sound successor", before, ledgerOf(t, a))
			}
			if now := u.status().Segment; now.SecondPhase != "beside" {
				t.Errorf("successors were not started beside it after all: %s", now.SecondPhaseWhy)
			}
			u.mustCleanShutdown()
		})
	}
}
