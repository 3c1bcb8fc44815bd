// Flip is an HTTP server that uses the tableflip library as that library's
// documentation shows it, and that knows nothing of us: the address that it
// serves on is its argument.
package main
