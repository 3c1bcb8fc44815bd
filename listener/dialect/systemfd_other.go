//go:build !windows

package dialect

const protocolInfos = false
