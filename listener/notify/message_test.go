package notify

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	exit := func(n int) *int { return &n }
	for text, want := range map[string]Message{
		"READY=1":                          {Ready: true},
		"READY=1\n":                        {Ready: true},
		"READY=1\x00":                      {Ready: true},
		"READY=0":                          {},
		"READY=yes":                        {},
		"ready=1":                          {},
		" READY=1":                         {},
		"READY=0\nREADY=1":                 {},
		"nonsense\n=x\nREADY=1\n\n":        {Ready: true},
		"RELOADING=1\nMONOTONIC_USEC=1500": {Reloading: true, Monotonic: 1500 * time.Microsecond},
		"STOPPING=1\nSTATUS=bye":           {Stopping: true, Status: "bye"},
		"STATUS=a=b":                       {Status: "a=b"},
		"STATUS=66% of 你好\x1b[2J\r":        {Status: "66% of 你好 [2J"},
		"STATUS=\u0085\u2028x":             {Status: "x"},
		"STATUS=\xff":                      {},
		"MAINPID=4711":                     {MainPID: 4711},
		"MAINPID=0":                        {},
		"MAINPID=-1":                       {},
		"MAINPID=99999999999":              {},
		"MAINPID=12x":                      {},
		"ERRNO=2\nEXIT_STATUS=0":           {Errno: syscall.ENOENT, ExitStatus: exit(0)},
		"ERRNO=4096\nEXIT_STATUS=256":      {},
		"EXIT_STATUS=255":                  {ExitStatus: exit(255)},
		"EXIT_STATUS=-1":                   {},
		"EXIT_STATUS=":                     {},
		"WATCHDOG=1":                       {Watchdog: true},
		"WATCHDOG=trigger":                 {WatchdogTrigger: true},
		"WATCHDOG_USEC=20000000":           {WatchdogTime: 20 * time.Second},
		"EXTEND_TIMEOUT_USEC=1":            {ExtendTimeout: time.Microsecond},
		"EXTEND_TIMEOUT_USEC=18446744073709551615": {ExtendTimeout: math.MaxInt64 / 1000 * time.Microsecond},
		"EXTEND_TIMEOUT_USEC=-1":                   {},
		"FDSTORE=1":                                {FDStore: true},
		"FDSTORE=1\nFDNAME=a b\nFDPOLL=0":          {FDStore: true, FDName: "a b", FDPoll: false, Uid: 1}, // Uid: see below
		"FDSTORE=1\nFDNAME=a:b":                    {FDStore: true},
		"FDSTOREREMOVE=1\nFDNAME=x":                {FDStoreRemove: true, FDName: "x"},
		"BARRIER=1":                                {barrier: true},
	} {
		got, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		got.Fields = nil
		want.FDPoll = want.Uid == 0 // the one case that says so
		want.Uid = 0
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n got %+v\nwant %+v", text, got, want)
		}
	}
	for text, want := range map[string]error{
		"": errEmpty, "\x00": errEmpty, "READY=1\x00\x00": errNUL, "READY=1\x00STATUS=x": errNUL,
		strings.Repeat("x", maxMessage+1): errLong,
	} {
		if _, err := Parse([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%.20q: got %v, want %v", text, err, want)
		}
	}
	m, err := Parse([]byte("X_OWN=1\nX_OWN=2\nREADY=1\nSTATUS="))
	if want := map[string]string{"X_OWN": "1", "READY": "1", "STATUS": ""}; err != nil || !reflect.DeepEqual(m.Fields, want) {
		t.Errorf("got %q, %v; want %q", m.Fields, err, want)
	}
}

func TestValidName(t *testing.T) {
	for name, want := range map[string]bool{
		"": false, "a": true, "a b": true, "a:b": false, "a\n": false, "\x7f": false, "é": false,
		strings.Repeat("x", 255): true, strings.Repeat("x", 256): false,
	} {
		if ValidName(name) != want {
			t.Errorf("%.20q: want %v", name, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("READY=1\nSTATUS=x\nMAINPID=7"))
	f.Add([]byte("FDSTORE=1\nFDNAME=a:b\nFDPOLL=0"))
	f.Add([]byte("EXIT_STATUS=00\nERRNO=+1\n\xff=\xfe"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse(text)
		if err != nil {
			return
		}
		if len(text) > maxMessage || m.FDName != "" && !ValidName(m.FDName) || m.MainPID < 0 || m.Errno > 4095 {
			t.Errorf("%q: %+v", text, m)
		}
		if !utf8.ValidString(m.Status) || strings.ContainsAny(m.Status, "\n\r\x1b\x00") {
			t.Errorf("a status that breaks a log: %q", m.Status)
		}
		if m.ExtendTimeout < 0 || m.WatchdogTime < 0 || m.Monotonic < 0 || m.ExitStatus != nil && (*m.ExitStatus < 0 || *m.ExitStatus > 255) {
			t.Errorf("%q: out of range: %+v", text, m)
		}
		if m.Ready && !strings.Contains("\n"+string(text)+"\n", "\nREADY=1") {
			t.Errorf("%q is not ready", text)
		}
	})
}
