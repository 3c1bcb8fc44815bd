//go:build !goroutines

package proxy

import "container/heap"

// alarms are a heap of the sessions that want to be looked at, the next one first.
type alarms []*session

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].alarm < a[j].alarm }

func (a alarms) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].place, a[j].place = int32(i), int32(j)
}

func (a *alarms) Push(x any) {
	s := x.(*session)
	s.place = int32(len(*a))
	*a = append(*a, s)
}

func (a *alarms) Pop() any {
	last := len(*a) - 1
	s := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	return s
}

// set has s looked at at a time, in ns since 1970, and not before.
func (a *alarms) set(s *session, at int64) {
	before := s.alarm
	if s.alarm = at; before == 0 {
		heap.Push(a, s)
		return
	}
	heap.Fix(a, int(s.place))
}

// clear the alarm of s, if it has one.
func (a *alarms) clear(s *session) {
	if s.alarm != 0 {
		heap.Remove(a, int(s.place))
		s.alarm = 0
	}
}

// due gives a session whose time has come, without an alarm; nil: there is none.
func (a *alarms) due(now int64) *session {
	if len(*a) == 0 || (*a)[0].alarm > now {
		return nil
	}
	s := (*a)[0]
	a.clear(s)
	return s
}
