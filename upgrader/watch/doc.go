// Package watch tells once of each new content that a path leads to and that
// can be run: never of one that is still being written, is cut short, or may
// not be executed.
package watch
