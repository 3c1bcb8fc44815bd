//go:build !windows

package winevents

func newKernel() (kernel, error) { return nil, ErrUnsupported }
