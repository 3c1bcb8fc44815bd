package proxy

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/pires/go-proxyproto"
)

// maxIdentity is the longest unique id (PROXY protocol, 2.2.5).
const maxIdentity = 128

// tlvGeneration is of the types that are left to applications (PROXY protocol, 2.2.8): the number of the
// generation that the header is for, generationSize bytes, the most significant one first.
const (
	tlvGeneration  = proxyproto.PP2_TYPE_MIN_CUSTOM + 7
	generationSize = 4
)

// origin is where a client comes from, as the server is told.
type origin struct {
	source, destination net.Addr
	tlvs                []proxyproto.TLV // the unique id is among them
}

// format gives the bytes of a PROXY v2 header: the same for one client at each generation, once they are stamped.
func (o origin) format() ([]byte, error) {
	h := proxyproto.HeaderProxyFromAddrs(2, o.source, o.destination)
	generation := proxyproto.TLV{Type: tlvGeneration, Value: make([]byte, generationSize)}
	if err := h.SetTLVs(append(slices.Clip(o.tlvs), generation)); err != nil {
		return nil, fmt.Errorf("proxy: header out: %w", err)
	}
	b, err := h.Format()
	if err != nil {
		return nil, fmt.Errorf("proxy: header out: %w", err)
	}
	return b, nil
}

// stamp a header that format gave with the generation that it is sent to.
func stamp(header []byte, generation int) {
	binary.BigEndian.PutUint32(header[len(header)-generationSize:], uint32(generation))
}

// ends of a connection.
type ends interface {
	RemoteAddr() net.Addr
	LocalAddr() net.Addr
}

// newOrigin takes what a header said; nil: there was none.
func newOrigin(c ends, h *proxyproto.Header) (origin, error) {
	o := origin{source: c.RemoteAddr(), destination: c.LocalAddr()}
	identified := false
	if h != nil {
		if !h.Command.IsLocal() && h.SourceAddr != nil && h.DestinationAddr != nil {
			o.source, o.destination = h.SourceAddr, h.DestinationAddr
		}
		given, err := h.TLVs()
		if err != nil {
			return o, fmt.Errorf("proxy: header in: %w", err)
		}
		for _, t := range given {
			switch t.Type {
			case proxyproto.PP2_TYPE_CRC32C, proxyproto.PP2_TYPE_NOOP, tlvGeneration: // of that header, not of ours
				continue
			case proxyproto.PP2_TYPE_UNIQUE_ID:
				if len(t.Value) > maxIdentity || identified {
					return o, errors.New("proxy: header in: the unique id is too long, or there twice")
				}
				identified = true
			}
			o.tlvs = append(o.tlvs, t)
		}
	}
	if !identified {
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails: crypto/rand
		o.tlvs = append(o.tlvs, proxyproto.TLV{Type: proxyproto.PP2_TYPE_UNIQUE_ID, Value: []byte(hex.EncodeToString(id[:]))})
	}
	return o, nil
}

func parseHeader(r *bufio.Reader) (*proxyproto.Header, error) {
	h, err := proxyproto.Read(r)
	if err != nil {
		return nil, err
	}
	if !h.Command.IsLocal() && h.TransportProtocol != proxyproto.UNSPEC && !h.TransportProtocol.IsStream() {
		return nil, errors.New("it is about datagrams")
	}
	return h, nil
}

func (in HeaderIn) trusts(a net.Addr) bool {
	if in.Trusted == nil {
		return true
	}
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return true // a Unix socket's permissions say who
	}
	ip := t.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range in.Trusted {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}
