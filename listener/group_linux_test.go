package listener

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// TestOrderNeverMisroutes plays long random sequences of joins, steers and departures against a model of the kernel's group and
// asks after each single step, between any two system calls, where a connection could go.
func TestOrderNeverMisroutes(t *testing.T) {
	for round := range 300 {
		r := rand.New(rand.NewPCG(1, uint64(round)))
		var members, kernel []*Lane // ours, and the kernel's
		var prog []int
		check := func(step string) {
			t.Helper()
			for _, i := range prog {
				if i < len(kernel) {
					if !kernel[i].steered {
						t.Fatalf("round %d: %s: index %d of %d is not steered to", round, step, i, len(kernel))
					}
					continue
				}
				for _, l := range kernel { // past the end: a hash over all
					if !l.steered {
						t.Fatalf("round %d: %s: index %d of %d: hash over one that is not steered to", round, step, i, len(kernel))
					}
				}
			}
		}
		join := func(gen int, steered bool) {
			l := &Lane{laneSystem: laneSystem{gen: gen, steered: steered}}
			members, kernel = append(members, l), append(kernel, l)
			if steered {
				prog = indices(members)
			}
		}
		gen, width := 1, 1+r.IntN(3)
		for range width {
			join(gen, true)
		}
		sweep := func() {
			t.Helper()
			for again := true; again; {
				again = false
				for i, l := range members {
					if !l.hasty || l.steered || !mayLeave(members, i) {
						continue
					}
					k := slices.Index(kernel, l)
					kernel[k] = kernel[len(kernel)-1]
					kernel = kernel[:len(kernel)-1]
					check("leave")
					members = removed(members, i)
					prog = indices(members)
					check("attach")
					again = true
					break
				}
			}
			if !slices.Equal(members, kernel) {
				t.Fatalf("round %d: the books are wrong", round)
			}
		}
		calm := 0 // swaps in a row that were neither hurried nor failed
		for range 60 {
			gen++
			for range width {
				join(gen, false)
				check("join")
				sweep()
			}
			failed := r.IntN(4) == 0
			if !failed {
				for _, l := range members {
					l.steered = l.gen == gen
				}
				prog = indices(members)
				check("steer")
			}
			patient := r.IntN(3) == 0 // the rescue time is not over before the next swap
			for _, l := range members {
				l.hasty = l.hasty || !l.steered && (!patient || failed && l.gen == gen)
			}
			sweep()
			if calm++; patient || failed {
				calm = 0
			}
			if n := len(members); calm > 1 && n > 3*width {
				t.Errorf("round %d: %d members are left of generations of %d", round, n, width)
			}
		}
	}
}

func TestOneLaneAtRest(t *testing.T) {
	old, now := &Lane{}, &Lane{laneSystem: laneSystem{steered: true}}
	if !mayLeave([]*Lane{old, now}, 0) || mayLeave([]*Lane{old, now}, 1) {
		t.Error("of two, the left one may go, and only that")
	}
	if got := indices(removed([]*Lane{old, now}, 0)); !slices.Equal(got, []int{0}) {
		t.Errorf("at rest: program for %v", got)
	}
}

func TestProgram(t *testing.T) {
	for _, members := range [][]int{{0}, {3}, {0, 1}, {4, 2, 7}} {
		if _, err := bpf.Assemble(program(members)); err != nil {
			t.Errorf("%v: %v", members, err)
		}
		for chosen := range len(members) {
			// The VM has no random numbers: give it the remainder.
			insns := program(members)
			if len(members) > 1 {
				insns[0] = bpf.LoadConstant{Dst: bpf.RegA, Val: uint32(chosen)}
			}
			vm, err := bpf.NewVM(insns)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := vm.Run(nil); err != nil || got != members[chosen] {
				t.Errorf("%v: %d gives %d, %v", members, chosen, got, err)
			}
		}
	}
}

func TestOverlaps(t *testing.T) {
	ep := func(addr string, only bool) endpoint {
		a := netip.MustParseAddrPort(addr)
		e := endpoint{network: "tcp", family: unix.AF_INET6, addr: a, v6only: only}
		if a.Addr().Is4() {
			e.family = unix.AF_INET
		}
		return e
	}
	for _, c := range []struct {
		claim, guest endpoint
		want         bool
	}{
		{ep("[::]:80", false), ep("[::]:80", false), true},
		{ep("[::]:80", false), ep("0.0.0.0:80", false), true},
		{ep("[::]:80", false), ep("127.0.0.1:80", false), true},
		{ep("[::]:80", false), ep("[::1]:80", false), true},
		{ep("[::]:80", true), ep("0.0.0.0:80", false), false},
		{ep("[::]:80", true), ep("127.0.0.1:80", false), false},
		{ep("0.0.0.0:80", false), ep("[::]:80", false), true},
		{ep("0.0.0.0:80", false), ep("[::]:80", true), false},
		{ep("0.0.0.0:80", false), ep("[::1]:80", false), false},
		{ep("0.0.0.0:80", false), ep("127.0.0.1:81", false), false},
		{ep("127.0.0.1:80", false), ep("127.0.0.1:80", false), true},
		{ep("127.0.0.1:80", false), ep("127.0.0.2:80", false), false},
		{ep("127.0.0.1:80", false), ep("0.0.0.0:80", false), true},
	} {
		if got := c.claim.overlaps(c.guest); got != c.want {
			t.Errorf("claim %v (v6 only: %v), guest %v (v6 only: %v): %v", c.claim, c.claim.v6only, c.guest, c.guest.v6only, got)
		}
	}
}
