package launch

import (
	"reflect"
	"testing"
)

func TestOrderThereAndBack(t *testing.T) {
	uid, umask := uint32(1<<32-1), -1
	for _, want := range []wireOrder{
		{},
		{Args: []string{}, Ignore: []int{}},
		{
			Path: "/a \xff", Dir: "d", Cgroup: "c", Args: []string{"", "x", ""}, Env: []string{"A=1"}, Numbers: []int{0, 3, 1 << 20},
			Held: true, Terminal: true, PidVariables: []string{"P"}, PidfdVariables: []string{"Q"}, Uid: &uid, Groups: []uint32{1, 2},
			Umask: &umask, OwnGroup: true, DieWithParent: true, Parent: 77, FilterFlags: 2, Ignore: []int{1},
			Filter: []Instruction{{Code: 0xfffe, Jt: 0xfd, Jf: 0xfc, K: 0xfffffffb}, {Code: 6}},
		},
	} {
		b := encode(want.walk)
		var got wireOrder
		if err := decode(b, got.walk); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
		for n := range b { // cut short, at any place
			if err := decode(b[:n], new(wireOrder).walk); err == nil {
				t.Errorf("%d of %d bytes were taken for an order", n, len(b))
			}
		}
		if err := decode(append(b, 0), new(wireOrder).walk); err == nil {
			t.Error("a byte too much was taken")
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(encode((&wireOrder{Path: "x", Args: []string{"y"}}).walk))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = decode(b, new(wireOrder).walk) // no panic, no memory beyond the message's own order
		_ = decode(b, new(wireError).walk)
	})
}
