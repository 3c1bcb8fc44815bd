package main

import (
	"flag"
	"os"
	"strconv"
)

// loader are the options of NFPluginLoader, by which it names its pid file.
type loader struct{ server, id string }

func (l *loader) register() {
	flag.StringVar(&l.server, "Server", "", "name of the server")
	flag.StringVar(&l.id, "ID", "", "WORLD.ZONE.TYPE.INSTANCE")
	_ = flag.Bool("Start", false, "as it always does")
}

// start writes the pid file: digits alone, without any proof.
func (l *loader) start() error {
	if l.server == "" {
		return nil
	}
	return os.WriteFile(l.server+"_"+l.id+".pid", strconv.AppendInt(nil, int64(os.Getpid()), 10), 0o644)
}
