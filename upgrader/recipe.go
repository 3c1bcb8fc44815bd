package upgrader

import (
	"fmt"

	"github.com/upgrader/upgrader/upgrader/launch"
	"github.com/upgrader/upgrader/upgrader/self"
)

// A recipe is what a generation runs: the command file, held open so that it
// can run again after the file on disk was replaced or deleted, and the
// environment it ran with. Generations of one recipe share it; it counts them
// and releases the file with the last.
type recipe struct {
	held  *launch.Held
	copy  string   // of a script, in the state dir; "" until keep
	args  []string // with the command's name first
	env   []string // without what belongs to one generation
	users int

	served   bool // a generation of it was ready
	notifies bool // one said READY=1

	adopted bool // made of a running process: its name is that of a link in /proc
}

// ours are the variables of an upgrader above us, or of our last life, that a
// server must not take for its own.
var ours = map[string]bool{
	"NOTIFY_SOCKET": true, self.Sentinel: true, "UPGRADER_SUCCEEDS": true, "UPGRADER_INIT_FD": true, "UPGRADER_GENERATION": true, "UPGRADER_PREDECESSOR": true,
	"UPGRADER_STRATEGY": true, "UPGRADER_READY_EVENT": true, "UPGRADER_MARK": true, "UPGRADER_SHM_FD": true, "UPGRADER_SHM_PATH": true,
	"FDSTORE": true, "UPGRADER_SHM_SIZE": true, "UPGRADER_SHM_STATE": true, "UPGRADER_BRIDGE_FD": true, "UPGRADER_BRIDGE_PATH": true,
	"WATCHDOG_PID": true, "WATCHDOG_USEC": true,
}

// resolve looks the command up afresh: symbolic links, a replaced file, and
// the environment file are read as they are now.
func (s *Service) resolve() (*recipe, error) {
	env, err := s.environ()
	if err != nil {
		return nil, err
	}
	held, err := launch.HoldIn(s.config.Dir, s.config.Command[0])
	if err != nil {
		return nil, err
	}
	return &recipe{held: held, args: s.config.Command, env: env}, nil
}

// environ is the server's environment as it is now, without what belongs to
// one generation.
func (s *Service) environ() ([]string, error) {
	var dir, file []string
	if s.config.EnvDir != "" {
		dir = ReadEnvDir(s.config.EnvDir)
	}
	if s.config.EnvFile != "" {
		var err error
		if file, err = readEnvFile(s.config.EnvFile); err != nil {
			return nil, err
		}
	}
	return merge(s.config.Environ, ours, dir, file), nil
}

// use counts one more user.
func (r *recipe) use() *recipe {
	if r != nil {
		r.users++
	}
	return r
}

// release counts one less and closes the file behind the last.
func (r *recipe) release() {
	if r == nil {
		return
	}
	if r.users--; r.users <= 0 {
		_ = r.held.Close() // it was only read
	}
}

// keep makes sure that the recipe can run again whatever happens to the file:
// what the system cannot run from a descriptor, as a script, is copied to dir.
func (r *recipe) keep(dir string) error {
	if r.adopted || !r.held.NeedsCopy() || r.copy != "" {
		return nil
	}
	path, err := r.held.CopyTo(dir)
	if err != nil {
		return fmt.Errorf("upgrader: keep a copy of %s: %w", r.held.Name, err)
	}
	r.copy = path
	return nil
}

// order fills in what is executed: by its name as long as that still names
// the file, so that a server finds itself where it was installed.
func (r *recipe) order(o *launch.Order) {
	o.Args = r.args
	o.Path = r.held.Name
	switch {
	case !r.adopted && r.held.Same():
	case r.copy != "":
		o.Path, o.Args = r.held.Command(r.copy, r.args)
	default:
		o.Held = r.held.File
	}
}

// scripts is where copies of scripts are kept.
func (s *Service) scripts() string { return s.config.StateDir }

// setFallback replaces what serves again if the serving generation fails.
func (s *Service) setFallback(r *recipe) {
	s.fallback = swapRecipe(s.fallback, r)
}

// setCurrent replaces what a generation that died is started from again.
func (s *Service) setCurrent(r *recipe) {
	s.current = swapRecipe(s.current, r)
	if r == nil {
		return
	}
	s.keep(r)
}

// keep makes sure that r can run again, or tells why it cannot.
func (s *Service) keep(r *recipe) {
	if err := r.keep(s.scripts()); err != nil {
		s.note(nil, "the command could not run again if its file were replaced", err)
	}
}

func swapRecipe(old, new *recipe) *recipe {
	new.use()
	old.release()
	return new
}
