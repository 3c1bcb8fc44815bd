//go:build linux && !race

#include "textflag.h"

// func clone(flags, stack uintptr, pidfd *int32, p *plan) (pid int, errno uintptr)
//
// The child starts on stack, with the registers of its parent, and never comes back from shim.
TEXT ·clone(SB), NOSPLIT, $0-48
	MOVD flags+0(FP), R0
	MOVD stack+8(FP), R1
	MOVD pidfd+16(FP), R2
	MOVD p+24(FP), R19
	MOVD $0, R3
	MOVD $0, R4
	MOVD $220, R8 // clone
	SVC
	CBZ R0, child
	CMN $4095, R0
	BCS failed
	MOVD R0, pid+32(FP)
	MOVD ZR, errno+40(FP)
	RET

failed:
	NEG R0, R0
	MOVD ZR, pid+32(FP)
	MOVD R0, errno+40(FP)
	RET

child:
	SUB $32, RSP
	MOVD R19, 8(RSP)
	BL ·shim(SB)
	BRK
