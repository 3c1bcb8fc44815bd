package main

import "time"

// amounts say how much of everything is measured.
type amounts struct {
	Blocks  int           // of the throughput scenario, each with servers of its own
	Slice   time.Duration // of load on one server, twice a block and mode
	Clients int           // of a closed loop

	SwapRounds int           // of the swap scenario, over all that swap
	SwapsEach  int           // in a round
	WarmUp     time.Duration // of the guest that is swapped
	Rate       float64       // requests per second of new connections, as many of kept ones
	Lead, Tail time.Duration // of load before a swap and after it

	Exclusive   int // swaps
	Starts      int // rounds of the start-up scenario
	MemorySwaps int
	CallRounds  int // of processes that measure system calls
	Calls       int // of a kind in a process
	Binds       int

	ProxyRounds     int           // over all that stand between clients and a server
	ProxySlice      time.Duration // of each measure
	ProxyIdle       []int         // numbers of idle connections
	ProxyIdleRounds int
	ProxyRest       time.Duration // with nothing to do, before memory is looked at

	Deploys int // of each version that fails

	SegmentSize   int // bytes
	SegmentRounds int // of copies of it
	SegmentSwaps  int // of a guest that has one
}

// usual is what the page is made of.
func usual() amounts {
	return amounts{
		Blocks: 15, Slice: time.Second, Clients: 32,
		SwapRounds: 4, SwapsEach: 6, WarmUp: 300 * time.Millisecond, Rate: 1000, Lead: 300 * time.Millisecond, Tail: 150 * time.Millisecond,
		Exclusive: 20, Starts: 40, MemorySwaps: 20, CallRounds: 8, Calls: 200_000, Binds: 200,
		ProxyRounds: 8, ProxySlice: time.Second, ProxyIdle: []int{3000, 9500}, ProxyIdleRounds: 2, ProxyRest: rest, Deploys: 8,
		SegmentSize: 1 << 30, SegmentRounds: 10, SegmentSwaps: 10,
	}
}

// brevity shows that everything works.
func brevity() amounts {
	return amounts{
		Blocks: 2, Slice: 200 * time.Millisecond, Clients: 16,
		SwapRounds: 1, SwapsEach: 2, WarmUp: 100 * time.Millisecond, Rate: 500, Lead: 100 * time.Millisecond, Tail: 50 * time.Millisecond,
		Exclusive: 2, Starts: 4, MemorySwaps: 2, CallRounds: 2, Calls: 20_000, Binds: 20,
		ProxyRounds: 2, ProxySlice: 200 * time.Millisecond, ProxyIdle: []int{1000}, ProxyIdleRounds: 1, ProxyRest: time.Second, Deploys: 2,
		SegmentSize: 64 << 20, SegmentRounds: 2, SegmentSwaps: 2,
	}
}

// least is one of each.
func least() amounts {
	return amounts{
		Blocks: 1, Slice: 50 * time.Millisecond, Clients: 4,
		SwapRounds: 1, SwapsEach: 1, WarmUp: 10 * time.Millisecond, Rate: 200, Lead: 50 * time.Millisecond, Tail: 10 * time.Millisecond,
		Exclusive: 1, Starts: 1, MemorySwaps: 1, CallRounds: 1, Calls: 1000, Binds: 3,
		ProxyRounds: 1, ProxySlice: 50 * time.Millisecond, ProxyIdle: []int{20}, ProxyIdleRounds: 1, ProxyRest: 10 * time.Millisecond, Deploys: 1,
		SegmentSize: 4 << 20, SegmentRounds: 1, SegmentSwaps: 1,
	}
}
