package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pluginLoader is the name under which the guest behaves as NFPluginLoader
// does. What the real one reads from its Config folder, this one reads from
// nf.conf there, a "KEY VALUE" a line, or finds in its own binary:
//
//	address ADDR   what it serves a ledger on; none: it has no listener
//	size N         bytes of its segment
//	before CODE    exit with CODE before it listens
//	pause D        between the segment and bind(2)
//	scribble yes   write over its objects before it listens, and die
//	deaf yes       signal 31 does nothing
const pluginLoader = "NFPluginLoader"

// Its signals.
const (
	nfKill   = syscall.Signal(31) // quit, keep the segment
	nfStop   = syscall.SIGUSR1    // quit, save to the database
	nfReload = syscall.SIGUSR2
)

// loader is one run of it.
type loader struct {
	values map[string]string // of options, by lower-case name
	flags  map[string]bool
	conf   map[string]string
	id     uint32
}

// asPluginLoader runs it, and gives its exit status.
func asPluginLoader(args []string) int {
	l, code := readLoader(args)
	if l == nil {
		return code
	}
	switch {
	case l.flags["stop"]:
		return l.send(nfStop)
	case l.flags["reload"]:
		return l.send(nfReload)
	case l.flags["quit"]:
		return l.send(nfKill)
	}
	starts := l.flags["start"] || l.flags["restart"]
	if starts && l.flags["daemon"] {
		if done, err := daemonise(); done || err != nil {
			return 0
		}
	}
	signals := make(chan os.Signal, 16)
	if starts {
		signal.Notify(signals, nfKill, nfStop, syscall.SIGTERM, nfReload, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
		if (l.flags["restart"] || l.flags["kill"]) && !l.killBefore() {
			fmt.Println("kill pre app failed!")
			return 0
		}
		if !l.flags["restart"] && !l.checkPidFile() {
			fmt.Println("check " + args[0] + " failed!")
			return 0
		}
		if err := os.WriteFile(l.pidFile(), []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
			return 0
		}
	}
	return l.serve(signals)
}

// readLoader reads the options, names in any case; what is no option means
// nothing.
func readLoader(args []string) (*loader, int) {
	valued := map[string]bool{}
	for _, name := range strings.Fields("server id config plugin game log luascript param") {
		valued[name] = true
	}
	for _, name := range strings.Fields("xbutton daemon start restart stop reload quit kill init") {
		valued[name] = false
	}
	l := &loader{values: map[string]string{}, flags: map[string]bool{}, conf: map[string]string{}}
	for i := 1; i < len(args); i++ {
		if args[i] == "-d" {
			l.flags["daemon"] = true
			continue
		}
		long, isLong := strings.CutPrefix(args[i], "--")
		if !isLong {
			continue
		}
		name, value, has := strings.Cut(long, "=")
		name = strings.ToLower(name)
		wants, known := valued[name]
		switch {
		case !known:
			fmt.Fprintln(os.Stderr, "unknown option", args[i])
			return nil, 1
		case !wants:
			l.flags[name] = true
			continue
		case !has:
			if i++; i < len(args) {
				value = args[i]
			}
		}
		l.values[name] = value
	}
	if len(l.values)+len(l.flags) == 0 {
		return nil, 0 // usage
	}
	for _, name := range []string{"server", "id", "config", "game"} {
		if l.values[name] == "" {
			fmt.Fprintln(os.Stderr, "missing option --"+name)
			return nil, 1
		}
	}
	var world, zone, kind, instance uint32
	if n, _ := fmt.Sscanf(l.values["id"], "%d.%d.%d.%d", &world, &zone, &kind, &instance); n != 4 {
		return nil, 0
	}
	l.id = world<<28 | zone<<16 | kind<<8 | instance
	text, err := os.ReadFile(filepath.Join(l.values["config"], "nf.conf"))
	if err != nil {
		return nil, 0 // an exception: exit 0
	}
	for line := range strings.Lines(string(text) + built()) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		l.conf[key] = value
	}
	return l, 0
}

// built is what was built into this binary: lines of nf.conf behind its end,
// so that a bad release can be made, and the one before it stays as it is.
func built() string {
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return ""
	}
	_, lines, _ := strings.Cut(string(text[max(0, len(text)-256):]), "\n# nf.conf\n")
	return lines
}

func (l *loader) name() string    { return l.values["server"] + "_" + l.values["id"] }
func (l *loader) pidFile() string { return l.name() + ".pid" }

// before reads the pid file as atoi does: garbage is 0.
func (l *loader) before() int {
	text, _ := os.ReadFile(l.pidFile())  // none is 0, too
	pid, _ := strconv.Atoi(string(text)) // likewise
	return pid
}

// send signals the process that the pid file names; the exit status is 0
// whatever comes of it.
func (l *loader) send(sig syscall.Signal) int {
	if pid := l.before(); pid > 0 {
		_ = syscall.Kill(pid, sig) // nobody looks at it
	}
	return 0
}

// killBefore ends the predecessor: a signal without a look at who gets it (an
// empty pid file is the whole process group), then a look every second, nine
// of them. A zombie is alive to it.
func (l *loader) killBefore() bool {
	if _, err := os.Stat(l.pidFile()); err != nil {
		return true
	}
	pid := l.before()
	_ = syscall.Kill(pid, nfKill) // nobody looks at it
	for range 9 {
		time.Sleep(time.Second)
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			return true
		}
	}
	return false
}

// checkPidFile looks for a file named as the program in the working directory
// of the process that the pid file names.
func (l *loader) checkPidFile() bool {
	if _, err := os.Stat(l.pidFile()); err != nil {
		return true
	}
	_, err := os.Stat(fmt.Sprintf("/proc/%d/cwd/%s", l.before(), filepath.Base(os.Args[0])))
	return err != nil
}

// serve is its life from the segment on.
func (l *loader) serve(signals <-chan os.Signal) int {
	book, code := l.attach()
	if book == nil {
		return code
	}
	if d, err := time.ParseDuration(l.conf["pause"]); err == nil {
		time.Sleep(d)
	}
	if text, ok := l.conf["before"]; ok {
		code, _ := strconv.Atoi(text) // 0
		return code
	}
	server := &http.Server{Handler: book}
	if address := l.conf["address"]; address != "" {
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp4", address)
		if err != nil {
			fmt.Fprintln(os.Stderr, "guest: linkId 0:", err) // and on it goes
		} else {
			go func() { _ = server.Serve(listener) }() // ended below
		}
	}
	fmt.Fprintln(os.Stderr, "guest: serving as", l.name())
	for sig := range signals {
		switch {
		case sig == nfKill && l.conf["deaf"] != "":
		case sig == nfKill:
			fmt.Fprintln(os.Stderr, "guest: killing, the segment stays")
			time.Sleep(20 * time.Millisecond) // the real one waits 100 ms before it closes its listener
			_ = server.Close()                // it ends
			return 0
		case sig == nfStop || sig == syscall.SIGTERM:
			fmt.Fprintln(os.Stderr, "guest: stopping, saved to the database")
			_ = server.Close() // it ends
			if err := os.WriteFile(l.name()+".db", nil, 0o644); err != nil {
				return 1
			}
			return 0
		case sig == nfReload:
			fmt.Fprintln(os.Stderr, "guest: reloading")
		default: // as a crash
			_ = os.WriteFile(l.name()+"_dump.log", nil, 0o644) // it dies anyway
			signal.Reset(sig)
			_ = syscall.Kill(os.Getpid(), sig.(syscall.Signal)) // likewise
		}
	}
	return 0
}
