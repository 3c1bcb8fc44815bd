package main

import "slices"

// measureThroughput compares requests per second and p99.9 of a closed loop
// with and without the upgrader. A block has servers of its own, as two runs of
// one program are not equally fast; in it they take turns, forth and back. The
// server alone takes part twice: how far it is from itself is the noise.
func measureThroughput(b *bench) error {
	for block := range b.Amounts.Blocks {
		variants := []recipe{b.bareGuest(), b.bareGuest(), b.listening(nil), b.binding(nil)}
		variants[1].name = bareAgain
		// Whoever is first in one block is last in another.
		turn := block % len(variants)
		variants = slices.Concat(variants[turn:], variants[:turn])
		var servers []*server
		for _, v := range variants {
			s, err := b.serve(v)
			if err != nil {
				return err
			}
			servers = append(servers, s)
			hammer(s.address, b.Amounts.Clients, true, b.Amounts.Slice/4) // heaps and stacks grow now
		}
		order := slices.Concat(servers, servers)
		slices.Reverse(order[len(servers):])
		for _, mode := range modes() {
			found := map[string][]hammered{}
			for _, s := range order {
				if b.ctx.Err() != nil {
					return b.ctx.Err()
				}
				found[s.name] = append(found[s.name], hammer(s.address, b.Amounts.Clients, mode == keptMode, b.Amounts.Slice))
			}
			for name, h := range found {
				at := "throughput/" + mode + "/" + name
				b.samples.add(at+"/rate", (h[0].perSecond+h[1].perSecond)/2)
				b.samples.add(at+"/p99.9", (h[0].p999+h[1].p999)/2)
				b.samples.add(at+"/failed", float64(h[0].failed+h[1].failed))
			}
		}
		if err := stopAll(servers); err != nil {
			return err
		}
	}
	return nil
}

// The modes of clients.
const (
	newMode  = "new connections"
	keptMode = "kept connections"
)

func modes() []string { return []string{newMode, keptMode} }
