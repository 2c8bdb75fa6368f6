package httpapi

import (
	"bytes"
	"net"
	"time"

	"github.com/patchbay-dev/patchbay/tenant"
)

// patient is a listener whose connections arm their deadlines late. The server
// sets three per request, and each is a lock and a timer of the runtime's
// poller: together as much as all else that a hit does. Nearly all of them are
// replaced before anything waits for them.
type patient struct{ net.Listener }

func (p patient) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &patientConn{Conn: c}, nil
}

// slack is how much earlier than asked a deadline may come.
const slack = time.Second

// patientConn notes a deadline and arms it only when a read or write is about
// to wait, and only when the armed one is later or is earlier by more than
// slack. One goroutine at a time reads and sets deadlines, the same for
// writing; so the server works. Close ends a wait from anywhere.
type patientConn struct {
	net.Conn
	reading, writing deadline
	previous         caller
}

// caller is who sent a connection's previous request. A kept connection is one
// app's, which sends the same token again: comparing it costs a tenth of hashing
// it for the Verifier's memory. That the token is held in clear as long as its
// connection tells nobody more: the server's buffer of the connection holds it
// as long.
type caller struct {
	token []byte
	env   *tenant.Env
}

// maxCallerToken bounds what a connection holds; a longer token is hashed.
const maxCallerToken = 2 << 10

// is tells whether this token was verified on the connection and would still do.
func (c *caller) is(token []byte, now time.Time) bool {
	return c.env != nil && bytes.Equal(c.token, token) && c.env.Live(now)
}

func (c *caller) set(token []byte, env *tenant.Env) {
	if len(token) > maxCallerToken {
		return
	}
	c.token, c.env = append(c.token[:0], token...), env
}

// caller is for the connection's handler, which runs alone.
func (c *patientConn) caller() *caller { return &c.previous }

type deadline struct{ wanted, armed time.Time }

// due tells whether the armed deadline is not good enough.
func (d *deadline) due() bool {
	if d.wanted.IsZero() || d.armed.IsZero() {
		return d.wanted.IsZero() != d.armed.IsZero()
	}
	early := d.wanted.Sub(d.armed)
	return early < 0 || early > slack
}

func (c *patientConn) Read(b []byte) (int, error) {
	if c.reading.due() {
		if err := c.Conn.SetReadDeadline(c.reading.wanted); err != nil {
			return 0, err
		}
		c.reading.armed = c.reading.wanted
	}
	return c.Conn.Read(b)
}

func (c *patientConn) Write(b []byte) (int, error) {
	if c.writing.due() {
		if err := c.Conn.SetWriteDeadline(c.writing.wanted); err != nil {
			return 0, err
		}
		c.writing.armed = c.writing.wanted
	}
	return c.Conn.Write(b)
}

func (c *patientConn) SetReadDeadline(t time.Time) error  { c.reading.wanted = t; return nil }
func (c *patientConn) SetWriteDeadline(t time.Time) error { c.writing.wanted = t; return nil }

func (c *patientConn) SetDeadline(t time.Time) error {
	c.reading.wanted, c.writing.wanted = t, t
	return nil
}
