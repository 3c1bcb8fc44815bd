package process

import (
	"os"
	"testing"
)

// BenchmarkLook is one look over all processes of this system.
func BenchmarkLook(b *testing.B) {
	id, err := Self()
	if err != nil {
		b.Fatal(err)
	}
	m := NewMembers(Identity{id.Pid, id.Start + 1}, "", "UPGRADER_TEST_INSTANCE=nobody")
	m.self = os.Getppid()
	count, torn := 0, 0
	for b.Loop() {
		all, err := lookAtAll()
		if err != nil {
			b.Fatal(err)
		}
		if all.torn {
			torn++
		}
		count = len(all.stats)
		if _, err := m.List(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(count), "processes")
	b.ReportMetric(float64(torn)/float64(b.N), "torn/look")
}
