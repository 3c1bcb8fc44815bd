//go:build !linux

package tail

import "os"

func watch(*os.File) watcher { return newPoller(every) }
