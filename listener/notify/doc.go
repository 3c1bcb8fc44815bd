// Package notify hears what servers say by sd_notify(3) and keeps what they
// park: a message counts for the process that the kernel names as its sender,
// never for one that it names itself, and no descriptor that came with a
// message stays open unless somebody took it.
//
// message.go reads messages, socket.go receives them in order, one at a time;
// store.go is the file descriptor store. park.go is the other side, for
// servers written in Go.
//
// Linux only: elsewhere the kernel does not tell who sent a datagram, and
// Listen says so.
package notify
