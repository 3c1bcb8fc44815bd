package nfshm

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	all := []string{"./NFPluginLoader", "--Server=GameServer", "--ID=1.13.10.1", "--Config=../Config"}
	for _, c := range []struct {
		name string
		add  []string
		want []string // behind --Start
	}{
		{"as it is", nil, all[1:]},
		{"restart as a daemon", []string{"--Restart", "-d"}, all[1:]},
		{"any case", []string{"--RESTART", "--daemon", "--KILL", "--Start"}, all[1:]},
		{"a value that looks like an option", []string{"--Log", "-d"}, append(slices.Clone(all[1:]), "--Log", "-d")},
		{"what means nothing", []string{" -d", "hello"}, append(slices.Clone(all[1:]), " -d", "hello")},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse(append(slices.Clone(all), c.add...))
			if err != nil {
				t.Fatal(err)
			}
			want := append([]string{"./NFPluginLoader", "--Start"}, c.want...)
			if !slices.Equal(got.Args, want) {
				t.Errorf("%q, want %q", got.Args, want)
			}
			if got.Key() != 0x100d0a01 || got.PidFile() != "GameServer_1.13.10.1.pid" || got.Zone() != "13" || got.Name() != "GameServer_1.13.10.1" {
				t.Errorf("%+v: key %#x, pid file %s", got, got.Key(), got.PidFile())
			}
		})
	}
	if c, err := Parse([]string{"x", "--server", "A", "--id", "15.4095.255.255"}); err != nil || c.Key() != 0xffffffff {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ args, text string }{
		{"", "no command"},
		{"x --ID=1.1.1.1", "--Server"},
		{"x --Server=A", "--ID"},
		{"x --Server=A --ID=1.1.1", "WORLD.ZONE"},
		{"x --Server=A --ID=16.1.1.1", "WORLD.ZONE"},
		{"x --Server=A --ID=1.4096.1.1", "WORLD.ZONE"},
		{"x --Server=A --ID=0.0.0.0", "WORLD.ZONE"},
		{"x --Server=A --ID=1.1.1.-1", "WORLD.ZONE"},
		{"x --Server=../A --ID=1.1.1.1", "file's name"},
		{"x --Server=AllMoreServer --ID=1.1.1.1", "several servers"},
		{"x --Server=A --ID=1.1.1.1 --Bogus", "no option"},
		{"x --Server=A --ID=1.1.1.1 --Init", "throw the memory away"},
		{"x --Server=A --ID=1.1.1.1 --Stop -d", "another process"},
		{"x --Server=A --ID=1.1.1.1 -?", "another process"},
		{"x --Server=A --ID", "wants a value"},
	} {
		_, err := Parse(strings.Fields(c.args))
		if err == nil || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", c.args, err, c.text)
		}
	}
}

func TestRewrite(t *testing.T) {
	got := Rewrite([]string{"x", "--Server=A", "--ID=1.1.1.1", "--Restart", "--Init", "-d"})
	if !slices.Equal(got, []string{"x", "--Start", "--Server=A", "--ID=1.1.1.1"}) {
		t.Errorf("%q", got)
	}
	if got := Rewrite([]string{"x", "--Stop"}); got != nil {
		t.Errorf("%q", got)
	}
}

func TestInspect(t *testing.T) {
	const key, size = 0x100d0a01, 8192
	sound := func() []byte {
		b := make([]byte, size)
		binary.LittleEndian.PutUint32(b[atKey:], key)
		binary.LittleEndian.PutUint64(b[atSize:], size)
		binary.LittleEndian.PutUint32(b[atInited:], inited)
		binary.LittleEndian.PutUint32(b[atVersion:], version)
		return b
	}
	if err := Inspect(sound(), key); err != nil {
		t.Error(err)
	}
	for at, text := range map[int]string{atKey: "key", atSize: "bytes", atInited: "finished", atVersion: "version"} {
		b := sound()
		b[at]++
		if err := Inspect(b, key); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("byte %d: %v", at, err)
		}
	}
	if err := Inspect(make([]byte, 50), key); err == nil {
		t.Error("a segment of 50 bytes is taken")
	}
}
