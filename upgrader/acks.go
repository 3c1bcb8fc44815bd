package upgrader

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/upgrader/upgrader/listener/dialect"
	"github.com/upgrader/upgrader/listener/notify"
)

// ackSocket is where a server that speaks einhorn's dialect says that it has
// come up; nil when it does not.
func (s *Service) ackSocket(g *generation) (*notify.Acks, error) {
	if !slices.ContainsFunc(s.config.Dialects, func(d dialect.Dialect) bool { return d.Name() == "einhorn" }) {
		return nil, nil
	}
	path := filepath.Join(s.config.StateDir, "einhorn."+strconv.Itoa(g.number))
	a, err := notify.ListenAcks(path)
	if err != nil || s.config.User == nil {
		return a, err
	}
	if err := os.Chown(path, int(s.config.User.Uid), int(s.config.User.Gid)); err != nil {
		_ = a.Close()
		return nil, fmt.Errorf("upgrader: give einhorn's socket to the server's user: %w", err)
	}
	return a, nil
}

// ackEnviron tells a server of the socket. Its clients ack only to their parent.
func ackEnviron(a *notify.Acks) []string {
	if a == nil {
		return nil
	}
	return []string{"EINHORN_SOCK_PATH=" + a.Path(), "EINHORN_MASTER_PID=" + strconv.Itoa(os.Getpid()), "EINHORN_CHILD_INDEX=0"}
}

// hearAcks takes an ack of a process of g for READY=1.
func (s *Service) hearAcks(g *generation, first int, a *notify.Acks) {
	_ = a.Run(g.run, func(pid int) { s.heard(g, first, notify.Message{Pid: pid, Ready: true}) }) // it ends with g
	_ = a.Close()                                                                                // its directory is ours
}
