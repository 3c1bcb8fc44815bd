//go:build !goroutines

package proxy

import "container/heap"

// alarm is when a session wants to be looked at.
type alarm struct {
	at int64 // ns since 1970
	to ticket
}

// alarms are a heap, the next one first. Those of sessions that have ended stay until their time.
type alarms []alarm

func (a alarms) Len() int           { return len(a) }
func (a alarms) Less(i, j int) bool { return a[i].at < a[j].at }
func (a alarms) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *alarms) Push(x any)        { *a = append(*a, x.(alarm)) }

func (a *alarms) Pop() any {
	last := len(*a) - 1
	x := (*a)[last]
	*a = (*a)[:last]
	return x
}

func (a *alarms) add(x alarm) { heap.Push(a, x) }

// due gives one that is due, if any.
func (a *alarms) due(now int64) (alarm, bool) {
	if len(*a) == 0 || (*a)[0].at > now {
		return alarm{}, false
	}
	return heap.Pop(a).(alarm), true
}
