package listener

import "context"

// Freeze leaves the lanes as they are until Thaw: nothing is closed, relayed, put back or listened on anew by the
// set itself. It is for while two upgraders have the same sockets: one that hands them over, and one that is not
// in charge yet, which may add lanes and steer all the same. A set may be frozen before AdoptFiles.
func (s *Set) Freeze() { s.sys.freeze() }

// Thaw ends Freeze, and has the kernel and the file system say again what this set says.
//
// Preconditions: no other upgrader changes the groups, and the lanes that one had made are gone or known here.
func (s *Set) Thaw() error { return s.sys.thaw() }

// Relayed waits until no late client is being relayed: who hands over must not break them off.
func (s *Set) Relayed(ctx context.Context) error { return s.sys.relayed(ctx) }

// Generations are the numbers of the generations that have lanes, ascending.
func (s *Set) Generations() []int { return s.sys.generations() }
