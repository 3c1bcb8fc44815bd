package intercept

import "sync"

// learned options of sockets that cannot be looked at, by inode.
type learned struct {
	mu    sync.Mutex
	by    map[uint64]setting
	order []uint64 // oldest first
}

// setting is -1 for what was never set, else 0 or 1.
type setting struct{ v6Only, reusePort int }

// learnedMax bounds the memory that a guest can make us use: most sockets
// with these options are connections, of which nothing will ever be asked.
const learnedMax = 4096

func (l *learned) get(inode uint64) setting {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.by[inode]; ok {
		return s
	}
	return setting{-1, -1}
}

func (l *learned) set(inode uint64, change func(*setting)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.by[inode]
	if !ok {
		s = setting{-1, -1}
		if l.by == nil {
			l.by = make(map[uint64]setting)
		}
		if len(l.order) == learnedMax {
			delete(l.by, l.order[0])
			l.order = append(l.order[:0], l.order[1:]...)
		}
		l.order = append(l.order, inode)
	}
	change(&s)
	l.by[inode] = s
}
