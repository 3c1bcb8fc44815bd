package integration

import (
	"fmt"
	"strings"
	"testing"
)

// A successor of another schema gets the segment by a migration of a copy.
// Where that fails, in the rehearsal or at last, nothing has changed.
func TestMemoryMigrated(t *testing.T) {
	for kind, shm := range segments(t) {
		t.Run(kind, func(t *testing.T) {
			s := newScratch(t, 0)
			a := address(t)
			s.ledger(t, "-strict -schema 7", "upgrader-schema:7;")
			s.write(t, "migrate", "#!/bin/sh\nexec "+ledgerBinary()+" -migrate -failing rehearsal\n", 0o755)
			u := start(t, options{scratch: s, command: []string{s.path("server")}, flags: []string{
				"--listen", a, "--settle", "5ms", "--shm", shm, "--backup-dir", s.path("snapshots"), "--backup-keep", "1",
				"--probation", "0", "--migrate", s.path("migrate")}})
			u.awaitServing()
			before := commit(t, a, 30)
			s.ledger(t, "-strict -schema 8", "upgrader-schema:8;")

			if v := u.mustRollBack(); !strings.Contains(v.Reason, "failing in the rehearsal") || !strings.Contains(v.Reason, "from schema 7 to 8") {
				t.Errorf("the reason is %q", v.Reason)
			}
			after := ledgerOf(t, a)
			if sameRecords(t, "a rehearsal that failed", before, after); after.Pid != before.Pid {
				t.Errorf("pid %d served, now %d does", before.Pid, after.Pid)
			}

			s.write(t, "migrate", "#!/bin/sh\nexec "+ledgerBinary()+" -migrate -failing final\n", 0o755)
			if v := u.rolledBack(); !strings.Contains(v.Reason, "failing in the final") {
				t.Errorf("the reason is %q", v.Reason)
			}
			after = ledgerOf(t, a)
			sameRecords(t, "a migration that failed", before, after)
			if n := u.status().Segment.Schema; n != 7 {
				t.Errorf("the segment is in schema %d", n)
			}

			s.write(t, "migrate", "#!/bin/sh\nexec "+ledgerBinary()+" -migrate\n", 0o755)
			w := startWriters(t, a, 2)
			w.awaitMore(10)
			u.swap()
			w.awaitMore(10)
			if n := u.status().Segment.Schema; n != 8 {
				t.Errorf("the segment is in schema %d", n)
			}
			if l := ledgerOf(t, a); l.Found != "saved" {
				t.Errorf("the successor found the segment %s", l.Found)
			}
			w.mustBeAll()

			// A successor that fails takes the migration with it.
			before = commit(t, a, 3)
			s.ledger(t, "-strict -schema 9 -scribble", "upgrader-schema:9;")
			u.rolledBack()
			sameRecords(t, "a successor of schema 9 that scribbled", before, ledgerOf(t, a))
			if n := u.status().Segment.Schema; n != 8 {
				t.Errorf("the segment is in schema %d", n)
			}
			u.mustCleanShutdown()

			if kind == "memfd" {
				return
			}
			// Another upgrader's first start, with another server, too.
			s.ledger(t, "-strict -schema 10", "upgrader-schema:10;")
			u = u.again()
			u.await("the segment was migrated", func(r statusReport) error {
				if r.Segment.Schema != 10 || r.serving() == 0 {
					return fmt.Errorf("%+v", r.Segment)
				}
				return nil
			})
			sameRecords(t, "at a first start", before, ledgerOf(t, a))
			u.mustCleanShutdown()
		})
	}
}
