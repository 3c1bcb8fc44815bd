package launch

import (
	"fmt"
	"os"
)

// InheritHeld holds the command file that another process held: f is its
// Held.File, name and path are its Name and Path. It takes f.
func InheritHeld(f *os.File, name, path string) (*Held, error) {
	h := &Held{Name: name, Path: path, File: f}
	if err := h.examine(); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("launch: inherit %s: %w", name, err)
	}
	return h, nil
}
