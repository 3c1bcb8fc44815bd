// Package load asks a server again and again and accounts for every single
// request: what was asked is the sum of the outcomes, nothing is retried in
// silence.
//
// A request fails by itself: the next one follows at once. What a real client
// would not notice is counted apart: connections that the server had closed
// while they were idle (Stale), datagrams that had to be sent again (Resent).
package load
