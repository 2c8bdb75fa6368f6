package adminapi

import (
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/strictjson"
)

// Problem is an error as the document describes it (RFC 9457).
type Problem struct {
	Type      string            `json:"type" format:"uri" doc:"A URI that names the code." example:"https://patchbay.dev/problems/not_found"`
	Title     string            `json:"title" doc:"The code in words."`
	Status    int               `json:"status" doc:"The HTTP status."`
	Detail    string            `json:"detail" doc:"What went wrong, for a person."`
	Code      string            `json:"code" doc:"What went wrong, for a program." example:"not_found"`
	RequestID string            `json:"request_id" doc:"What finds this request in the log."`
	Errors    []fault.Violation `json:"errors" doc:"Each problem at its place: a JSON pointer into the body, or /query/NAME, /path/NAME, /header/NAME."`

	err error // what it says
}

func (p *Problem) Error() string { return p.Detail }

// GetStatus is for huma.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is for huma.
func (*Problem) ContentType(string) string { return problem.MediaType }

// Huma's own errors repeat the submitted value, which may be a secret, and have a
// place notation of their own. The replacement is global to the process, as huma
// has it; this package is huma's only home.
func init() {
	huma.NewErrorWithContext = func(ctx huma.Context, status int, _ string, errs ...error) huma.StatusError {
		return problemOf(humaFault(status, errs), callOf(ctx.Context()))
	}
	// What reaches this one has no request: the document's example of an error.
	huma.NewError = func(status int, _ string, errs ...error) huma.StatusError {
		return problemOf(humaFault(status, errs), nil)
	}
}

// problemOf is what a client may know of err, which is noted for the log.
func problemOf(err error, k *call) *Problem {
	id := ""
	if k != nil {
		k.err, id = err, k.id
	}
	p := problem.Of(err, id)
	return &Problem{Type: p.Type, Title: p.Title, Status: p.Status, Detail: p.Detail, Code: p.Code, RequestID: p.RequestID, Errors: p.Errors, err: err}
}

// humaFault is what huma found wrong, in our words and without the value.
func humaFault(status int, errs []error) error {
	switch status {
	case http.StatusRequestEntityTooLarge:
		return fault.New(fault.TooLarge, "the request's body is too large")
	case http.StatusBadRequest:
		return fault.New(fault.Malformed, "the request needs a body")
	case http.StatusNotAcceptable:
		return fault.New(fault.NotAcceptable, "the answer is application/json")
	case http.StatusUnprocessableEntity:
	default:
		return fault.New(fault.Internal, problem.InternalDetail)
	}
	out := fault.New(fault.InvalidArgument, "a parameter has a problem")
	for _, err := range errs {
		d, ok := err.(huma.ErrorDetailer) // huma hands its own over, unwrapped
		if !ok {
			continue
		}
		detail := d.ErrorDetail()
		where, name, _ := strings.Cut(detail.Location, ".")
		out = out.WithViolations(fault.Violation{Pointer: "/" + where + "/" + strictjson.Escape(name), Code: "invalid", Message: plain(detail.Message)})
	}
	return out
}

// plain is huma's sentence about a parameter, where it is one that repeats nothing.
func plain(message string) string {
	for _, safe := range []string{"expected value to be one of", "expected number", "expected length", "expected string to be RFC 4122 uuid", "expected string to match pattern"} {
		if strings.HasPrefix(message, safe) {
			return strings.Replace(message, "expected", "must be:", 1)
		}
	}
	if strings.HasPrefix(message, "required") {
		return "is required"
	}
	return "can't be read as what it should be"
}
