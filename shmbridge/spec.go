package shmbridge

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"
)

// Kind says where a segment lives.
type Kind int

// The kinds of segments.
const (
	Memfd   Kind = iota + 1 // anonymous memory, sealed, passed by descriptor: lives as long as somebody holds it
	Posix                   // a name in /dev/shm: lives until the machine restarts
	SysV                    // a System V key: lives until the machine restarts
	File                    // a file: survives that
	Section                 // a named section of Windows
)

// String returns the word by which a specification begins.
func (k Kind) String() string {
	switch k {
	case Memfd:
		return "memfd"
	case Posix:
		return "posix"
	case SysV:
		return "sysv"
	case File:
		return "file"
	case Section:
		return "section"
	}
	return "kind " + strconv.Itoa(int(k))
}

// maxSize bounds every size that is read from anywhere, in bytes: 64 TiB, half of what a process can map.
const maxSize = 1 << 46

// sidecarSuffix is what the name of a bridge page adds to that of its segment.
const sidecarSuffix = ".bridge"

// Spec names a segment.
type Spec struct {
	Kind Kind
	Name string // memfd, section: the name; posix: the name without its slash; file: an absolute path
	Key  uint32 // sysv
	Size int64  // bytes; 0: whatever an existing one has
	File string // section: the file that backs it, an absolute path; empty: the page file does
}

// ParseSpec reads memfd:NAME,size=SIZE, posix:/NAME[,size=SIZE], sysv:KEY[,size=SIZE], file:PATH[,size=SIZE] or
// section:NAME[,size=SIZE][,file=PATH]. SIZE is a number of bytes, or of K, M, G or T (powers of 1024). Errors are of one
// line and match ErrSpec.
func ParseSpec(text string) (Spec, error) {
	bad := func(format string, args ...any) (Spec, error) {
		return Spec{}, fmt.Errorf("shmbridge: %w %q: %s", ErrSpec, text, fmt.Sprintf(format, args...))
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return bad("control characters")
	}
	word, rest, found := strings.Cut(text, ":")
	if !found {
		return bad("want memfd:NAME,size=SIZE, posix:/NAME, sysv:KEY or file:PATH")
	}
	s := Spec{}
	if word == "section" {
		if at := strings.Index(rest, ",file="); at >= 0 {
			name := rest[at+len(",file="):]
			rest = rest[:at]
			if at := strings.LastIndex(name, ",size="); at >= 0 && !strings.Contains(rest, ",size=") { // in either order
				name, rest = name[:at], rest+name[at:]
			}
			path, err := filepath.Abs(name)
			switch {
			case name == "":
				return bad("no file name")
			case strings.HasSuffix(path, sidecarSuffix):
				return bad("names that end in %s are of bridge pages", sidecarSuffix)
			case err != nil:
				return bad("%v", err)
			}
			s.File = path
		}
	}
	if at := strings.LastIndex(rest, ",size="); at >= 0 {
		size, err := parseSize(rest[at+len(",size="):])
		if err != nil {
			return bad("size: %v", err)
		}
		s.Size, rest = size, rest[:at]
	}
	s.Name = rest
	if word != "file" {
		if _, option, more := strings.Cut(rest, ","); more {
			return bad("unknown option %q", option)
		}
	}
	switch word {
	case "memfd":
		s.Kind = Memfd
		if s.Size == 0 {
			return bad("a memfd is always new: add ,size=SIZE")
		}
	case "section":
		s.Kind = Section
	case "posix":
		s.Kind = Posix
		s.Name = strings.TrimPrefix(rest, "/")
	case "sysv":
		s.Kind, s.Name = SysV, ""
		key, err := parseKey(rest)
		if err != nil {
			return bad("%v", err)
		}
		s.Key = key
		return s, nil
	case "file":
		s.Kind = File
		if rest == "" || strings.HasSuffix(rest, "/") {
			return bad("no file name")
		}
		if strings.HasSuffix(rest, sidecarSuffix) {
			return bad("names that end in %s are of bridge pages", sidecarSuffix)
		}
		path, err := filepath.Abs(rest)
		if err != nil {
			return bad("%v", err)
		}
		s.Name = path
		return s, nil
	default:
		return bad("unknown kind %q", word)
	}
	if reason := badName(s.Name); reason != "" {
		return bad("%s", reason)
	}
	return s, nil
}

// badName says what is wrong with a name that is to be one component of a path, or nothing.
func badName(name string) string {
	switch {
	case name == "":
		return "no name"
	case name == "." || name == "..", strings.Contains(name, "/"):
		return "the name must be one that a file could have"
	case len(name) > 200: // NAME_MAX is 255, and names are added to
		return "the name is longer than 200 bytes"
	case strings.HasSuffix(name, sidecarSuffix):
		return "names that end in " + sidecarSuffix + " are of bridge pages"
	}
	return ""
}

func parseKey(text string) (uint32, error) {
	n, err := strconv.ParseInt(text, 0, 64)
	if err != nil || n < math.MinInt32 || n > math.MaxUint32 {
		return 0, fmt.Errorf("a key is a number of 32 bits, such as 0x100d0a01")
	}
	if n == 0 {
		return 0, fmt.Errorf("key 0 (IPC_PRIVATE) names no segment")
	}
	return uint32(n), nil
}

func parseSize(text string) (int64, error) {
	digits := strings.TrimRight(text, "iBKMGTkmgtb")
	shift := -1
	switch strings.ToUpper(text[len(digits):]) {
	case "", "B":
		shift = 0
	case "K", "KB", "KIB":
		shift = 10
	case "M", "MB", "MIB":
		shift = 20
	case "G", "GB", "GIB":
		shift = 30
	case "T", "TB", "TIB":
		shift = 40
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || shift < 0 {
		return 0, fmt.Errorf("%q is not a number of bytes, K, M, G or T", text)
	}
	if n <= 0 || n > maxSize>>shift {
		return 0, fmt.Errorf("%q is not between 1 byte and 64T", text)
	}
	return n << shift, nil
}

// Identity names the segment without its size: what is equal for all its openings. Snapshots carry it.
func (s Spec) Identity() string {
	switch s.Kind {
	case Posix:
		return "posix:/" + s.Name
	case SysV:
		return fmt.Sprintf("sysv:0x%08x", s.Key)
	}
	return s.Kind.String() + ":" + s.Name
}

// String returns the text that ParseSpec reads.
func (s Spec) String() string {
	text := s.Identity()
	if s.Size != 0 {
		text += fmt.Sprintf(",size=%d", s.Size)
	}
	if s.File != "" {
		text += ",file=" + s.File
	}
	return text
}

// fileName returns the identity as something that a file name can begin with; no two identities share one.
func (s Spec) fileName() string {
	name := s.Name
	switch s.Kind {
	case SysV:
		name = fmt.Sprintf("0x%08x", s.Key)
	case File:
		name = filepath.Base(name)
	}
	plain := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '_'
	}, name)
	if s.Kind == File || plain != name {
		plain = fmt.Sprintf("%s-%016x", plain[:min(len(plain), 180)], xxh3.HashString(s.Identity()))
	}
	return s.Kind.String() + "-" + plain
}
