// Bench measures what the upgrader costs, beside the same server without it
// and beside its peers, in one run: every comparison is made of rounds that
// alternate, so that what disturbs one side disturbs the other.
//
//	go run ./integration/bench [-brief] [-out docs/bench.md]
//
// It prints the page and writes it, with a plot beside it. Every scenario runs
// in a process, and as root in a network namespace, of its own. Peers that are
// not installed are named as such in their rows.
package main
