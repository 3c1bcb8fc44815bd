package nfshm

import (
	"fmt"
	"strconv"
	"strings"
)

// Command is a command line of NFPluginLoader as it is run under an upgrader. Names of its options do not depend on case,
// their values do; a value follows = or is the next argument; arguments that are no options mean nothing to it.
type Command struct {
	Server string    // --Server
	ID     string    // --ID as given, world.zone.type.instance
	Bus    [4]uint32 // its four numbers
	Args   []string  // the program first; --Start in the place of --Restart, never as a daemon
}

// What the options of NFPluginLoader want, by their names in lower case.
const (
	valued   = iota + 1 // a value
	flag                // nothing
	daemon              // nothing: to leave its parent
	starting            // nothing: to write a pid file, and to mind signals
	asking              // nothing: to signal another process, and to end
	wiping              // nothing: to make the segment anew
)

var options = map[string]int{
	"server": valued, "id": valued, "config": valued, "plugin": valued, "game": valued, "log": valued, "luascript": valued, "param": valued,
	"xbutton": flag, "daemon": daemon, "start": starting, "restart": starting, "kill": starting,
	"stop": asking, "reload": asking, "quit": asking, "help": asking, "init": wiping,
}

var short = map[string]int{"x": flag, "d": daemon, "?": asking}

// Parse reads a command line, the program first. What a swap could not be made of is an error of one line.
func Parse(args []string) (Command, error) {
	c, err := read(args)
	switch {
	case err != nil:
		return c, err
	case c.Server == "" || c.ID == "":
		return c, fmt.Errorf("nfshm: the command needs --Server=NAME and --ID=WORLD.ZONE.TYPE.INSTANCE: they name the segment and the pid file")
	case strings.ContainsAny(c.Server, "/\\\x00"):
		return c, fmt.Errorf("nfshm: --Server=%q: it is part of a file's name", c.Server)
	case c.Server == "AllMoreServer":
		return c, fmt.Errorf("nfshm: --Server=AllMoreServer runs several servers in one process, which cannot be swapped one by one: start each with its own upgrader")
	}
	if c.Bus, err = busOf(c.ID); err != nil {
		return c, err
	}
	return c, nil
}

// read goes through the arguments once.
func read(args []string) (Command, error) {
	var c Command
	if len(args) == 0 {
		return c, fmt.Errorf("nfshm: no command")
	}
	kept := []string{}
	for i := 1; i < len(args); i++ {
		name, value, hasValue := strings.Cut(args[i], "=")
		kind := 0
		switch long, isLong := strings.CutPrefix(name, "--"); {
		case isLong:
			name = strings.ToLower(long)
			if kind = options[name]; kind == 0 {
				return c, fmt.Errorf("nfshm: %s is no option of NFPluginLoader", args[i])
			}
		case strings.HasPrefix(name, "-"):
			name = strings.ToLower(name[1:])
			kind = short[name]
		}
		switch kind {
		case starting, daemon:
			continue
		case asking:
			return c, fmt.Errorf("nfshm: %s asks another process for something: use upgrader restart, reload or stop", args[i])
		case wiping:
			return c, fmt.Errorf("nfshm: %s would throw the memory away at each swap: start the server with it once, without the upgrader", args[i])
		}
		kept = append(kept, args[i])
		if kind != valued {
			continue
		}
		if !hasValue {
			if i++; i == len(args) {
				return c, fmt.Errorf("nfshm: %s wants a value", args[i-1])
			}
			value = args[i]
			kept = append(kept, value)
		}
		switch name {
		case "server":
			c.Server = value
		case "id":
			c.ID = value
		}
	}
	c.Args = append([]string{args[0], "--Start"}, kept...)
	return c, nil
}

// busOf reads world.zone.type.instance, numbers of 4, 12, 8 and 8 bits. Larger ones would share the segment of another
// server.
func busOf(id string) (bus [4]uint32, err error) {
	parts := strings.Split(id, ".")
	bits := [4]int{4, 12, 8, 8}
	if len(parts) == len(bits) {
		for i, p := range parts {
			n, e := strconv.ParseUint(p, 10, bits[i])
			if e != nil {
				err = e
			}
			bus[i] = uint32(n)
		}
		if err == nil && bus != [4]uint32{} {
			return bus, nil
		}
	}
	return bus, fmt.Errorf("nfshm: --ID=%q: want WORLD.ZONE.TYPE.INSTANCE, up to 15.4095.255.255", id)
}

// Key is the System V key of the object segment: 1.13.10.1 has 0x100d0a01.
func (c Command) Key() uint32 { return c.Bus[0]<<28 | c.Bus[1]<<16 | c.Bus[2]<<8 | c.Bus[3] }

// PidFile is the name of the file with the server's pid, in its working directory.
func (c Command) PidFile() string { return c.Server + "_" + c.ID + ".pid" }

// Name names the server among those of one user.
func (c Command) Name() string { return c.Server + "_" + c.ID }

// Zone is the zone of the ID.
func (c Command) Zone() string { return strconv.FormatUint(uint64(c.Bus[1]), 10) }

// Rewrite is the command line of another process of the server as the upgrader runs it; nil when it is none.
func Rewrite(args []string) []string {
	c, err := Parse(withoutInit(args))
	if err != nil {
		return nil
	}
	return c.Args
}

// withoutInit drops --Init, which is of one start only.
func withoutInit(args []string) []string {
	kept := make([]string, 0, len(args))
	for _, a := range args {
		if !strings.EqualFold(a, "--init") {
			kept = append(kept, a)
		}
	}
	return kept
}
