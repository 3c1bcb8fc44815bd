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
	count, vanished := 0, 0
	for b.Loop() {
		all, err := lookAtAll()
		if err != nil {
			b.Fatal(err)
		}
		if len(all.vanished) > 0 {
			vanished++
		}
		count = len(all.stats)
		if _, err := m.List(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(count), "processes")
	b.ReportMetric(float64(vanished)/float64(b.N), "vanished/look")
}
