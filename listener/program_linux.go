package listener

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// program returns the instructions that choose evenly among the members of a group at the given indices
// (one at least). The kernel takes the value that is returned as an index.
func program(members []int) []bpf.Instruction {
	k := len(members)
	if k == 1 {
		return []bpf.Instruction{bpf.RetConstant{Val: uint32(members[0])}}
	}
	insns := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtRand},
		bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: uint32(k)},
	}
	for i, m := range members {
		if i == k-1 { // what is left
			insns = append(insns, bpf.RetConstant{Val: uint32(m)})
			break
		}
		insns = append(insns,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(i), SkipFalse: 1},
			bpf.RetConstant{Val: uint32(m)})
	}
	return insns
}

// either returns the instructions that run share for percent of 100 by chance, and rest for the others.
func either(percent int, share, rest []bpf.Instruction) []bpf.Instruction {
	insns := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtRand},
		bpf.ALUOpConstant{Op: bpf.ALUOpMod, Val: 100},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: uint32(percent), SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(share))}, // a conditional one reaches 255 at most
	}
	return append(append(insns, share...), rest...)
}

// programLocked is what the group of c has to say: who is steered to, and where a probe goes that is under way.
func (c *claimSystem) programLocked() []bpf.Instruction {
	to := indices(c.members)
	if i := slices.Index(c.members, c.fold); c.fold != nil && i >= 0 {
		to = []int{i}
	}
	if len(to) == 0 {
		return nil
	}
	insns := program(to)
	if share := c.sharedLocked(); len(share) > 0 && c.fold == nil {
		insns = either(c.percent, program(share), insns)
	}
	if c.route != nil {
		if i := slices.Index(c.members, c.route.lane); i >= 0 {
			insns = append(c.route.instructions(i), insns...)
		}
	}
	return insns
}

// attach makes the group that fd is a member of choose by the given program, which belongs to the group: it stays
// when fd leaves.
func attach(fd int, insns []bpf.Instruction) error {
	raw, err := bpf.Assemble(insns)
	if err != nil {
		return fmt.Errorf("listener: steering program: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err != nil {
		return fmt.Errorf("listener: attach steering program: %w", os.NewSyscallError("setsockopt", err))
	}
	return nil
}
