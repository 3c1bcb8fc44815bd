// Package arrows holds the rules of the repository that no compiler knows.
package arrows

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/upgrader/upgrader/"
	root   = "../.."
)

// arrows says what a package of the module, and those under it, may import of
// the module. The longest entry that fits a package holds. A package under an
// entry may import its siblings there.
var arrows = map[string][]string{
	"cmd":               {"cmd", "upgrader", "listener", "shmbridge", "winevents"},
	"upgrader":          {"upgrader", "listener", "shmbridge", "winevents"},
	"upgrader/launch":   {},
	"upgrader/process":  {},
	"listener":          {"listener"},
	"shmbridge":         {"shmbridge"},
	"winevents":         {"winevents"},
	"integration":       {"integration/lab", "integration/load", "integration/ledger"},
	"integration/bench": {"integration/lab", "integration/load", "shmbridge"},
}

// onlyIn says which packages may import what else.
var onlyIn = map[string][]string{
	"go.uber.org/zap":       {"cmd"},
	"github.com/spf13":      {"cmd"},
	"github.com/prometheus": {"cmd", "upgrader/control"},
}

// launchers import nothing but the standard library and x/sys.
var launchers = []string{"upgrader/launch", "upgrader/process"}

func under(pkg, parent string) bool { return pkg == parent || strings.HasPrefix(pkg, parent+"/") }

func underAny(pkg string, roots []string) bool {
	return slices.ContainsFunc(roots, func(r string) bool { return under(pkg, r) })
}

// forbidden says why pkg may not import imported, "" if it may.
func forbidden(pkg, file, imported string) string {
	for prefix, roots := range onlyIn {
		if under(imported, prefix) && !underAny(pkg, roots) {
			return "only for " + strings.Join(roots, ", ")
		}
	}
	if underAny(pkg, launchers) && strings.Contains(imported, ".") && !under(imported, "golang.org/x/sys") && !strings.HasSuffix(file, "_test.go") {
		return "a launcher stands on the standard library and x/sys alone"
	}
	target, ours := strings.CutPrefix(imported, module)
	if !ours {
		return ""
	}
	longest := ""
	for entry := range arrows {
		if under(pkg, entry) && len(entry) > len(longest) {
			longest = entry
		}
	}
	if longest == "" {
		return "its package has no place in the arrows"
	}
	if target == longest || underAny(target, arrows[longest]) {
		if under(target, "winevents") && under(pkg, "upgrader") && !strings.Contains(file, "_windows") {
			return "only from *_windows.go"
		}
		return ""
	}
	return "no arrow leads there"
}

// packages calls visit for every Go file of the module.
func packages(t *testing.T, visit func(pkg, file string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && p != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(p, ".go") {
			name := filepath.ToSlash(p)
			visit(strings.TrimPrefix(strings.TrimPrefix(path.Dir(name), root), "/"), name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsFollowTheArrows(t *testing.T) {
	packages(t, func(pkg, file string) {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		for _, i := range f.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Error(err)
				continue
			}
			if why := forbidden(pkg, path.Base(file), imported); why != "" {
				t.Errorf("%s imports %s: %s", file, imported, why)
			}
		}
	})
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	documented := map[string]bool{}
	packages(t, func(pkg, file string) {
		if strings.HasSuffix(file, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Error(err)
			return
		}
		documented[pkg] = documented[pkg] || f.Doc != nil && len(f.Doc.Text()) > 20
	})
	for pkg, is := range documented {
		if !is {
			t.Errorf("%s has no package documentation", pkg)
		}
	}
}

func TestNoFileHoldsTwoThings(t *testing.T) {
	packages(t, func(_, file string) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
			return
		}
		if n := strings.Count(string(text), "\n"); n > 500 {
			t.Errorf("%s has %d lines, 500 are the most", file, n)
		}
	})
}
