package watch

import (
	"os"
	"path/filepath"
	"strings"
)

// linksMax is how many symbolic links are followed, as Linux does.
const linksMax = 40

// places are directories, and the names in them that decide where a path
// leads: its file, and the symbolic links on the way.
type places map[string]map[string]bool

func (p places) add(dir, name string) {
	if p[dir] == nil {
		p[dir] = map[string]bool{}
	}
	p[dir][name] = true
}

// placesOf looks where an absolute path leads now. Of one that leads nowhere,
// it is the place where the next name is missing.
func placesOf(path string) places {
	p := places{}
	dir, rest := top(path)
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		full := filepath.Join(dir, name)
		info, err := os.Lstat(full)
		switch {
		case err != nil:
			p.add(dir, name)
			return p
		case info.Mode()&os.ModeSymlink != 0:
			p.add(dir, name)
			target, err := os.Readlink(full)
			if links++; err != nil || links > linksMax {
				return p
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(dir, target)
			}
			var first []string
			dir, first = top(target)
			rest = append(first, rest...)
		case len(rest) == 0:
			p.add(dir, name)
		default:
			dir = full
		}
	}
	return p
}

// top splits an absolute path into its root and the names below.
func top(path string) (root string, names []string) {
	path = filepath.Clean(path)
	root = filepath.VolumeName(path) + string(filepath.Separator)
	rest := strings.Trim(strings.TrimPrefix(path, filepath.VolumeName(path)), string(filepath.Separator))
	if rest == "" {
		return root, nil
	}
	return root, strings.Split(rest, string(filepath.Separator))
}
