package upgrader

import (
	"os"
	"path/filepath"
	"strings"
)

// ReadEnvDir gives the variables of a directory that has a file for each, as
// KEY=VALUE: the file's name, and its first line. Names that begin with a dot,
// empty files and what cannot be read mean nothing, and so does a directory
// that is not there; a NUL stands for a line end.
func ReadEnvDir(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var env []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") || strings.Contains(e.Name(), "=") {
			continue
		}
		info, err := os.Stat(filepath.Join(dir, e.Name()))
		if err != nil || !info.Mode().IsRegular() { // a fifo would be waited for
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || len(text) == 0 {
			continue
		}
		value, _, _ := strings.Cut(string(text), "\n")
		env = append(env, e.Name()+"="+strings.ReplaceAll(value, "\x00", "\n"))
	}
	return env
}
