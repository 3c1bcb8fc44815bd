package shmbridge

import "unsafe"

// unsafeBytes returns the memory of words.
func unsafeBytes(words []uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 8*len(words))
}
