// Package ready proves that a server is ready: a probe returns nil only after
// the thing that it asks for was seen, and otherwise an error by the end of
// its context, never later.
//
// spec.go reads what a user asks for. Three kinds are not asked but told
// (auto, notify, listen): whoever hears READY=1 or sees a listen(2) decides
// about those, and Run refuses them. The others are each one try (accept.go,
// tcp.go, http.go, exec.go) that poll.go repeats.
package ready
