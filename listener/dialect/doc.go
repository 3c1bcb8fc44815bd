// Package dialect says what a guest finds in its environment about the sockets
// that it was given: the variables of every dialect name exactly the
// descriptors that are passed to it, in the order of its claims, and nothing
// that an earlier life or a supervisor above us left there reaches it.
//
// Each dialect is a type in a file of its own and a line in known. Two values
// are not known when the environment is made, the pid of the guest and the
// inode of its pidfd: they are marked, and the launch shim sets them
// between fork and exec.
package dialect
