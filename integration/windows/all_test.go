package windows

import "testing"

// TestWine is everything that needs a real kernel's objects: one prefix for
// all, since it takes long to make one.
func TestWine(t *testing.T) {
	w := newWine(t)
	t.Run("Interop", func(t *testing.T) { testInterop(t, w) })
	t.Run("Misbehaving", func(t *testing.T) { testMisbehaving(t, w) })
	t.Run("Upgrader", func(t *testing.T) { testUpgrader(t, w) })
	t.Run("Proxy", func(t *testing.T) { testProxy(t, w) })
	t.Run("OwnPorts", func(t *testing.T) { testOwnPorts(t, w) })
	t.Run("Swaps", func(t *testing.T) { testSwaps(t, w) })
}
