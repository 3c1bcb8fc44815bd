//go:build linux && !race

#include "textflag.h"

// func clone(flags, stack uintptr, pidfd *int32, p *plan) (pid int, errno uintptr)
//
// The child starts on stack, with the registers of its parent, and never comes back from shim.
TEXT ·clone(SB), NOSPLIT, $0-48
	MOVQ flags+0(FP), DI
	MOVQ stack+8(FP), SI
	MOVQ pidfd+16(FP), DX
	MOVQ p+24(FP), R12
	XORQ R10, R10
	XORQ R8, R8
	MOVL $56, AX // clone
	SYSCALL
	TESTQ AX, AX
	JEQ child
	CMPQ AX, $-4095
	JCC failed
	MOVQ AX, pid+32(FP)
	MOVQ $0, errno+40(FP)
	RET

failed:
	NEGQ AX
	MOVQ $0, pid+32(FP)
	MOVQ AX, errno+40(FP)
	RET

child:
	SUBQ $16, SP
	MOVQ R12, 0(SP)
	CALL ·shim(SB)
	INT $3
