// Package control lets people and programs talk to a running upgrader: a client
// that is slow, hostile or gone never delays the service, and every swap that
// was asked for is answered with its one verdict.
//
// # The socket
//
// In the state dir lies control.sock, a unix stream socket of mode 0600. Only
// processes of the same user, and root, are answered (SO_PEERCRED). A connection
// carries one request, one line of JSON:
//
//	{"v":1,"do":"restart","args":{"wait_probation":true}}
//
// and the answer to it, lines of JSON, the last of which says "done":true:
//
//	{"v":1,"done":true,"verdict":{"swap":3,"verdict":"committed",...}}
//	{"v":1,"done":true,"error":{"code":"bad-request","message":"..."}}
//
// Empty lines between them only show that the upgrader lives. A request has
// 64 KiB and 5 s; 64 connections are served at a time, the next is told to
// come again ("busy"). Unknown fields of a request are refused rather than
// passed over: an option that is not understood would be an option that is
// silently not followed. Unknown fields of an answer are to be passed over.
//
// A path that is longer than the 107 bytes of a sockaddr_un is bound and
// connected to as /proc/self/fd/N/control.sock, N being the state dir: no
// process has to change its directory.
//
// # The schema
//
// Status, Verdict, Event and what they contain are what `status --json`,
// `events --json` and the HTTP API print. Fields are only ever added; one that
// changes its meaning raises StatusVersion. Times are RFC 3339; durations are
// integers in nanoseconds, and their names end in _ns.
package control
