// Package integration drives built binaries from outside: what a user cannot
// see, no test here looks at. It knows the command line, exit statuses,
// `status --json` and what clients get.
//
// As root the tests run in a network namespace of their own, so that ports are
// free and two runs do not meet. What a test needs and does not find (root, a
// tool, a kernel feature) makes it skip and say so.
//
//	go test ./integration -run TestGoServer -v     one scenario
//	go test ./integration -short                   every scenario, small
//
// Environment: INTEGRATION_SWAPS and INTEGRATION_REQUESTS scale the load tests,
// INTEGRATION_RACE=1 puts the race detector into the binaries,
// INTEGRATION_BIN=DIR uses the binaries that lie there, INTEGRATION_KEEP=1
// keeps the folders of failed tests.
package integration
