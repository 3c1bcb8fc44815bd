// Package intercept answers every bind(2) of a TCP or UDP address by an unmodified server either with a
// lane in the place of the server's own socket, or as the kernel would have answered it.
//
// A filter ([Filter]) that the launch shim installs before it executes the server makes the kernel
// stop the server's threads in bind(2) and listen(2) and ask for an answer on a notify descriptor
// (seccomp user notification, seccomp_unotify(2); Linux 5.9 for the injection of descriptors). All processes
// and threads that descend from the shim share the filter and the descriptor: there is one
// [Server] per generation.
//
// # What is taken over
//
// A bind of an AF_INET or AF_INET6 socket of TCP, Multipath TCP or UDP to a port other than 0, in our
// own network namespace. [Handler.Bind] gives the lane, which is put over the guest's descriptor number (and
// over every other number of its table that has the same socket), with the options, O_NONBLOCK and O_CLOEXEC
// that the guest's socket had and with its registrations in epoll sets. A listen(2) on a lane is answered by
// [Handler.Listen], so that the kernel never makes its queue shorter.
//
// # What is left to the kernel
//
//   - Port 0, multicast addresses, every other family (AF_UNIX, AF_NETLINK, AF_PACKET, …), SCTP, raw sockets.
//   - A socket that is bound to an interface (SO_BINDTODEVICE) or has a socket filter of its own.
//   - A socket of another network namespace; a task that is not visible in our pid namespace.
//   - Programs of a foreign architecture (i386, x32, arm); io_uring's bind and listen, which seccomp never sees.
//   - Whatever could not be found out: the guest then binds as if nobody were there.
//
// # Limits
//
//   - A client that binds a fixed source port before connect(2) looks like a server and gets a lane. It works,
//     but its connection ends only when the lane does. Port 0 (and IP_BIND_ADDRESS_NO_PORT with it) is not affected.
//     A connected UDP socket stays with its generation.
//   - Multicast memberships and TCP-MD5 keys that were set before bind are lost: nothing tells them.
//   - A socket that another process got by fork before its bind keeps the unbound one there.
//   - Where pidfd_getfd(2) is forbidden (most containers), options other than IPV6_V6ONLY and SO_REUSEPORT that were
//     set before bind are lost. O_NONBLOCK and O_CLOEXEC are not. Epoll sets are made by us there, so that registrations
//     from before bind can be moved to the lane; one that cannot be moved refuses the bind.
//   - A guest that itself wants a seccomp listener gets EBUSY (one per chain of filters).
//   - While nobody holds the notify descriptor, notified calls fail with ENOSYS: hand it on.
package intercept
