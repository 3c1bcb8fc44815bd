// Guest answers every request with the generation and the pid that answered,
// and otherwise behaves as badly as its flags say: one server with many roles
// for the tests of the upgrader.
//
// An address is given per role (-http, -lines, -udp) as
//
//	127.0.0.1:8080 or unix:/path    the guest binds it by itself
//	env                             the next descriptor that -dialect finds in the environment
//	env:NAME                        the one of that name
//
// Every reply carries "gen=N pid=P". The generation is UPGRADER_GENERATION, 0
// without one.
//
// Under the name NFPluginLoader it is another server: it takes the options,
// the signals and the pid file of that one, and keeps a ledger in its segment.
package main
