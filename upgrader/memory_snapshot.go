package upgrader

import (
	"context"
	"fmt"
	"time"

	"github.com/upgrader/upgrader/shmbridge"
	"github.com/upgrader/upgrader/upgrader/control"
)

// snapshotsByTheClock takes one each interval, while no swap is under way.
func (s *Service) snapshotsByTheClock() {
	tick := time.NewTicker(s.config.Memory.BackupInterval)
	defer tick.Stop()
	failed := false
	for {
		select {
		case <-tick.C:
		case <-s.run.Done():
			return
		}
		m, err := s.atRest(s.run)
		if err != nil {
			continue // a swap takes its own
		}
		_, err = s.takeSnapshot(m)
		if err != nil && !failed && s.run.Err() == nil {
			s.tell(func() { s.note(nil, "the snapshot could not be taken", err) })
		}
		failed = err != nil
	}
}

// atRest gives the memory, with an error while a swap could need the snapshot
// it took.
func (s *Service) atRest(ctx context.Context) (*memory, error) {
	var busy error
	m, err := s.shared(ctx)
	if err != nil {
		return nil, err
	}
	err = s.ask(ctx, func() {
		if s.state != Serving && s.state != Down || s.memory.owed != nil {
			busy = &control.Error{Code: control.CodeBusy, Message: "a swap is under way, or on probation: it takes its own snapshot"}
		}
	})
	return m, firstError(err, busy)
}

// shared gives the memory, for those who do not run in the loop.
func (s *Service) shared(ctx context.Context) (m *memory, err error) {
	err = s.ask(ctx, func() { m = s.memory })
	if err != nil || m != nil {
		return m, err
	}
	why := "no segment is shared: there is no --shm"
	if s.config.Memory != nil {
		why = "there is no segment yet: the server has not made " + s.config.Memory.Spec.Identity()
	}
	return nil, &control.Error{Code: control.CodeUnsupported, Message: why}
}

// takeSnapshot takes one of the segment as it is. Its state tells whether
// somebody wrote meanwhile.
func (s *Service) takeSnapshot(m *memory) (shmbridge.Snapshot, error) {
	ctx := s.run
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return shmbridge.Snapshot{}, ctx.Err()
	}
	began := time.Now()
	if err := m.segment.Check(); err != nil {
		return shmbridge.Snapshot{}, err
	}
	t, err := m.store.Begin(m.segment)
	if err != nil {
		return shmbridge.Snapshot{}, err
	}
	defer t.Abort()
	if err := t.First(ctx); err != nil {
		return shmbridge.Snapshot{}, err
	}
	if err := t.Second(ctx); err != nil {
		return shmbridge.Snapshot{}, err
	}
	snap, err := t.Commit()
	if snap.Path == "" {
		return snap, err
	}
	s.tell(func() {
		s.observe(Event{What: EventSnapshot, Message: snap.Path + ", " + snap.State.String(), Took: time.Since(began), Err: err, Warning: err != nil})
	})
	return snap, nil
}

// snapshot does what `upgrader snapshot` asks.
func (s *Service) snapshot(ctx context.Context, r control.Request) (control.Answer, error) {
	m, err := s.shared(ctx)
	if err != nil {
		return control.Answer{}, err
	}
	switch r.Args.Snapshot {
	case control.SnapshotCreate:
		if m, err = s.atRest(ctx); err != nil {
			return control.Answer{}, err
		}
		snap, err := s.takeSnapshot(m)
		if err != nil {
			return control.Answer{}, err
		}
		return control.Answer{Snapshots: []control.Snapshot{told(snap)}}, nil
	case control.SnapshotList:
		list, err := m.store.List(m.segment.Spec())
		if err != nil {
			return control.Answer{}, err
		}
		a := control.Answer{Snapshots: []control.Snapshot{}}
		for _, snap := range list {
			a.Snapshots = append(a.Snapshots, told(snap))
		}
		return a, nil
	case control.SnapshotRestore:
		return s.restoreSnapshot(ctx, m, r)
	default:
		return control.Answer{}, &control.Error{Code: control.CodeBadRequest, Message: fmt.Sprintf("snapshot: %.64q is not create, list or restore", r.Args.Snapshot)}
	}
}

// restoreSnapshot swaps to the same command on the bytes of a snapshot.
func (s *Service) restoreSnapshot(ctx context.Context, m *memory, r control.Request) (control.Answer, error) {
	list, err := m.store.List(m.segment.Spec())
	if err != nil {
		return control.Answer{}, err
	}
	var snap *shmbridge.Snapshot
	for i := range list {
		if list[i].Number == r.Args.Number {
			snap = &list[i]
		}
	}
	switch {
	case snap == nil:
		return control.Answer{}, &control.Error{Code: control.CodeFailed, Message: fmt.Sprintf("there is no snapshot %d in %s", r.Args.Number, m.BackupDir)}
	case snap.Err != nil:
		return control.Answer{}, snap.Err
	}
	reply := make(chan control.Verdict, 1)
	var refused error
	err = s.ask(ctx, func() {
		switch {
		case s.state.ending():
			refused = errStopping
		case s.state.busy():
			refused = &control.Error{Code: control.CodeBusy, Message: "a swap is under way"}
		default:
			s.beginSwap(&swap{asked: r.Asked, restore: snap, callers: []chan<- control.Verdict{reply}})
		}
	})
	if err := firstError(err, refused); err != nil {
		return control.Answer{}, err
	}
	select {
	case v := <-reply:
		return control.Answer{Verdict: &v}, nil
	case <-ctx.Done():
		return control.Answer{}, ctx.Err()
	case <-s.run.Done():
		return control.Answer{}, errStopping
	}
}

// told is a snapshot for the control socket.
func told(snap shmbridge.Snapshot) control.Snapshot {
	t := control.Snapshot{
		Number: snap.Number, Path: snap.Path, Segment: snap.Identity, Size: snap.Size, Time: snap.Time,
		State: snap.State.String(), Generation: int(snap.Generation), Schema: snap.Schema, Saves: snap.Saves,
	}
	if snap.Err != nil {
		t.Error = snap.Err.Error()
	}
	return t
}
