package main

import "testing"

func TestConstant(t *testing.T) {
	for line, want := range map[string]bool{
		"00400000-00857000 r-xp 00000000 fe:00 1234                               /usr/bin/upgrader": true,
		"00857000-00ce4000 r--p 00457000 fe:00 1234                               /usr/bin/upgrader": true,
		"00ce4000-00d42000 rw-p 008e4000 fe:00 1234                               /usr/bin/upgrader": false,
		"00ce4000-00d42000 r--s 008e4000 fe:00 1234                               /usr/bin/upgrader": false,
		"00ce4000-00d42000 r--p 008e4000 fe:00 1234                               /usr/bin/other":    false,
		"00d42000-00d86000 rw-p 00000000 00:00 0 ":                                                   false,
		"00d86000-00d42000 r--p 00000000 fe:00 1234                               /usr/bin/upgrader": false,
		"7ffe8037a000-7ffe8037c000 r-xp 00000000 00:00 0                          [vdso]":            false,
		"": false,
	} {
		if _, _, got := constant(line, "/usr/bin/upgrader"); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

// TestUnmapProgram: what runs goes on.
func TestUnmapProgram(t *testing.T) {
	for range 3 {
		unmapProgram()
	}
	TestConstant(t)
}
