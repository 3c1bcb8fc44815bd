package state

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

func TestSaveLoad(t *testing.T) {
	d := open(t)
	if _, err := d.Load(); !errors.Is(err, ErrNone) {
		t.Errorf("before the first: %v", err)
	}
	for _, payload := range []string{`{"a":1}`, `[]`, `"text"`, `{"long":"` + strings.Repeat("x", 100_000) + `"}`, `{}`} {
		if err := d.Save(json.RawMessage(payload)); err != nil {
			t.Fatal(err)
		}
		got, err := d.Load()
		if err != nil || string(got) != payload {
			t.Errorf("got %.50s, %v, want %.50s", got, err, payload)
		}
	}
	if info, err := os.Lstat(d.Join(savedName)); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(d.Path()); err != nil || len(entries) != 1 {
		t.Errorf("something was left: %v, %v", entries, err)
	}
	if err := d.Save(json.RawMessage("{broken")); err == nil {
		t.Error("a payload that is no JSON was saved")
	}
	if _, err := d.Load(); err != nil {
		t.Error("and the one before is lost:", err)
	}
	for range 2 {
		if err := d.Forget(); err != nil {
			t.Error(err)
		}
	}
	if _, err := d.Load(); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

func TestLoadRefuses(t *testing.T) {
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	whole := `{"version":1,"boot":"` + boot + `","time":"2026-01-02T03:04:05Z","payload":{"a":1}}` + "\n"
	cases := map[string]error{
		whole:                                 nil,
		whole + "{}":                          ErrDamaged,
		"":                                    ErrDamaged,
		"\x00\x00\x00\x00":                    ErrDamaged,
		"[]":                                  ErrDamaged,
		"{}":                                  ErrVersion,
		`{"version":2,"payload":"other"}`:     ErrVersion,
		`{"version":1,"boot":"` + boot + `"}`: ErrDamaged,
		`{"version":1,"boot":"11111111-2222","payload":{}}`: ErrOtherBoot,
		`{"version":1,"boot":7,"payload":{}}`:               ErrDamaged,
	}
	for n := 1; n < len(whole)-2; n += 7 {
		cases[whole[:n]] = ErrDamaged
	}
	d := open(t)
	for text, want := range cases {
		write(t, d.Join(savedName), text)
		if _, err := d.Load(); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		} else if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%q takes more than a line", err)
		}
	}
}

func TestSaveIsWholeAfterKill(t *testing.T) {
	d := open(t)
	for range 3 {
		p := start(t, "save", nil, d.Path())
		p.kill()
		data, err := d.Load()
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]string
		if err := json.Unmarshal(data, &v); err != nil || v["number"] == "" {
			t.Fatalf("%s: %v", data, err)
		}
	}
}

func FuzzDecodeSaved(f *testing.F) {
	f.Add([]byte(`{"version":1,"boot":"b","payload":{}}`))
	f.Add([]byte(`{"version":1,"boot":"b","payload":`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		payload, err := decodeSaved(data, "b")
		if err == nil && !json.Valid(payload) {
			t.Errorf("%q gave %q", data, payload)
		}
	})
}
