package adminapi

import (
	"context"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/strictjson"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// maxBody bounds the body of an operation that doesn't say otherwise, in bytes.
const maxBody = 1 << 20

// operation is an operation as this package declares it.
type operation struct {
	huma.Operation
	permission tenant.Permission // "": public
	// body is a zero value of the type that the body decodes to; nil: none is read.
	body any
	// bodyOptional: an absent body is as good as {}.
	bodyOptional bool
	mediaTypes   []string       // of the body; default application/json
	examples     map[string]any // of the body, by what they show
	// may are the errors beside those that every operation may end in.
	may []fault.Code
}

// Every operation may end so.
var anyway = []fault.Code{fault.Malformed, fault.InvalidArgument, fault.NotAcceptable, fault.Internal, fault.Unavailable, fault.DeadlineExceeded}

// So may those that ask who is there.
var guarded = []fault.Code{fault.Unauthenticated, fault.PermissionDenied, fault.NotFound, fault.RateLimited}

// Raw is the input of an operation with a body.
type Raw struct {
	RawBody []byte
}

// register declares an operation. What handle returns as an error is answered by
// the one problem table.
func register[I, O any](a *API, o operation, handle func(ctx context.Context, k *call, in *I) (*O, error)) {
	h := o.Operation
	if h.Metadata == nil {
		h.Metadata = map[string]any{}
	}
	may := append(slices.Clone(anyway), o.may...)
	h.Security = []map[string][]string{} // public, unless there is a permission
	if o.permission != "" {
		h.Metadata[metaPermission] = o.permission
		h.Security = []map[string][]string{{securityScheme: {}}}
		h.Description += "\n\nNeeds the permission `" + string(o.permission) + "`."
		may = append(may, guarded...)
	}
	if o.body != nil {
		may = append(may, fault.TooLarge, fault.UnsupportedMediaType)
		if h.MaxBodyBytes == 0 {
			h.MaxBodyBytes = maxBody + 1 // huma refuses what reaches it
		}
	}
	statuses := map[int]bool{}
	for _, code := range may {
		statuses[problem.Of(code, "").Status] = true
	}
	for status := range statuses {
		h.Errors = append(h.Errors, status)
	}
	slices.Sort(h.Errors)
	a.routes[h.OperationID] = a.requests.Route(h.Method + " " + h.Path)
	huma.Register(a.huma, h, func(ctx context.Context, in *I) (*O, error) {
		k := callOf(ctx)
		if !accepts(k.c, k.op) {
			return nil, problemOf(fault.New(fault.NotAcceptable, "none of the accepted types is one that this answers with"), k)
		}
		out, err := handle(ctx, k, in)
		if err != nil {
			p := problemOf(err, k)
			return nil, withHeaders(p)
		}
		return out, nil
	})
	if o.body != nil {
		a.describeBody(o)
	}
}

// withHeaders adds the headers that go with a problem.
func withHeaders(p *Problem) error {
	if p.Status != http.StatusTooManyRequests && p.Status != http.StatusServiceUnavailable {
		return p
	}
	return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {strconv.Itoa(problem.RetrySeconds(p.err))}})
}

// accepts tells whether the client takes what the operation answers with.
func accepts(c *fiber.Ctx, op *huma.Operation) bool {
	if c.Get(fiber.HeaderAccept) == "" {
		return true
	}
	types := []string{}
	for _, r := range op.Responses {
		for t := range r.Content {
			if t != problem.MediaType {
				types = append(types, t)
			}
		}
	}
	return len(types) == 0 || c.Accepts(append(types, problem.MediaType)...) != ""
}

// describeBody replaces what huma says of a raw body.
func (a *API) describeBody(o operation) {
	item := a.huma.OpenAPI().Paths[o.Path]
	var op *huma.Operation
	switch o.Method {
	case http.MethodPost:
		op = item.Post
	case http.MethodPut:
		op = item.Put
	case http.MethodPatch:
		op = item.Patch
	}
	types := o.mediaTypes
	if types == nil {
		types = []string{fiber.MIMEApplicationJSON}
	}
	body := &huma.RequestBody{Required: !o.bodyOptional, Content: map[string]*huma.MediaType{}}
	for _, t := range types {
		schema, ok := o.body.(*huma.Schema)
		if !ok {
			schema = a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(o.body), true, "")
		}
		media := &huma.MediaType{Schema: schema}
		for name, value := range o.examples {
			if media.Examples == nil {
				media.Examples = map[string]*huma.Example{}
			}
			media.Examples[name] = &huma.Example{Summary: name, Value: value}
		}
		body.Content[t] = media
	}
	op.RequestBody = body
}

// decode reads a request's JSON body into a T.
// Errors: fault.UnsupportedMediaType, fault.Malformed, fault.InvalidArgument.
func decode[T any](k *call, body []byte, mediaTypes ...string) (T, error) {
	var into T
	if err := k.mediaType(append(mediaTypes, fiber.MIMEApplicationJSON)...); err != nil {
		return into, err
	}
	return into, strictjson.Decode(body, &into, providers.Suggest)
}

// decodeOptional is decode where an absent body is as good as {}.
func decodeOptional[T any](k *call, body []byte) (T, error) {
	if len(body) == 0 {
		var zero T
		return zero, nil
	}
	return decode[T](k, body)
}

// mediaType checks that the body is of one of the given types.
func (k *call) mediaType(want ...string) error {
	t, params, ok := mimeType(k)
	charset, other := params["charset"]
	if ok && slices.Contains(want, t) && (!other || strings.EqualFold(charset, "utf-8")) {
		return nil
	}
	return fault.Newf(fault.UnsupportedMediaType, "the body must be one of: %s", strings.Join(want, ", "))
}

// mimeType is the body's; false where there is none, or several.
func mimeType(k *call) (string, map[string]string, bool) {
	given := k.c.Request().Header.PeekAll(fiber.HeaderContentType)
	if len(given) != 1 {
		return "", nil, false
	}
	t, params, err := mime.ParseMediaType(string(given[0]))
	return t, params, err == nil
}
