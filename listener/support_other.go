//go:build !linux && !windows

package listener

// errClaims is why there are no claims here; nil: there are.
var errClaims error
