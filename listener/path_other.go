//go:build !linux

package listener

// maxUnixPath is the shortest of the other systems' sun_path without its end mark, in bytes.
const maxUnixPath = 103
