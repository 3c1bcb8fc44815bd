//go:build !windows

package upgrader

import (
	"errors"
	"fmt"
)

const hasSections = false

// section is none here.
type section struct{}

func (section) held() bool { return false }
func (section) release()   {}

func findSection(name string) (section, error) {
	return section{}, fmt.Errorf("upgrader: section %s: %w", name, errors.ErrUnsupported)
}

func createSection(d *Section) (section, error) { return findSection(d.Name) }
