package providers

import (
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// What a kind in a module of its own needs of Patchbay's internal packages, which
// it can't import. The types are the same, not copies.
type (
	// Secret is one secret text. It can't print; Reveal is the way to the text, for
	// the request that carries it and nothing else.
	Secret = secret.Value
	// Secrets is a set of named secrets.
	Secrets = secret.Map
	// ErrorCode classifies an error; it is one itself, for errors.Is.
	ErrorCode = fault.Code
	// Violation is one problem of one input: an RFC 6901 pointer ("/params/port"),
	// a code and a message, which never repeats a submitted value.
	Violation = fault.Violation
)

// The codes that a kind's methods return. What callers see of them is decided
// elsewhere, in one table.
const (
	InvalidArgument      = fault.InvalidArgument      // 422: the config can't be used
	PermissionDenied     = fault.PermissionDenied     // 403
	NeedsReauthorization = fault.NeedsReauthorization // 424: a user has to consent again
	Unavailable          = fault.Unavailable          // 503: the other side can't be reached just now
	Internal             = fault.Internal             // 500, one fixed sentence
)

// NewSecret makes a Secret of a text, "" included: a set but empty one.
func NewSecret(text string) Secret { return secret.New(text) }

// Errorf makes an error whose message callers may see: it must repeat no secret
// and nothing that an upstream said. An argument that is an error is withheld;
// give it to WithCause instead, which logs may show.
func Errorf(code ErrorCode, format string, args ...any) *fault.Error {
	return fault.Newf(code, format, args...)
}

// Violations returns the problems that an error carries, such as one of
// Schema.Decode; nil when it carries none.
func Violations(err error) []Violation { return fault.Violations(err) }
