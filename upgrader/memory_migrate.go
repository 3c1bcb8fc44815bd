package upgrader

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/upgrader/upgrader/shmbridge"
)

// What a migration finds beside the environment of a server.
const (
	envMigration  = "UPGRADER_MIGRATION"   // rehearsal, on a copy from under the writer, or final
	envSchemaFrom = "UPGRADER_SCHEMA_FROM" // that the copy is in
	envSchemaTo   = "UPGRADER_SCHEMA_TO"   // that the successor writes
)

// The turns of a migration.
const (
	rehearsal = "rehearsal"
	final     = "final"
)

// rehearse says whether g, whose command declares these schemas, can take the
// segment: as it is, or once it was migrated, which is tried on a copy while
// the predecessor still serves.
func (s *Service) rehearse(ctx context.Context, g *generation, declared []uint64) error {
	err := s.memory.segment.Accepts(declared)
	if !s.migratable(err, declared) {
		return err
	}
	d, err := s.draft(ctx, g, declared[0], rehearsal)
	if err != nil {
		return err
	}
	return d.Close()
}

// migratable reports whether a command that declares these schemas, which the
// segment is not in, may get it by a migration.
func (s *Service) migratable(err error, declared []uint64) bool {
	return errors.Is(err, shmbridge.ErrSchema) && s.memory.Migrate != "" && len(declared) > 0
}

// draft is a copy of the segment that the operator's command has brought into
// the schema.
func (s *Service) draft(ctx context.Context, g *generation, schema uint64, turn string) (*shmbridge.Draft, error) {
	m := s.memory
	now, err := m.segment.State()
	if err != nil {
		return nil, err
	}
	d, err := m.segment.Draft(ctx)
	if err != nil {
		return nil, err
	}
	found, err := d.Command()
	if err == nil {
		cmd := shell(ctx, m.Migrate)
		cmd.Dir, cmd.ExtraFiles = s.config.Dir, found.Files
		cmd.Env = append(append(slices.Clone(g.recipe.env), found.Env...), envMigration+"="+turn,
			envSchemaFrom+"="+strconv.FormatUint(now.Schema, 10), envSchemaTo+"="+strconv.FormatUint(schema, 10))
		err = s.runCommand(cmd, "migrate")
	}
	if err == nil {
		err = d.Finish(schema)
	}
	if err != nil {
		_ = d.Close() // the error that is told is why
		return nil, fmt.Errorf("the segment cannot be migrated from schema %d to %d: %w", now.Schema, schema, err)
	}
	return d, nil
}

// migrate brings the segment, which nobody writes, into the schema of g. The
// command works on a copy; what it made replaces the segment's bytes when it
// has succeeded. snap is the snapshot that the segment is in, nil: e.copy is,
// or none.
func (s *Service) migrate(g *generation, e errands, snap *shmbridge.Snapshot) error {
	m, ctx := s.memory, g.grace
	var declared []uint64
	switch {
	case e.copy != nil: // looked for while the predecessor served
		declared = e.copy.declared
	case m.Migrate == "" || g.recipe.served:
		return nil // it starts again on its own, or nobody else could take it
	default:
		var err error
		if declared, err = s.schemas(g.recipe); err != nil {
			return err
		}
	}
	err := m.segment.Accepts(declared)
	if !s.migratable(err, declared) {
		if e.copy == nil {
			return nil
		}
		return err
	}
	began := time.Now()
	d, err := s.draft(ctx, g, declared[0], final)
	if err != nil {
		return err
	}
	defer d.Close() // what it holds is in the segment, or not wanted
	if snap == nil {
		if snap, err = s.asItIs(ctx, e.copy); err != nil {
			return fmt.Errorf("the segment is not migrated, for there is no snapshot to go back to: %w", err)
		}
	}
	err = s.unmapped(ctx, m, func() error {
		return m.store.Migrate(ctx, m.segment, d, *snap, declared[0], shmbridge.RestoreOptions{Generation: g.number})
	})
	if err == nil {
		s.tell(func() {
			s.observe(Event{What: EventMigrated, Generation: g.number, Message: fmt.Sprintf("the segment is in schema %d", declared[0]), Took: time.Since(began)})
		})
	}
	return err
}

// asItIs is the snapshot of the segment as it is: that of the swap under way,
// or a new one.
func (s *Service) asItIs(ctx context.Context, c *copying) (*shmbridge.Snapshot, error) {
	if c == nil {
		snap, err := s.takeSnapshot(s.memory)
		return &snap, err
	}
	select {
	case <-c.done:
		return &c.snap, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
