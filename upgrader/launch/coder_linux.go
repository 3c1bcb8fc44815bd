package launch

import (
	"encoding/binary"
	"errors"
)

// coder writes or reads fields one after the other, so that one walk over a structure serves both directions. It
// stands in for a general encoding because a shim should touch few pages of the program before it is gone: half
// of what JSON costs there is reading its code from the page cache. Strings are bytes: they need not be UTF-8.
type coder struct {
	reading bool
	b       []byte // what was written, or is still to be read
	err     error
}

var errShort = errors.New("message cut short")

func (c *coder) uint(n *uint64) {
	if !c.reading {
		c.b = binary.AppendUvarint(c.b, *n)
		return
	}
	value, size := binary.Uvarint(c.b)
	if size <= 0 {
		c.b, c.err = nil, errShort
		*n = 0
		return
	}
	*n, c.b = value, c.b[size:]
}

func (c *coder) int(n *int) {
	u := uint64(*n)
	c.uint(&u)
	*n = int(u)
}

func (c *coder) uint32(n *uint32) {
	u := uint64(*n)
	c.uint(&u)
	*n = uint32(u)
}

func (c *coder) bool(v *bool) {
	var u uint64
	if *v {
		u = 1
	}
	c.uint(&u)
	*v = u != 0
}

func (c *coder) string(s *string) {
	n := len(*s)
	c.int(&n)
	switch {
	case !c.reading:
		c.b = append(c.b, *s...)
	case n < 0 || n > len(c.b):
		c.b, c.err = nil, errShort
		*s = ""
	default:
		*s, c.b = string(c.b[:n]), c.b[n:]
	}
}

// list codes a slice: nil and empty are told apart.
func list[T any](c *coder, s *[]T, item func(*T)) {
	n := len(*s) + 1
	if *s == nil {
		n = 0
	}
	c.int(&n)
	if c.reading {
		*s = nil
		if n == 0 || n < 0 || n-1 > len(c.b) { // an item takes a byte at least
			if n != 0 {
				c.b, c.err = nil, errShort
			}
			return
		}
		*s = make([]T, n-1)
	}
	for i := range *s {
		item(&(*s)[i])
	}
}

// optional codes a pointer that may be nil.
func optional[T any](c *coder, p **T, item func(*T)) {
	set := *p != nil
	c.bool(&set)
	if c.reading {
		*p = nil
		if set {
			*p = new(T)
		}
	}
	if *p != nil {
		item(*p)
	}
}

// wireOrder is an Order without its descriptors.
type wireOrder struct {
	Path, Dir, Cgroup            string
	Args, Env                    []string
	Numbers                      []int // of the first descriptors; then the held file and the terminal, if any
	Held, Terminal               bool
	PidVariables, PidfdVariables []string
	Uid, Gid                     *uint32
	Groups                       []uint32
	Umask                        *int
	OwnGroup, DieWithParent      bool
	Parent                       int
	Filter                       []Instruction
	FilterFlags                  int
	Ignore                       []int // nil is not the same as empty
}

func (o *wireOrder) walk(c *coder) {
	for _, s := range []*string{&o.Path, &o.Dir, &o.Cgroup} {
		c.string(s)
	}
	for _, l := range []*[]string{&o.Args, &o.Env, &o.PidVariables, &o.PidfdVariables} {
		list(c, l, c.string)
	}
	for _, b := range []*bool{&o.Held, &o.Terminal, &o.OwnGroup, &o.DieWithParent} {
		c.bool(b)
	}
	for _, n := range []*int{&o.Parent, &o.FilterFlags} {
		c.int(n)
	}
	for _, l := range []*[]int{&o.Numbers, &o.Ignore} {
		list(c, l, c.int)
	}
	for _, p := range []**uint32{&o.Uid, &o.Gid} {
		optional(c, p, c.uint32)
	}
	list(c, &o.Groups, c.uint32)
	optional(c, &o.Umask, c.int)
	list(c, &o.Filter, func(i *Instruction) {
		u := uint64(i.Code)<<16 | uint64(i.Jt)<<8 | uint64(i.Jf)
		c.uint(&u)
		i.Code, i.Jt, i.Jf = uint16(u>>16), uint8(u>>8), uint8(u)
		c.uint32(&i.K)
	})
}

// wireError is a failed step.
type wireError struct {
	Step, Path string
	Errno      int // 0: Text says it all
	Text       string
}

func (w *wireError) walk(c *coder) {
	for _, s := range []*string{&w.Step, &w.Path, &w.Text} {
		c.string(s)
	}
	c.int(&w.Errno)
}

func encode(walk func(*coder)) []byte {
	var c coder
	walk(&c)
	return c.b
}

// decode wants exactly what encode gave.
func decode(b []byte, walk func(*coder)) error {
	c := coder{reading: true, b: b}
	walk(&c)
	if c.err == nil && len(c.b) > 0 {
		return errors.New("message too long")
	}
	return c.err
}
