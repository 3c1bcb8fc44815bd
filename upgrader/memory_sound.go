package upgrader

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/upgrader/upgrader/shmbridge"
)

// scriptMax bounds what is looked through for schema marks among a command's
// arguments, in bytes.
const scriptMax = 16 << 20

// schemas are the numbers that a command declares: its file, else the first
// of the files among its arguments that declares some (python3 server.py).
func (s *Service) schemas(r *recipe) ([]uint64, error) {
	f, err := readable(r.held.File)
	if err != nil {
		return nil, fmt.Errorf("upgrader: look for schema marks in %s: %w", r.held.Name, err)
	}
	defer f.Close() // it was only read
	numbers, err := shmbridge.Schemas(f)
	if err != nil || len(numbers) > 0 {
		return numbers, err
	}
	for _, arg := range r.args[1:] {
		if !filepath.IsAbs(arg) {
			arg = filepath.Join(s.config.Dir, arg)
		}
		if info, err := os.Stat(arg); err != nil || !info.Mode().IsRegular() || info.Size() > scriptMax {
			continue
		}
		f, err := os.Open(arg)
		if err != nil {
			continue // the server may be allowed to; it declares nothing to us
		}
		numbers, err := shmbridge.Schemas(io.NewSectionReader(f, 0, scriptMax))
		_ = f.Close() // it was only read
		if err != nil || len(numbers) > 0 {
			return numbers, err
		}
	}
	return nil, nil
}

// judge says whether g may start on the segment as it is, and does what the
// policy wants when nobody vouches for it. It gives the snapshot that it put
// back, nil: none.
func (s *Service) judge(g *generation, e errands) (*shmbridge.Snapshot, error) {
	m, ctx := s.memory, g.grace
	now, err := m.segment.State()
	if err != nil || now.State == shmbridge.Fresh {
		return nil, err
	}
	why := ""
	if now.State == shmbridge.Unsaved {
		why = "its last writer ended without saving it"
	}
	if m.Validate != "" {
		if err := s.validate(ctx, g); err != nil {
			why = err.Error()
		} else if why != "" {
			s.tell(func() { s.note(g, "the segment is unsaved, but --validate finds it sound", nil) })
			why = ""
		}
	}
	switch {
	case why == "":
		return nil, nil
	case m.OnUnsaved == UnsavedRefuse:
		return nil, fmt.Errorf("the segment is not sound, and --on-unsaved is refuse: %s", why)
	case m.OnUnsaved == UnsavedKeep:
		s.tell(func() {
			s.observe(Event{What: EventNote, Generation: g.number, Message: "the segment is kept as it is: " + why, Warning: true})
		})
		return nil, nil
	}
	snap, err := s.soundSnapshot(ctx, e.copy)
	if err != nil {
		return nil, fmt.Errorf("the segment is not sound (%s), and cannot be restored: %w", why, err)
	}
	return &snap, s.putBack(ctx, g, snap)
}

// soundSnapshot is the newest snapshot of a saved segment, but not that of
// the swap under way.
func (s *Service) soundSnapshot(ctx context.Context, but *copying) (shmbridge.Snapshot, error) {
	m := s.memory
	if but != nil {
		select {
		case <-but.done:
		case <-ctx.Done():
			return shmbridge.Snapshot{}, ctx.Err()
		}
	}
	list, err := m.store.List(m.segment.Spec())
	if err != nil {
		return shmbridge.Snapshot{}, err
	}
	for _, snap := range slices.Backward(list) {
		if snap.Err == nil && snap.State == shmbridge.Saved && (but == nil || snap.Number != but.snap.Number) {
			return snap, nil
		}
	}
	return shmbridge.Snapshot{}, fmt.Errorf("in %s: %w of a saved segment", m.BackupDir, shmbridge.ErrNoSnapshot)
}

// validate asks the operator's command whether the segment is sound.
func (s *Service) validate(ctx context.Context, g *generation) error {
	m := s.memory
	cmd := shell(ctx, m.Validate)
	cmd.Dir = s.config.Dir
	cmd.ExtraFiles = m.segment.Files()
	numbers := make([]int, len(cmd.ExtraFiles))
	for i := range numbers {
		numbers[i] = 3 + i // as os/exec numbers them
	}
	env, err := m.segment.Environ(numbers...)
	if err != nil {
		return err
	}
	cmd.Env = append(slices.Clone(g.recipe.env), env...)
	cmd.Env = append(cmd.Env, shmbridge.EnvGeneration+"="+strconv.Itoa(g.number))
	return s.runCommand(cmd, "validate")
}

// approved reports whether the segment is sound under g, which is ready. When
// that has to be asked it is false, and g becomes ready, or fails, later.
func (s *Service) approved(g *generation) bool {
	m := s.memory
	if m == nil || m.Validate == "" || s.state != Replacing || g.verdict == approvedYes {
		return true
	}
	if g.verdict == approvedAsked {
		return false
	}
	g.verdict = approvedAsked
	s.spawn(func() {
		err := s.validate(g.grace, g)
		s.tell(func() {
			if g != s.starting {
				return
			}
			if err != nil {
				s.startFailed(g, fmt.Errorf("generation %d failed on the memory: %w", g.number, err))
				return
			}
			g.verdict = approvedYes
			s.becameReady(g)
		})
	})
	return false
}

// approval says how far the validation of a successor's memory is.
type approval int

const (
	approvedNo approval = iota
	approvedAsked
	approvedYes
)
