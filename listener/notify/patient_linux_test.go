package notify

import (
	"context"
	"testing"
	"time"
)

// patient is a context that ends only when something is broken.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
