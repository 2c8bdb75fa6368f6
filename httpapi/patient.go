package httpapi

import (
	"bytes"
	"net"
	"time"

	"github.com/patchbay-dev/patchbay/tenant"
)

// patient is a listener whose connections keep their own timeouts. The server's
// cost three deadlines and three looks at the clock per request, and a deadline
// is a lock and a timer of the runtime's poller: together as much as all else
// that a hit does, for deadlines that are replaced before anything waits.
type patient struct {
	net.Listener
	timeouts timeouts
}

func (p patient) Accept() (net.Conn, error) {
	c, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &patientConn{Conn: c, timeouts: p.timeouts}, nil
}

// slack is how much earlier than asked a deadline may come.
const slack = time.Second

// patientConn arms a deadline when a read or write is about to wait, unless one
// is armed that is as good. Reads wait for the next request (idle), or for the
// rest of one (read, counted from its beginning, so that a client that sends a
// byte now and then gains nothing). It is for a server that reads and writes by
// turns in one goroutine, and sets no deadlines; Close ends a wait from anywhere.
type patientConn struct {
	net.Conn
	timeouts         timeouts
	reading, writing time.Time // as armed
	answered         time.Time // the last write; zero once a read has followed it
	began            time.Time // the request that is being read; zero before its second read
	previous         caller
}

func (c *patientConn) Read(b []byte) (int, error) {
	var until time.Time
	if !c.answered.IsZero() {
		until = c.answered.Add(c.timeouts.idle)
		c.answered, c.began = time.Time{}, time.Time{}
	} else {
		if c.began.IsZero() {
			c.began = time.Now()
		}
		until = c.began.Add(c.timeouts.read)
	}
	if due(c.reading, until) {
		if err := c.Conn.SetReadDeadline(until); err != nil {
			return 0, err
		}
		c.reading = until
	}
	return c.Conn.Read(b)
}

func (c *patientConn) Write(b []byte) (int, error) {
	c.answered = time.Now()
	until := c.answered.Add(c.timeouts.write)
	if due(c.writing, until) {
		if err := c.Conn.SetWriteDeadline(until); err != nil {
			return 0, err
		}
		c.writing = until
	}
	return c.Conn.Write(b)
}

// due tells whether the armed deadline is not good enough.
func due(armed, until time.Time) bool {
	early := until.Sub(armed)
	return early < 0 || early > slack
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
