package listener

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/windows"
)

// GetExtendedTcpTable: sockets that listen, with the process that made each (iphlpapi.h).
const tableOwnerPidListener = 3

// Rows of MIB_TCPTABLE_OWNER_PID and MIB_TCP6TABLE_OWNER_PID, behind a number of them in 4 bytes.
const (
	row4Len, row4Addr, row4Port, row4Pid = 24, 4, 8, 20
	row6Len, row6Addr, row6Port, row6Pid = 56, 0, 20, 52
)

func allListening() ([]Listening, error) {
	get := windows.NewLazySystemDLL("iphlpapi.dll").NewProc("GetExtendedTcpTable")
	four, err := tcpTable(get, windows.AF_INET)
	if err != nil {
		return nil, err
	}
	six, err := tcpTable(get, windows.AF_INET6)
	if err != nil {
		return nil, err
	}
	var all []Listening
	for row := range rows(four, row4Len) {
		addr := netip.AddrFrom4([4]byte(row[row4Addr:]))
		all = append(all, listening(addr, row[row4Port:], row[row4Pid:]))
	}
	for row := range rows(six, row6Len) {
		addr := netip.AddrFrom16([16]byte(row[row6Addr:]))
		all = append(all, listening(addr, row[row6Port:], row[row6Pid:]))
	}
	return all, nil
}

// tcpTable gives the table of one family.
func tcpTable(get *windows.LazyProc, family uintptr) ([]byte, error) {
	size := uint32(4 << 10)
	for {
		table := make([]byte, size)
		r, _, _ := get.Call(uintptr(unsafe.Pointer(&table[0])), uintptr(unsafe.Pointer(&size)), 0, family, tableOwnerPidListener, 0)
		switch err := windows.Errno(r); {
		case r == 0:
			return table, nil
		case errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER):
			size += 1 << 10 // some may come meanwhile
		default:
			return nil, fmt.Errorf("listener: list who listens: GetExtendedTcpTable: %w", err)
		}
	}
}

// rows gives each row of a table.
func rows(table []byte, length int) func(yield func([]byte) bool) {
	return func(yield func([]byte) bool) {
		n := binary.LittleEndian.Uint32(table)
		table = table[4:]
		for ; n > 0 && len(table) >= length; n-- {
			if !yield(table[:length]) {
				return
			}
			table = table[length:]
		}
	}
}

// listening reads the port, which is in the order of the network, and the process.
func listening(addr netip.Addr, port, pid []byte) Listening {
	return Listening{Addr: netip.AddrPortFrom(addr, binary.BigEndian.Uint16(port)), Pid: int(binary.LittleEndian.Uint32(pid))}
}
