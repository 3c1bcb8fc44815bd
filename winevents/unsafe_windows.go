package winevents

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

const sizeofSecurityAttributes = unsafe.Sizeof(windows.SecurityAttributes{})
