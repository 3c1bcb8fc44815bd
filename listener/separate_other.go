//go:build !linux

package listener

// separate: all lanes of a claim are one socket.
const separate = false
