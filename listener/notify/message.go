package notify

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// maxMessage is the largest message, in bytes: systemd's limit too (PIPE_BUF).
const maxMessage = 4096

// What is wrong with a message that is not one.
var (
	errEmpty = errors.New("an empty message")
	errLong  = errors.New("a message of more than 4096 bytes")
	errNUL   = errors.New("a message with a NUL in it")
)

// Message is one datagram that a server sent. See sd_notify(3) for what the
// fields mean; one that was not sent, or makes no sense, is zero.
type Message struct {
	Pid      int    // of the sender, by SCM_CREDENTIALS
	Uid, Gid uint32 // of the sender, likewise

	Fields map[string]string // all that was said, KEY=VALUE; of a key that comes twice the first

	Ready, Reloading, Stopping bool
	Status                     string        // one line, UTF-8, nothing in it that moves a cursor
	MainPID                    int           // what the sender calls the main process
	Errno                      syscall.Errno // why it failed
	ExitStatus                 *int          // 0-255; nil: not said
	Watchdog, WatchdogTrigger  bool          // WATCHDOG=1, WATCHDOG=trigger
	WatchdogTime               time.Duration // WATCHDOG_USEC
	ExtendTimeout              time.Duration // EXTEND_TIMEOUT_USEC
	Monotonic                  time.Duration // MONOTONIC_USEC, since boot

	FDStore       bool   // park Files: see Store
	FDStoreRemove bool   // close what is parked under FDName
	FDName        string // "" when none was given or it is none
	FDPoll        bool   // false after FDPOLL=0

	// Files came with the message. Those that are still here when the handler
	// returns are closed: Take them to keep them.
	Files []*os.File

	barrier bool
}

// Take gives the files to the caller, who has to close them.
func (m Message) Take() []*os.File {
	var taken []*os.File
	for i, f := range m.Files {
		if f != nil {
			taken = append(taken, f)
			m.Files[i] = nil // shared with every copy of m
		}
	}
	return taken
}

// closeFiles closes what nobody took.
func (m Message) closeFiles() {
	for _, f := range m.Take() {
		_ = f.Close() // not ours to write
	}
}

// Parse reads the text of a message: Fields and what follows from them.
func Parse(text []byte) (Message, error) {
	if len(text) > maxMessage {
		return Message{}, errLong
	}
	text = bytes.TrimSuffix(text, []byte{0}) // some send their terminator along
	if len(text) == 0 {
		return Message{}, errEmpty
	}
	if bytes.IndexByte(text, 0) >= 0 {
		return Message{}, errNUL
	}
	m := Message{Fields: map[string]string{}, FDPoll: true}
	for line := range strings.SplitSeq(string(text), "\n") {
		key, value, ok := strings.Cut(line, "=")
		if !ok || key == "" {
			continue
		}
		if _, twice := m.Fields[key]; !twice {
			m.Fields[key] = value
		}
	}
	m.interpret()
	return m, nil
}

// interpret sets what Fields say.
func (m *Message) interpret() {
	is := func(key string) bool { return m.Fields[key] == "1" }
	m.Ready, m.Reloading, m.Stopping = is("READY"), is("RELOADING"), is("STOPPING")
	m.FDStore, m.FDStoreRemove, m.barrier = is("FDSTORE"), is("FDSTOREREMOVE"), is("BARRIER")
	m.FDPoll = m.Fields["FDPOLL"] != "0"
	if name := m.Fields["FDNAME"]; ValidName(name) {
		m.FDName = name
	}
	m.Status = status(m.Fields["STATUS"])
	m.MainPID = m.number("MAINPID", math.MaxInt32)
	m.Errno = syscall.Errno(m.number("ERRNO", 4095))
	if n, err := strconv.ParseUint(m.Fields["EXIT_STATUS"], 10, 8); err == nil {
		exit := int(n)
		m.ExitStatus = &exit
	}
	m.Watchdog, m.WatchdogTrigger = is("WATCHDOG"), m.Fields["WATCHDOG"] == "trigger"
	m.WatchdogTime = m.microseconds("WATCHDOG_USEC")
	m.ExtendTimeout = m.microseconds("EXTEND_TIMEOUT_USEC")
	m.Monotonic = m.microseconds("MONOTONIC_USEC")
}

// number reads a field as a decimal number; 0 when it is none from 1 to most.
func (m *Message) number(key string, most int) int {
	n, err := strconv.Atoi(m.Fields[key])
	if err != nil || n < 1 || n > most {
		return 0
	}
	return n
}

// microseconds reads a field as a number of microseconds; 0 when it is none,
// the longest Duration when it is more.
func (m *Message) microseconds(key string) time.Duration {
	n, err := strconv.ParseUint(m.Fields[key], 10, 64)
	if err != nil {
		return 0
	}
	return time.Duration(min(n, math.MaxInt64/1000)) * time.Microsecond
}

// status is text as a line that a terminal and a log can stand; "" when it is
// not UTF-8.
func status(text string) string {
	if !utf8.ValidString(text) {
		return ""
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, text))
}

// nameMax is the length that systemd allows the name of a descriptor.
const nameMax = 255

// ValidName reports whether name may stand in FDNAME=: 1 to 255 characters of
// ASCII, no control characters and no ':'.
func ValidName(name string) bool {
	if name == "" || len(name) > nameMax {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c < ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return true
}
