package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Code classifies an error. A Code is itself an error, so that
// errors.Is(err, fault.NotFound) works through any wrapping.
type Code string

// The codes. Their public names and HTTP statuses are fixed in DESIGN 3.4; two
// of them (Malformed, HeaderTooLarge) share a public name with another code and
// differ in status only.
const (
	InvalidArgument      Code = "invalid_argument"
	Malformed            Code = "malformed" // public invalid_argument, 400: not even parseable
	Unauthenticated      Code = "unauthenticated"
	PermissionDenied     Code = "permission_denied"
	TenantSuspended      Code = "tenant_suspended"
	NotFound             Code = "not_found"
	NoDefaultConnector   Code = "no_default_connector"
	UnknownCategory      Code = "unknown_category"
	AlreadyExists        Code = "already_exists"
	Conflict             Code = "conflict"
	Inactive             Code = "inactive" // 409: a pinned connector that blocks when deactivated
	StaleVersion         Code = "stale_version"
	PreconditionRequired Code = "precondition_required"
	SecretRequired       Code = "secret_required" // 422: a param that binds secrets changed
	NeedsReauthorization Code = "needs_reauthorization"
	RateLimited          Code = "rate_limited"
	Unavailable          Code = "unavailable"
	DeadlineExceeded     Code = "deadline_exceeded"
	MethodNotAllowed     Code = "method_not_allowed"
	NotAcceptable        Code = "not_acceptable"
	UnsupportedMediaType Code = "unsupported_media_type"
	TooLarge             Code = "too_large"
	HeaderTooLarge       Code = "header_too_large" // public too_large, 431
	Internal             Code = "internal"
)

// Codes returns every code, for tests that walk the HTTP table.
func Codes() []Code {
	return []Code{
		InvalidArgument, Malformed, Unauthenticated, PermissionDenied, TenantSuspended, NotFound,
		NoDefaultConnector, UnknownCategory, AlreadyExists, Conflict, Inactive, StaleVersion,
		PreconditionRequired, SecretRequired, NeedsReauthorization, RateLimited, Unavailable,
		DeadlineExceeded, MethodNotAllowed, NotAcceptable, UnsupportedMediaType, TooLarge,
		HeaderTooLarge, Internal,
	}
}

// Error makes a Code usable as a sentinel.
func (c Code) Error() string { return string(c) }

// Violation is one problem of one input, addressed by an RFC 6901 JSON pointer.
// Message is public and never repeats a submitted value.
type Violation struct {
	Pointer string `json:"pointer"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error is an error with a code, a public message and a private cause.
// The zero value is not useful; use [New] or [Newf]. An Error is immutable:
// the With methods return copies.
type Error struct {
	code       Code
	message    string
	cause      error
	violations []Violation
	retryAfter time.Duration
}

// New returns an error with a message that may be shown to the caller.
func New(code Code, message string) *Error { return &Error{code: code, message: message} }

// Newf is New with formatting. An argument that is an error is withheld: an
// upstream's error text (a Vault path, a token endpoint's body) must never
// reach a public message, and this is the place where habit would put it there.
func Newf(code Code, format string, args ...any) *Error {
	safe := make([]any, len(args))
	for i, a := range args {
		if _, isErr := a.(error); isErr {
			a = "(withheld)"
		}
		safe[i] = a
	}
	return New(code, fmt.Sprintf(format, safe...))
}

// WithCause returns a copy with the private cause, which logs may show.
func (e *Error) WithCause(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// WithViolations returns a copy with the violations appended.
func (e *Error) WithViolations(v ...Violation) *Error {
	c := *e
	c.violations = append(append([]Violation(nil), e.violations...), v...)
	return &c
}

// WithRetryAfter returns a copy that tells the caller when to come back.
func (e *Error) WithRetryAfter(d time.Duration) *Error {
	c := *e
	c.retryAfter = d
	return &c
}

// Error is for logs and the operator's terminal: code, message, violations and
// cause. It is not for clients; they get [Message].
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.message)
	for _, v := range e.violations {
		fmt.Fprintf(&b, "; %s: %s", v.Pointer, v.Message)
	}
	if e.cause != nil {
		b.WriteString(": ")
		b.WriteString(e.cause.Error())
	}
	return b.String()
}

// Unwrap gives both the code (so that errors.Is finds it) and the cause.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{e.code}
	}
	return []error{e.code, e.cause}
}

// CodeOf returns the code of the outermost Error in err's tree, or the bare
// Code, or Internal for anything unclassified; "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.code
	}
	if c, ok := errors.AsType[Code](err); ok {
		return c
	}
	return Internal
}

// Message returns the public message of err, "" when it has none (an
// unclassified error never has one).
func Message(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.message
	}
	return ""
}

// Violations returns the violations of the outermost Error in err's tree.
func Violations(err error) []Violation {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.violations
	}
	return nil
}

// RetryAfter returns when the caller should come back, 0 when not stated.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.retryAfter
	}
	return 0
}

// Outage tells whether err means that an upstream could not give an answer
// (unreachable, too slow, overloaded), as opposed to a clear answer of "no".
// Only an outage lets the resolver serve what it holds; see DESIGN 6, "Stale".
func Outage(err error) bool {
	switch CodeOf(err) {
	case Unavailable, DeadlineExceeded, RateLimited, Internal:
		return true
	default:
		return false
	}
}
