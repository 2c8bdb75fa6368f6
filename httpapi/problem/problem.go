package problem

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

const problemType = "https://patchbay.dev/problems/"

// MediaType is the content type of a problem.
const MediaType = "application/problem+json"

// InternalDetail is the one sentence that a client gets of an internal error.
const InternalDetail = "Something went wrong on our side. The request id finds it in the log."

// Problem is an error as clients see it (RFC 9457). Every member is always there,
// so that a client needs no case for its absence.
type Problem struct {
	Type      string            `json:"type"`
	Title     string            `json:"title"`
	Status    int               `json:"status"`
	Detail    string            `json:"detail"`
	Code      string            `json:"code"`
	RequestID string            `json:"request_id"`
	Errors    []fault.Violation `json:"errors"`
}

// row is what the table says of a code.
type row struct {
	status int
	title  string
	code   fault.Code // the public name
}

// rowOf is the one table from codes to HTTP (DESIGN 3.4). A code that it does
// not know is internal.
func rowOf(code fault.Code) row {
	r := row{code: code}
	switch code {
	case fault.InvalidArgument:
		r.status, r.title = 422, "Invalid argument"
	case fault.Malformed:
		r.status, r.title, r.code = 400, "Malformed request", fault.InvalidArgument
	case fault.SecretRequired:
		r.status, r.title = 422, "Secret required"
	case fault.Unauthenticated:
		r.status, r.title = 401, "Not authenticated"
	case fault.PermissionDenied:
		r.status, r.title = 403, "Permission denied"
	case fault.TenantSuspended:
		r.status, r.title = 403, "Tenant suspended"
	case fault.NotFound:
		r.status, r.title = 404, "Not found"
	case fault.NoDefaultConnector:
		r.status, r.title = 404, "No default connector"
	case fault.UnknownCategory:
		r.status, r.title = 404, "Unknown category"
	case fault.MethodNotAllowed:
		r.status, r.title = 405, "Method not allowed"
	case fault.NotAcceptable:
		r.status, r.title = 406, "Not acceptable"
	case fault.AlreadyExists:
		r.status, r.title = 409, "Already exists"
	case fault.Conflict:
		r.status, r.title = 409, "Conflict"
	case fault.Inactive:
		r.status, r.title = 409, "Connector inactive"
	case fault.StaleVersion:
		r.status, r.title = 412, "Stale version"
	case fault.TooLarge:
		r.status, r.title = 413, "Too large"
	case fault.HeaderTooLarge:
		r.status, r.title, r.code = 431, "Too large", fault.TooLarge
	case fault.UnsupportedMediaType:
		r.status, r.title = 415, "Unsupported media type"
	case fault.NeedsReauthorization:
		r.status, r.title = 424, "Needs reauthorization"
	case fault.PreconditionRequired:
		r.status, r.title = 428, "Precondition required"
	case fault.RateLimited:
		r.status, r.title = 429, "Rate limited"
	case fault.Unavailable:
		r.status, r.title = 503, "Unavailable"
	case fault.DeadlineExceeded:
		r.status, r.title = 504, "Deadline exceeded"
	default:
		r.status, r.title, r.code = 500, "Internal error", fault.Internal
	}
	return r
}

// CodeOf classifies err, a bare context error included: a resolver that gives
// up with its caller's context need not wrap it.
func CodeOf(err error) fault.Code {
	code := fault.CodeOf(err)
	if code == fault.Internal && errors.Is(err, context.DeadlineExceeded) {
		return fault.DeadlineExceeded
	}
	return code
}

// Of is what a client may know of err.
func Of(err error, requestID string) Problem {
	r := rowOf(CodeOf(err))
	p := Problem{
		Type: problemType + string(r.code), Title: r.title, Status: r.status, Code: string(r.code), RequestID: requestID,
		Errors: []fault.Violation{},
	}
	if r.code == fault.Internal {
		// Whoever wrote a message for an internal error wrote it for the log.
		p.Detail = InternalDetail
		return p
	}
	if p.Detail = fault.Message(err); p.Detail == "" {
		p.Detail = r.title // a bare code has no message
	}
	p.Errors = append(p.Errors, fault.Violations(err)...)
	return p
}

// Write is the one writer of errors.
func Write(c *fiber.Ctx, err error, requestID string) {
	p := Of(err, requestID)
	h := &c.Response().Header
	allow := string(h.Peek(fiber.HeaderAllow)) // the router's
	// What a handler had prepared for a good answer must not go out with a bad one.
	c.Response().Reset()
	switch p.Status {
	case http.StatusUnauthorized:
		h.Set(fiber.HeaderWWWAuthenticate, "Bearer")
	case http.StatusMethodNotAllowed:
		h.Set(fiber.HeaderAllow, cmp.Or(allow, fiber.MethodGet))
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set(fiber.HeaderRetryAfter, strconv.Itoa(RetrySeconds(err)))
	}
	h.Set(fiber.HeaderCacheControl, "no-store")
	h.SetContentType(MediaType)
	c.Status(p.Status)
	body, _ := json.Marshal(p) //nolint:errchkjson // strings and ints can't fail
	c.Response().SetBodyRaw(body)
}

// RetrySeconds is err's Retry-After: whole seconds, rounded up, as 0 would invite a
// caller to come at once.
func RetrySeconds(err error) int {
	return max(1, int((fault.RetryAfter(err)+time.Second-1)/time.Second))
}

// FromFiber turns Fiber's own errors (no route, oversized headers, a request
// that can't be parsed) into faults. Their texts repeat parts of the request,
// so they are only causes.
func FromFiber(err error) error {
	var e *fiber.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code {
	case fiber.StatusNotFound:
		return fault.New(fault.NotFound, "there is no such route").WithCause(err)
	case fiber.StatusMethodNotAllowed:
		return fault.New(fault.MethodNotAllowed, "the method is not allowed here").WithCause(err)
	case fiber.StatusRequestEntityTooLarge:
		return fault.New(fault.TooLarge, "the request's body is too large").WithCause(err)
	case fiber.StatusRequestHeaderFieldsTooLarge:
		return fault.New(fault.HeaderTooLarge, "the request's headers are larger than 16 KiB").WithCause(err)
	case fiber.StatusBadRequest, fiber.StatusRequestTimeout, fiber.StatusBadGateway:
		return fault.New(fault.Malformed, "the request can't be read").WithCause(err)
	default:
		return fault.New(fault.Internal, InternalDetail).WithCause(err)
	}
}
