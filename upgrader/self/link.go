package self

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Bounds of what goes over the link.
const (
	frameMax  = 64 << 20 // bytes of a frame
	filesOnce = 100      // descriptors in one message; the kernel takes 253 (SCM_MAX_FD)
	filesMax  = 1 << 16
	// parcelTime is how long a parcel may take: nothing of what is in it moves
	// meanwhile.
	parcelTime = 5 * time.Second
)

// File is a descriptor under a name.
type File struct {
	Name string
	File *os.File
}

// Bundle is what a new upgrader is handed.
type Bundle struct {
	State json.RawMessage // what there is to know
	Files []File          // lent
}

// frame is one message of the link.
type frame struct {
	What    string          `json:"what"`
	Version int             `json:"version,omitempty"` // of what is said over the link, in bundle and ready
	State   json.RawMessage `json:"state,omitempty"`
	Names   []string        `json:"names,omitempty"`   // of the descriptors that follow
	Sockets int             `json:"sockets,omitempty"` // that follow a parcel
	Of      string          `json:"of,omitempty"`      // whose share it is; "": there are no shares
	Pid     int             `json:"pid,omitempty"`
	Why     string          `json:"why,omitempty"`
}

// The frames: bundle, parcel, go and yours go to the new upgrader, ready and
// taken (a parcel) come from it, and failed comes from either.
const (
	frameBundle = "bundle"
	frameReady  = "ready"
	frameParcel = "parcel"
	frameTaken  = "taken"
	frameGo     = "go"
	frameFailed = "failed"
	frameYours  = "yours"
)

// linkVersion is what both have to say for parcels to be sent: who says 0
// knows of none, and takes over without having been told to go.
const linkVersion = 1

// Parcel is a part of what the old upgrader works with until the very end: it
// is sent once the new one is ready, while neither works with it.
type Parcel struct {
	State   json.RawMessage
	Sockets []int // sent: lent; received: the receiver's. At most SocketsMost
}

// SocketsMost is how many a parcel has at most.
const SocketsMost = 250 // the kernel takes 253 (SCM_MAX_FD)

// link is one end of the socket between two upgraders.
type link struct{ conn *net.UnixConn }

// newLink takes f.
func newLink(f *os.File) (*link, error) {
	defer f.Close() // it was duplicated
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close() // it was not used
		return nil, fmt.Errorf("the link is no unix socket but %s", c.LocalAddr().Network())
	}
	return &link{conn}, nil
}

func (l *link) close() { _ = l.conn.Close() } // whoever is at the other end reads what was written

// send writes a frame, its length (32 bits, big endian) in front.
func (l *link) send(f frame) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if len(body) > frameMax {
		return fmt.Errorf("a frame of %d bytes", len(body))
	}
	_, err = l.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// sendBundle sends the state, and the descriptors behind it.
func (l *link) sendBundle(b Bundle) error {
	f := frame{What: frameBundle, Version: linkVersion, State: b.State}
	for _, one := range b.Files {
		f.Names = append(f.Names, one.Name)
	}
	if err := l.send(f); err != nil {
		return err
	}
	for rest := b.Files; len(rest) > 0; {
		n := min(len(rest), filesOnce)
		if err := sendFiles(l.conn, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// receive reads a frame.
func (l *link) receive() (frame, error) {
	var f frame
	var head [4]byte
	if _, err := io.ReadFull(l.conn, head[:]); err != nil {
		return f, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > frameMax {
		return f, fmt.Errorf("a frame of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(l.conn, body); err != nil {
		return f, err
	}
	if err := json.Unmarshal(body, &f); err != nil {
		return f, fmt.Errorf("a frame that is not understood: %w", err)
	}
	return f, nil
}

// sendParcel sends one, and waits until it was taken.
func (l *link) sendParcel(of string, p Parcel) error {
	_ = l.conn.SetDeadline(time.Now().Add(parcelTime)) // fails as the next use then does
	err := l.send(frame{What: frameParcel, State: p.State, Sockets: len(p.Sockets), Of: of})
	if err == nil && len(p.Sockets) > 0 {
		err = sendSockets(l.conn, p.Sockets)
	}
	if err != nil {
		return err
	}
	f, err := l.receive()
	_ = l.conn.SetDeadline(time.Time{}) // as above
	switch {
	case err != nil:
		return err
	case f.What == frameFailed:
		return fmt.Errorf("the new upgrader gave up: %s", f.Why)
	case f.What != frameTaken:
		return fmt.Errorf("%q came instead of an answer to a parcel", f.What)
	}
	return nil
}

// receiveParcel reads the sockets of one, has it taken, and says so.
func (l *link) receiveParcel(f frame, take func(of string, p Parcel) error) error {
	p := Parcel{State: f.State}
	if f.Sockets > 0 {
		var err error
		if p.Sockets, err = receiveSockets(l.conn); err != nil {
			return err
		}
	}
	if len(p.Sockets) != f.Sockets {
		closeSockets(p.Sockets)
		return fmt.Errorf("a parcel of %d sockets came with %d", f.Sockets, len(p.Sockets))
	}
	if err := take(f.Of, p); err != nil {
		return err
	}
	return l.send(frame{What: frameTaken})
}

// receiveBundle reads the state and the descriptors, and which version of the
// link the sender knows. The caller closes them.
func (l *link) receiveBundle() (Bundle, int, error) {
	f, err := l.receive()
	switch {
	case err != nil:
		return Bundle{}, 0, err
	case f.What != frameBundle:
		return Bundle{}, 0, fmt.Errorf("%q came instead of a bundle", f.What)
	case len(f.Names) > filesMax:
		return Bundle{}, 0, fmt.Errorf("%d descriptors", len(f.Names))
	}
	b := Bundle{State: f.State}
	for len(b.Files) < len(f.Names) && err == nil {
		var files []*os.File
		files, err = receiveFiles(l.conn)
		for _, one := range files {
			if len(b.Files) == len(f.Names) {
				err = errors.Join(errors.New("more descriptors than names"), one.Close())
				continue
			}
			b.Files = append(b.Files, File{f.Names[len(b.Files)], one})
		}
	}
	if err != nil {
		b.close()
		return Bundle{}, 0, fmt.Errorf("receive descriptors: %w", err)
	}
	return b, f.Version, nil
}

func (b Bundle) close() {
	for _, f := range b.Files {
		_ = f.File.Close() // nothing was written
	}
}
