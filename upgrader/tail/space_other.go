//go:build !linux

package tail

import (
	"errors"
	"os"
)

func collapseRange(*os.File, int64) error { return errors.ErrUnsupported }

func punchHole(*os.File, int64, int64) error { return errors.ErrUnsupported }
