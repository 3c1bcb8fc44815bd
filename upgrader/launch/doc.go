// A command is started with exactly what its order says, or the caller is told by name which step failed.
//
// What must be set inside the new process (its pid in the environment, descriptor numbers, a seccomp filter, group,
// terminal, user) is set by the shim: a fork of this process that has not executed anything yet. It runs no second
// program and no second runtime, which would cost a start several milliseconds: between fork and exec there are
// only system calls, with arguments that were laid out before the fork.
//
// Facts that shaped it:
//
//   - The shim shares our memory, on a stack of its own, as in vfork(2); on machines other than x86-64 and arm64 it
//     has a copy, and under the race detector. Either way nothing there may allocate, grow its stack, wait for a lock or run a signal handler: its
//     code is nosplit, all signals are blocked on its thread before the fork, and whatever it needs lies in a plan.
//   - A fork holds every descriptor of its parent: a socket that the parent closes in that moment stays open. So
//     syscall.ForkLock is held until the shim has closed what is not its command's.
//   - Passed descriptors are duplicated by SyscallConn, never reached by File.Fd, which would clear
//     O_NONBLOCK on the description that the passing process shares with everybody else.
//   - The thread that forked a child waits for it too, and lives as long as the child does: the parent death
//     signal (PR_SET_PDEATHSIG) is sent when the forking *thread* ends, not only when the process does.
package launch
