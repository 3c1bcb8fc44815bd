// Survey swaps unmodified servers under load and counts what their clients
// see: every request is accounted for, nothing is retried, and a row that goes
// wrong is a row that says so. It makes docs/servers.md.
//
//	go run ./integration/survey                       every server, every way, into docs/servers.md
//	go run ./integration/survey -only nginx -out -    some of them, to stdout
//
// Each row runs in network, process and mount namespaces of its own, so that
// ports never meet and no process is left behind; that takes root. Rows in
// containers have an engine of the survey's own.
//
// A server is measured with two loads at a time: clients that make a
// connection for each request, and clients that keep theirs. Both ask by the
// clock, whether or not they were answered.
package main
