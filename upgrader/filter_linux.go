package upgrader

import (
	"github.com/upgrader/upgrader/listener/intercept"
	"github.com/upgrader/upgrader/upgrader/launch"
)

// bindFilter is what takes over the binds of a server that pid, its shim,
// becomes. learns: its sockets cannot be looked at.
func bindFilter(pid int) (f launch.Filter, learns bool) {
	learns = !intercept.Capable(pid).PidfdGetfd
	f.Program, f.Flags = intercept.Filter(intercept.FilterOptions{Learn: learns})
	return f, learns
}
