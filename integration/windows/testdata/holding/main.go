// The parent of unmodified servers: it holds the events of whichever process
// the pid file names, so that no signal between two of them is lost.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/upgrader/upgrader/winevents"
)

func main() {
	var held []*winevents.Held // for as long as we live: that is, a test
	for last := 0; ; time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(os.Args[1])
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || pid == last {
			continue
		}
		id, err := winevents.IdentityOf(pid)
		if errors.Is(err, winevents.ErrNoProcess) { // half written, or gone
			continue
		}
		if err == nil {
			var h *winevents.Held
			if h, err = winevents.Hold(id, nil); err == nil {
				held, last = append(held, h), pid
				fmt.Println("holding", pid, len(held))
				continue
			}
		}
		fmt.Println("error", err)
		os.Exit(1)
	}
}
