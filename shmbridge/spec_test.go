package shmbridge

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseSpec(t *testing.T) {
	here, err := filepath.Abs("world.dat")
	must(t, err)
	for text, want := range map[string]Spec{
		"memfd:world,size=256M":             {Kind: Memfd, Name: "world", Size: 256 << 20},
		"memfd:w.1_-x,size=4096":            {Kind: Memfd, Name: "w.1_-x", Size: 4096},
		"posix:/game":                       {Kind: Posix, Name: "game"},
		"posix:game,size=1GiB":              {Kind: Posix, Name: "game", Size: 1 << 30},
		"sysv:0x100d0a01":                   {Kind: SysV, Key: 0x100d0a01},
		"sysv:17,size=64kb":                 {Kind: SysV, Key: 17, Size: 64 << 10},
		"sysv:-1":                           {Kind: SysV, Key: 0xffffffff},
		"file:world.dat":                    {Kind: File, Name: here},
		"file:/var/lib/a,b/w.dat,size=2T":   {Kind: File, Name: "/var/lib/a,b/w.dat", Size: 2 << 40},
		"section:NF,size=1B":                {Kind: Section, Name: "NF", Size: 1},
		"section:NF,size=1B,file=world.dat": {Kind: Section, Name: "NF", Size: 1, File: here},
		"section:NF,file=world.dat,size=1B": {Kind: Section, Name: "NF", Size: 1, File: here},
		"section:NF,file=world.dat":         {Kind: Section, Name: "NF", File: here},
	} {
		got, err := ParseSpec(text)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
		}
		again, err := ParseSpec(got.String())
		if err != nil || again != got {
			t.Errorf("%q: %q is read as %+v, %v", text, got.String(), again, err)
		}
	}
}

func TestParseSpecRefuses(t *testing.T) {
	for _, text := range []string{
		"", "world", "memfd:", "memfd:world", "memfd:world,size=", "memfd:world,size=0", "memfd:world,size=-1",
		"memfd:world,size=1X", "memfd:world,size=65T", "memfd:world,size=99999999999999999999", "memfd:world,size=M",
		"memfd:a/b,size=1M", "memfd:world,huge=1,size=1M", "memfd:world,size=1M,x=1", "memfd:w\nx,size=1M",
		"posix:", "posix:/", "posix:/a/b", "posix:/..", "posix:/a.bridge", "posix:/" + strings.Repeat("x", 201),
		"sysv:", "sysv:0", "sysv:0x1ffffffff", "sysv:key", "file:", "file:/var/", "file:/w.bridge", "shm:/x", ":x",
		"section:", "section:NF,file=", "section:NF,size=1M,file=w.bridge", "section:NF,file=x,size=", "memfd:w,size=1M,file=x",
	} {
		spec, err := ParseSpec(text)
		if !errors.Is(err, ErrSpec) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %+v, %v", text, spec, err)
		}
	}
}

func TestFileNamesOfSpecs(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{
		"posix:/a b", "posix:/a_b", "posix:/a?b", "memfd:a_b,size=1", "file:/x/w", "file:/y/w", "sysv:1", "sysv:0x10",
		"posix:/" + strings.Repeat("ü", 100), "posix:/" + strings.Repeat("ü", 99),
	} {
		spec, err := ParseSpec(text)
		must(t, err)
		name := spec.fileName()
		if other := seen[name]; other != "" || badName(name) != "" && len(name) > 230 {
			t.Errorf("%q: file name %q, as of %q", text, name, other)
		}
		seen[name] = text
	}
}

func FuzzParseSpec(f *testing.F) {
	f.Add("memfd:world,size=256M")
	f.Add("file:x,size=1,size=2K")
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := ParseSpec(text)
		if err != nil {
			if !errors.Is(err, ErrSpec) || strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if spec.Size < 0 || spec.Size > maxSize || strings.ContainsAny(spec.fileName(), "/\x00") {
			t.Fatalf("%q: %+v, %q", text, spec, spec.fileName())
		}
	})
}
