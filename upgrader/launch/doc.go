// A command is started with exactly what its order says, or the caller is told by name which step failed.
//
// The launcher forks itself (the shim), which waits for its order on a socket pair and then becomes the
// command by execve(2): what must be set inside the new process (its pid in the environment, descriptor
// numbers, a seccomp filter, group, terminal, user) is set there, after the fork and before the exec.
//
// Facts that shaped it:
//
//   - The shim's thread takes a descriptor table of its own before it places descriptors at target numbers;
//     otherwise it would overwrite the descriptors of the Go runtime's poller while other threads use them.
//   - Passed descriptors are duplicated by SyscallConn, never reached by File.Fd, which would clear
//     O_NONBLOCK on the description that the passing process shares with everybody else.
//   - The thread that forked a child waits for it too, and lives as long as the child does: the parent death
//     signal (PR_SET_PDEATHSIG) is sent when the forking *thread* ends, not only when the process does.
package launch
