package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// speaker translates for load's lines: "SEQ\n" has to come back.
type speaker interface {
	// greet is what there is to do before a first request.
	greet(c *bufio.ReadWriter) error
	// ask has the server say back what it is given.
	ask(c *bufio.ReadWriter, text string) (string, error)
}

// errBusy is what the server itself answers while it cannot serve yet, or no
// longer: the client is to come again, as every client of it does.
var errBusy = errors.New("the server says: not now")

// told counts what the outcomes of load do not.
type told struct{ busy atomic.Int64 }

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// dialer makes connections that are greeted. One on which the server says that
// it cannot serve now is made again, and counted.
func (t *told) dialer(plain dialer, s speaker) dialer {
	if plain == nil {
		plain = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		for {
			c, err := plain(ctx, network, address)
			if err != nil {
				return nil, err
			}
			if deadline, is := ctx.Deadline(); is {
				_ = c.SetDeadline(deadline) // fails only on a connection that is closed
			}
			tcp, is := c.(*net.TCPConn)
			if !is {
				return nil, fmt.Errorf("%T is no TCP connection", c)
			}
			one := &spoken{TCPConn: tcp, speaker: s, buffer: bufio.NewReadWriter(bufio.NewReader(c), bufio.NewWriter(c))}
			err = s.greet(one.buffer)
			if err == nil {
				return one, nil
			}
			_ = one.Close() // it has failed already
			if !errors.Is(err, errBusy) {
				return nil, fmt.Errorf("greeting: %w", err)
			}
			t.busy.Add(1)
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
}

// spoken is a connection on which lines come back.
type spoken struct {
	*net.TCPConn
	speaker speaker
	buffer  *bufio.ReadWriter
	answer  []byte
}

func (s *spoken) Write(b []byte) (int, error) {
	text, err := s.speaker.ask(s.buffer, strings.TrimSpace(string(b)))
	if err != nil {
		return 0, err
	}
	s.answer = append(s.answer, text+"\n"...)
	return len(b), nil
}

func (s *spoken) Read(b []byte) (int, error) {
	if len(s.answer) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.answer)
	s.answer = s.answer[n:]
	return n, nil
}

// Close leaves no TIME_WAIT behind.
func (s *spoken) Close() error {
	_ = s.SetLinger(0) // it may be gone already
	return s.TCPConn.Close()
}

// redis speaks RESP.
type redis struct{}

func (redis) greet(*bufio.ReadWriter) error { return nil }

func (redis) ask(c *bufio.ReadWriter, text string) (string, error) {
	_, _ = fmt.Fprintf(c, "*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n", len(text), text) // Flush has its error
	if err := c.Flush(); err != nil {
		return "", err
	}
	head, err := c.ReadString('\n')
	if err != nil {
		return "", err
	}
	if head != fmt.Sprintf("$%d\r\n", len(text)) {
		return "", fmt.Errorf("redis: %q", head)
	}
	answer, err := c.ReadString('\n')
	return strings.TrimSuffix(answer, "\r\n"), err
}

// postgres speaks the protocol of PostgreSQL, version 3, to a server that trusts.
type postgres struct{}

func (postgres) greet(c *bufio.ReadWriter) error {
	const startup = "user\x00postgres\x00database\x00postgres\x00\x00"
	_ = binary.Write(c, binary.BigEndian, []uint32{uint32(8 + len(startup)), 3 << 16}) // Flush has its error
	_, _ = c.WriteString(startup)                                                      // as above
	if err := c.Flush(); err != nil {
		return err
	}
	_, err := postgresAnswer(c)
	return err
}

func (postgres) ask(c *bufio.ReadWriter, text string) (string, error) {
	query := "SELECT " + text + "\x00"
	_ = c.WriteByte('Q')                                        // Flush has its error
	_ = binary.Write(c, binary.BigEndian, uint32(4+len(query))) // as above
	_, _ = c.WriteString(query)                                 // as above
	if err := c.Flush(); err != nil {
		return "", err
	}
	return postgresAnswer(c)
}

// postgresAnswer reads until the server is ready for a query, and gives the
// last column of what it sent.
func postgresAnswer(c *bufio.ReadWriter) (string, error) {
	text := ""
	for {
		kind, err := c.ReadByte()
		if err != nil {
			return "", err
		}
		var size uint32
		if err := binary.Read(c, binary.BigEndian, &size); err != nil {
			return "", err
		}
		if size < 4 || size > 1<<20 {
			return "", fmt.Errorf("postgres: a message of %d bytes", size)
		}
		body := make([]byte, size-4)
		if _, err := io.ReadFull(c, body); err != nil {
			return "", err
		}
		switch kind {
		case 'D': // one column: count, length, text
			if len(body) < 6 {
				return "", fmt.Errorf("postgres: a row of %d bytes", len(body))
			}
			text = string(body[6:])
		case 'E':
			return "", postgresError(string(body))
		case 'Z':
			return text, nil
		}
	}
}

// postgresError reads the fields of an error: 57P03 is starting up or shutting
// down, 57P01 that it was told to go.
func postgresError(fields string) error {
	code, message := "", ""
	for f := range strings.SplitSeq(fields, "\x00") {
		switch {
		case strings.HasPrefix(f, "C"):
			code = f[1:]
		case strings.HasPrefix(f, "M"):
			message = f[1:]
		}
	}
	switch code {
	case "57P03":
		return fmt.Errorf("postgres: %s: %w", message, errBusy)
	case "57P01", "57P02":
		return fmt.Errorf("postgres: %s (%s): %w", message, code, io.EOF) // it ends the connection with it
	}
	return fmt.Errorf("postgres: %s (%s)", message, code)
}

// mysql speaks the protocol of MySQL to a server whose root has no password.
type mysql struct{}

func (mysql) greet(c *bufio.ReadWriter) error {
	if _, err := mysqlPacket(c); err != nil {
		return err
	}
	// CLIENT_LONG_PASSWORD, CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION, CLIENT_PLUGIN_AUTH
	body := binary.LittleEndian.AppendUint32(nil, 1|1<<9|1<<15|1<<19)
	body = binary.LittleEndian.AppendUint32(body, 1<<24)
	body = append(body, 33) // utf8
	body = append(body, make([]byte, 23)...)
	body = append(body, "root\x00\x00mysql_native_password\x00"...) // an empty answer to the challenge between them
	return mysqlSend(c, 1, body, nil)
}

func (mysql) ask(c *bufio.ReadWriter, text string) (string, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return "", err
	}
	// A column, its description, the end of those, a row and the end of rows.
	var packets [][]byte
	err = mysqlSend(c, 0, append([]byte{3}, fmt.Sprintf("SELECT %d", n)...), &packets)
	if err != nil {
		return "", err
	}
	for len(packets) < 5 {
		p, err := mysqlPacket(c)
		if err != nil {
			return "", err
		}
		packets = append(packets, p)
	}
	if row := packets[3]; len(row) > 1 {
		return string(row[1:]), nil
	}
	return "", fmt.Errorf("mysql: an empty row")
}

// mysqlSend sends one packet and wants an answer that is no error.
func mysqlSend(c *bufio.ReadWriter, sequence byte, body []byte, answers *[][]byte) error {
	_, _ = c.Write([]byte{byte(len(body)), byte(len(body) >> 8), byte(len(body) >> 16), sequence}) // Flush has its error
	_, _ = c.Write(body)                                                                           // as above
	if err := c.Flush(); err != nil {
		return err
	}
	p, err := mysqlPacket(c)
	if err == nil && answers != nil {
		*answers = append(*answers, p)
	}
	return err
}

func mysqlPacket(c *bufio.ReadWriter) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
	if _, err := io.ReadFull(c, body); err != nil {
		return nil, err
	}
	if len(body) > 2 && body[0] == 0xff {
		code := binary.LittleEndian.Uint16(body[1:])
		switch code {
		case 1053, 1927: // it is shutting down, or ended this connection for that
			return nil, fmt.Errorf("mysql: %d %.200q: %w", code, body[3:], io.EOF)
		}
		return nil, fmt.Errorf("mysql: %d %.200q", code, body[3:])
	}
	return body, nil
}
