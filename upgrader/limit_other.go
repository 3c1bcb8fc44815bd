//go:build !unix

package upgrader

// descriptorLimit is how many descriptors this process may have, 0 when that
// is not known.
func descriptorLimit() int { return 0 }
