//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package state

import (
	"errors"
	"fmt"
	"os"
)

var errNoLock = fmt.Errorf("locks are not written for this system: %w", errors.ErrUnsupported)

func openLock(string, bool) (*os.File, error) { return nil, errNoLock }
func tryLock(*os.File) (bool, error)          { return false, errNoLock }
func tryShared(*os.File) (bool, error)        { return false, errNoLock }
func duplicate(*os.File) (*os.File, error)    { return nil, errNoLock }

const renamesOpen = false

func cannotLock(error) bool { return true }
func cannotLink(error) bool { return true }
