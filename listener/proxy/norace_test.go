//go:build !race

package proxy

const swaps = 50
