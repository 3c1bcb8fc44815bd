package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/upgrader/upgrader/integration/windows/testdata/segment"
	"github.com/upgrader/upgrader/shmbridge"
)

// What releases of this program differ in: the test replaces these texts in
// copies of the executable, which takes less time than to build it again.
var (
	release = strings.TrimRight("first release    ", " ")
	mark    = "upgrader-schema:0;" // of the schema that it writes; this is none
)

// memories are what it counts in.
type memories struct {
	name   string
	attach bool

	segment *segment.Segment // nil: nothing
	lease   *shmbridge.Lease
}

func (m *memories) open() (err error) {
	switch {
	case m.name != "":
		m.segment, err = segment.Open(m.name, true)
	case m.attach:
		err = m.join()
	}
	if err != nil || m.segment == nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "generation", os.Getenv("UPGRADER_GENERATION"), "found", m.segment.Counter(), "foreign", m.segment.Foreign())
	if release == "scribbling one" {
		m.segment.Scribble()
		return errors.New("scribbled")
	}
	m.segment.Begin()
	return nil
}

// join takes the segment by its bridge page.
func (m *memories) join() error {
	schema := uint64(0)
	if numbers, err := shmbridge.MarkOf(mark); err == nil {
		schema = numbers[0]
	}
	bridge, err := shmbridge.Attach()
	if err != nil {
		return err
	}
	if m.segment, err = segment.On(bridge.Bytes()); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "attached", bridge.Found())
	m.lease, err = bridge.Take(context.Background(), schema)
	return err
}

// save is called when nobody is served any more.
func (m *memories) save(counted <-chan struct{}) error {
	if m.segment == nil {
		return nil
	}
	<-counted
	m.segment.Save(os.Getpid())
	if m.lease != nil {
		if err := m.lease.Save(0); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stderr, "generation", os.Getenv("UPGRADER_GENERATION"), "left", m.segment.Counter())
	return nil
}
