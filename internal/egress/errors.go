package egress

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// What a dial can end with, beside the network's own errors (a *net.OpError) and
// the context's. All work with errors.Is through any wrapping.
var (
	// ErrDenied: the policy does not let this host or port be dialled. It says
	// nothing else on purpose; [Detail] does, for the operator.
	ErrDenied = errors.New("egress: the operator's policy does not allow this host")
	// ErrMalformed: what was typed is no host, port or network that is ever
	// dialled. Such an error is an ErrDenied too.
	ErrMalformed = errors.New("egress: not a host that can be dialled")
	// ErrResolve: the name has no address, or none that can be found now.
	ErrResolve = errors.New("egress: the host name does not resolve")
)

// The one public sentence of each.
var (
	denied     = fault.New(fault.PermissionDenied, "the operator's policy does not allow this host")
	malformed  = fault.New(fault.InvalidArgument, "not a host that can be dialled")
	unresolved = fault.New(fault.Unavailable, "the host name does not resolve")
)

// refusal is an error whose text never says what was found. Its detail does, and
// is reachable through [Detail] alone: an SDK that wraps the error, or a handler
// that prints it, shows the fixed sentence.
type refusal struct {
	kind    error
	public  *fault.Error
	detail  string
	timeout bool
}

// Error is the fixed sentence of the kind.
func (r *refusal) Error() string { return r.kind.Error() }

// Unwrap gives the sentinels and the public fault.
func (r *refusal) Unwrap() []error {
	if errors.Is(r.kind, ErrMalformed) {
		return []error{ErrMalformed, ErrDenied, r.public}
	}
	return []error{r.kind, r.public}
}

// Timeout tells whether it was a look-up that took too long; with Temporary it
// makes the error a net.Error.
func (r *refusal) Timeout() bool { return r.timeout }

// Temporary is the other half of net.Error.
func (r *refusal) Temporary() bool { return r.timeout }

// RetryableError keeps the AWS SDK from dialling again what the policy denied: to
// it, every other error of a connection is worth three tries.
func (r *refusal) RetryableError() bool { return errors.Is(r.kind, ErrResolve) }

func deny(detail string) error {
	return &refusal{kind: ErrDenied, public: denied, detail: detail}
}

func misspelt(detail string) error {
	return &refusal{kind: ErrMalformed, public: malformed, detail: detail}
}

// Detail is what the operator's log may say about a refused dial: the host, the
// address found and the rule that refused it, or the resolver's own words. "" for
// other errors. It must never reach a tenant.
func Detail(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.detail
	}
	return ""
}

// typed is an address as the tenant typed it.
type typed string

func (typed) Network() string  { return "tcp" }
func (t typed) String() string { return string(t) }

// errConnection stands for causes whose text might name an address.
var errConnection = errors.New("connection failed")

// unnamed takes the addresses out of a network error; nil stays nil. A *net.OpError prints both
// ends of its connection: what an internal name resolves to, and where we are.
func unnamed(err error, address string) error {
	if err == nil || err == io.EOF { //nolint:errorlint // a reader's end is compared by its callers
		return err
	}
	op, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return err
	}
	if r, ok := errors.AsType[*refusal](op.Err); ok {
		return r
	}
	cause := errConnection
	if _, ok := errors.AsType[*os.SyscallError](op.Err); ok || op.Timeout() || slices.ContainsFunc(nameless, func(e error) bool { return errors.Is(op.Err, e) }) {
		cause = op.Err
	}
	return &net.OpError{Op: op.Op, Net: "tcp", Addr: typed(address), Err: cause}
}

// nameless are causes that are one fixed text.
var nameless = []error{net.ErrClosed, os.ErrDeadlineExceeded, context.Canceled, context.DeadlineExceeded, io.EOF}

// conn is a connection whose errors name the host as it was typed.
type conn struct {
	net.Conn

	address string
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, unnamed(err, c.address)
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, unnamed(err, c.address)
}

func (c *conn) Close() error { return unnamed(c.Conn.Close(), c.address) }

func (c *conn) SetDeadline(t time.Time) error { return unnamed(c.Conn.SetDeadline(t), c.address) }

func (c *conn) SetReadDeadline(t time.Time) error {
	return unnamed(c.Conn.SetReadDeadline(t), c.address)
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	return unnamed(c.Conn.SetWriteDeadline(t), c.address)
}
