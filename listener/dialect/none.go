package dialect

// none tells a guest nothing.
type none struct{}

func (none) Name() string { return "none" }

func (none) Clears() []string { return clears() }

func (none) Environ([]Lane, int) []Variable { return nil }
