//go:build race

package proxy

// swaps is fewer under the race detector, which makes everything five times as dear.
const swaps = 5
