package main

import "testing"

// What is printed has no names of packages in it.
func TestPlain(t *testing.T) {
	for text, want := range map[string]string{
		"upgrader: there is no command":                        "there is no command",
		"usage: drain-max must be at least 1":                  "drain-max must be at least 1",
		"listener: claim tcp://:80: bind: permission denied":   "claim tcp://:80: bind: permission denied",
		"--shm: shmbridge: bad segment":                        "--shm: bad segment",
		"UPGRADER_READY: --ready: ready: what is that":         "UPGRADER_READY: --ready: what is that",
		"usage: listener: 127.0.0.1:80 is held by state: here": "127.0.0.1:80 is held by state: here",
		"state.yaml:3: ready: \"what\"":                        "state.yaml:3: ready: \"what\"",
		"state":                                                "state",
	} {
		if got := plain(text); got != want {
			t.Errorf("%q is printed as %q, want %q", text, got, want)
		}
	}
}
