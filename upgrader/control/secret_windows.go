package control

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"time"
)

// secretSize is how many bytes a secret has.
const secretSize = 32

// secret is what both ends have read in the state dir. It is never sent: the
// client sends 32 random bytes and a MAC over them, the server answers with
// another MAC over them.
type secret []byte

var errSecret = errors.New("who wants to control this upgrader has to know the key in its state dir")

func (k secret) mac(who string, nonce []byte) []byte {
	m := hmac.New(sha256.New, k)
	_, _ = m.Write([]byte(who)) // it never fails
	_, _ = m.Write(nonce)
	return m.Sum(nil)
}

// checkPeer checks, for a server, that a client knows the secret, and shows
// that it does itself.
func (k secret) checkPeer(conn net.Conn) error {
	said := make([]byte, 2*secretSize)
	if _, err := io.ReadFull(conn, said); err != nil {
		return errSecret
	}
	nonce, mac := said[:secretSize], said[secretSize:]
	if !hmac.Equal(mac, k.mac("client", nonce)) {
		return errSecret
	}
	if _, err := conn.Write(k.mac("server", nonce)); err != nil {
		return err
	}
	return nil
}

// prove is the client's side. It closes a connection to somebody else.
func prove(ctx context.Context, conn net.Conn, k secret) (_ net.Conn, err error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() {
		if err != nil {
			_ = conn.Close() // nothing was said
		}
	}()
	nonce := make([]byte, secretSize)
	_, _ = rand.Read(nonce) // it never fails
	_ = conn.SetDeadline(time.Now().Add(silence))
	if _, err := conn.Write(append(bytes.Clone(nonce), k.mac("client", nonce)...)); err != nil {
		return nil, err
	}
	answer := make([]byte, sha256.Size)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, err
	}
	if !hmac.Equal(answer, k.mac("server", nonce)) {
		return nil, errors.New("whoever answers there does not know the key: it is not the upgrader")
	}
	return conn, conn.SetDeadline(time.Time{})
}
