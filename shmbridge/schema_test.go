package shmbridge

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestMarks(t *testing.T) {
	if got := Mark(4, 3); got != "upgrader-"+"schema:4,3;" {
		t.Fatal(got)
	}
	for mark, want := range map[string][]uint64{
		Mark(1): {1}, Mark(4, 3): {4, 3}, markBegin + "4, 3;": {4, 3}, markBegin + ";": nil, markBegin + "0;": nil,
		markBegin + "1": nil, markBegin + "+1;": nil, "x" + Mark(1): nil, markBegin + "1,,2;": nil, "": nil,
	} {
		got, err := MarkOf(mark)
		if !slices.Equal(got, want) || (err == nil) != (want != nil) || err != nil && !errors.Is(err, ErrSchema) {
			t.Errorf("%q: %v, %v", mark, got, err)
		}
	}
}

func TestSchemasAnywhere(t *testing.T) {
	mark := Mark(7, 6)
	for _, at := range []int{0, 1, 1<<20 - 300, 1<<20 - 5, 1 << 20, 1<<20 + 270, 3<<20 - 1} {
		program := bytes.Repeat([]byte{0}, at)
		program = append(program, mark...)
		program = append(program, strings.Repeat("z", 1000)+Mark(7)+markBegin+"x;"+Mark(9)...)
		got, err := Schemas(bytes.NewReader(program))
		if err != nil || !slices.Equal(got, []uint64{7, 6, 9}) {
			t.Errorf("at %d: %v, %v", at, got, err)
		}
	}
	for _, none := range []string{"", "#!/bin/sh\nexit 0\n", markBegin + strings.Repeat("1", 300) + ";", markBegin} {
		if got, err := Schemas(strings.NewReader(none)); err != nil || len(got) != 0 {
			t.Errorf("%q: %v, %v", none, got, err)
		}
	}
}

func TestCompatible(t *testing.T) {
	for _, test := range []struct {
		current  uint64
		declared []uint64
		ok       bool
	}{{0, nil, true}, {0, []uint64{3}, true}, {3, []uint64{4, 3}, true}, {3, []uint64{4}, false}, {3, nil, false}} {
		err := Compatible(test.current, test.declared)
		if (err == nil) != test.ok || err != nil && !errors.Is(err, ErrSchema) {
			t.Errorf("%+v: %v", test, err)
		}
	}
}
