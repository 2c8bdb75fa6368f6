package egress

import (
	"context"
	"errors"
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
	// ErrResolve: the name has no address now.
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
	if r.kind == ErrMalformed {
		return []error{ErrMalformed, ErrDenied, r.public}
	}
	return []error{r.kind, r.public}
}

// Timeout tells whether it was a look-up that took too long; with Temporary it
// makes the error a net.Error.
func (r *refusal) Timeout() bool { return r.timeout }

// Temporary is the other half of net.Error.
func (r *refusal) Temporary() bool { return r.timeout }

func deny(detail string) error {
	return &refusal{kind: ErrDenied, public: denied, detail: detail}
}

func misspelt(detail string) error {
	return &refusal{kind: ErrMalformed, public: malformed, detail: detail}
}

// Detail is what the operator's log may say about a refused dial: the host, the
// address found and the rule that refused it. "" for other errors. It must never
// reach a tenant.
func Detail(err error) string {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.detail
	}
	return ""
}

// Floor is how long an answer to a tenant takes at least, from the start of what
// the tenant asked for, when it tells that a host was denied. See the package's
// documentation for what it hides.
const Floor = time.Second

// WaitFloor blocks until a whole number of Floors has passed since begun, at
// least one, or until ctx ends. Whole numbers, because a look-up may take longer
// than one Floor, and by how much would tell a cached name from an unknown one.
func WaitFloor(ctx context.Context, begun time.Time) {
	took := time.Since(begun)
	timer := time.NewTimer((took/Floor+1)*Floor - took)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
