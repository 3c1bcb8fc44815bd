package intercept

import (
	"fmt"

	"github.com/upgrader/upgrader/listener"
)

// ForSet answers the guests of generation gen with the lanes of set. So that
// bind, close, bind gives the lane again, the set's Config.Held must tell
// what the generation's processes hold.
func ForSet(set *listener.Set, gen int) Handler { return setHandler{set, gen} }

type setHandler struct {
	set *listener.Set
	gen int
}

func (h setHandler) Bind(r Request) (Injection, error) {
	lane, err := h.set.Bind(h.gen, r.Socket)
	if err != nil {
		return Injection{}, err
	}
	file, err := lane.Dup()
	if err != nil {
		return Injection{}, fmt.Errorf("intercept: duplicate lane: %w", err)
	}
	return Injection{File: file}, nil
}

func (h setHandler) Listen(r Request) error {
	lane := h.lane(r.Inode)
	if lane == nil || lane.Claim().Datagrams() { // the kernel knows the error
		return ErrPass
	}
	return h.set.Listen(lane)
}

func (h setHandler) Owns(inode uint64) bool { return h.lane(inode) != nil }

func (h setHandler) lane(inode uint64) *listener.Lane {
	for _, l := range h.set.Lanes(h.gen) {
		if l.Inode() == inode {
			return l
		}
	}
	return nil
}
