package intercept

import "fmt"

// passReason is a bind that is none of ours.
type passReason string

func (r passReason) Error() string { return "intercept: left to the kernel: " + string(r) }
func (r passReason) Unwrap() error { return ErrPass }

func because(format string, args ...any) error { return passReason(fmt.Sprintf(format, args...)) }
