// The asking side: what a server does before it starts where another one runs.
// It says on stdout how its predecessor ended, or sends another signal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/upgrader/upgrader/winevents"
)

func main() {
	pidFile := flag.String("pidfile", "server.pid", "the predecessor's")
	marker := flag.String("marker", "", "where it writes that it has saved")
	executable := flag.String("executable", "", "what it must be, when nothing else proves it")
	deadline := flag.String("deadline", "refuse", "what to do when the confirmation is late: refuse, proceed, kill")
	confirm := flag.Duration("confirm", 0, "how long that may take (15s)")
	timeout := flag.Duration("timeout", time.Minute, "when to give up")
	signal := flag.String("signal", "Kill", "Kill, or Reload, Stop, Quit, which nobody answers")
	gone := flag.Bool("gone", false, "wait until the predecessor is gone, too")
	flag.Parse()

	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	target := winevents.Target{PidFile: *pidFile, Identity: winevents.Identity{Executable: *executable}}
	config := winevents.AskConfig{
		Times:      winevents.Times{Confirm: *confirm},
		AtDeadline: winevents.Deadline(*deadline),
		Observe:    func(e winevents.Event) { fmt.Println("event", e.What, e.Object) },
	}
	if *marker != "" {
		config.Saved = func(id winevents.Identity) error { return saved(*marker, id) }
	}
	var err error
	if *signal == string(winevents.Kill) {
		err = ask(ctx, target, config, *gone)
	} else {
		err = winevents.Send(ctx, target, winevents.Signal(*signal), config)
	}
	if err != nil {
		fmt.Println("error", err)
		cancel()
		os.Exit(1)
	}
}

func ask(ctx context.Context, target winevents.Target, config winevents.AskConfig, gone bool) error {
	answer, err := winevents.Ask(ctx, target, config)
	if err != nil {
		return err
	}
	// A server that starts now maps the memory, writes its own pid file and
	// closes the answer then.
	fmt.Println("result", answer.Result, answer.Marker, answer.Reason)
	if gone {
		err = answer.Wait(ctx)
		fmt.Println("gone")
	}
	return errors.Join(err, answer.Close())
}

func saved(marker string, id winevents.Identity) error {
	text, err := os.ReadFile(marker)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(text)) != strconv.Itoa(id.Pid) {
		return fmt.Errorf("saved by %s", text)
	}
	return nil
}
