//go:build !linux

package launch

// runsHeld: nothing is executed from a descriptor here.
const runsHeld = false
