package intercept

import (
	"strconv"
	"testing"
)

// BenchmarkBind is the cost of one bind(2), as the guest sees it: under no
// filter, left to the kernel by the Handler, and answered with a lane.
func BenchmarkBind(b *testing.B) {
	if err := Supported(); err != nil {
		b.Skipf("seccomp user notification: %v", err)
	}
	for _, mode := range []struct {
		name string
		guestOptions
		bindErr error
	}{
		{name: "kernel", guestOptions: guestOptions{shimOrder: shimOrder{NoFilter: true}}},
		{name: "passed", bindErr: ErrPass},
		{name: "injected"},
		{name: "learned", guestOptions: guestOptions{shimOrder: shimOrder{Learn: true}, Server: Server{NoPidfdGetfd: true}}},
	} {
		b.Run(mode.name, func(b *testing.B) {
			h := newLanes(b)
			h.bindErr = mode.bindErr
			o := mode.guestOptions
			o.Handler = h
			g := startGuest(b, o, "bench", free(b, ""), strconv.Itoa(b.N))
			took, err := strconv.Atoi(g.expect("took"))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(took)/float64(b.N), "ns/bind")
			g.finish()
		})
	}
}
