package adminapi

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Verifier makes an Env from a JWT. Errors: fault.Unauthenticated,
// fault.PermissionDenied, fault.Unavailable.
type Verifier interface {
	Verify(ctx context.Context, token string) (*tenant.Env, error)
}

// Options configure an API. Verifier, Service and Kinds are needed.
type Options struct {
	Verifier Verifier
	Service  *connector.Service
	Kinds    *providers.Registry
	Files    Files         // nil: no data files are imported and exported
	Log      *slog.Logger  // nil discards
	Registry *obs.Registry // nil counts nothing
	Version  string        // of the program, for the document
	// PublicURL is what browsers call this listener, "" when nobody has said so.
	PublicURL string
	// RequestsPerSecond and Burst bound what one tenant may ask; zero: no limit.
	RequestsPerSecond, Burst int
}

// API is the admin API.
type API struct {
	o        Options
	huma     huma.API
	requests *obs.Requests
	routes   map[string]*obs.Route // by operation id
	other    *obs.Route
	rates    *rates
	document []byte // the OpenAPI document
}

// requestTimeout bounds every operation but those that say otherwise. A proxy's own
// is usually longer.
const requestTimeout = 20 * time.Second

// Mount adds the API to app, whose strings must outlive their requests
// (fiber.Config.Immutable).
// Errors: fault.InvalidArgument for options that can't be used.
func Mount(app *fiber.App, o Options) (*API, error) {
	if o.Verifier == nil || o.Service == nil || o.Kinds == nil {
		return nil, fault.New(fault.InvalidArgument, "the admin API needs a verifier, a service and kinds")
	}
	if !app.Config().Immutable {
		return nil, fault.New(fault.InvalidArgument, "the admin API needs an app whose strings are its own")
	}
	return mount(app, o)
}

// Describe returns the OpenAPI document of an API over the kinds, without one.
// Errors: fault.Internal when it can't be written.
func Describe(kinds *providers.Registry, version, publicURL string) ([]byte, error) {
	a, err := mount(fiber.New(fiber.Config{DisableStartupMessage: true}), Options{Kinds: kinds, Version: version, PublicURL: publicURL, Files: &importer.Importer{}})
	if err != nil {
		return nil, err
	}
	return a.document, nil
}

func mount(app *fiber.App, o Options) (*API, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{o: o, routes: map[string]*obs.Route{}, rates: newRates(o.RequestsPerSecond, o.Burst)}
	if o.Registry != nil {
		a.requests = o.Registry.NewRequests("admin")
	}
	a.other = a.requests.Route("other")
	app.Use("/api", a.frame)
	a.huma = humafiber.New(app, a.config())
	a.huma.UseMiddleware(a.enter)
	// Paths with a fixed last part come before those where it is an id.
	a.kinds()
	a.dataFiles()
	a.oauth()
	a.lifecycle()
	a.connectors()
	a.organizations()
	a.audit()
	a.tenants()
	if err := a.finish(); err != nil {
		return nil, err
	}
	app.Get("/api/openapi.json", a.openAPI)
	return a, a.documentation(app)
}

// call is one request's state.
type call struct {
	api   *API
	c     *fiber.Ctx
	id    string // the request's
	begun time.Time
	op    *huma.Operation // nil: no operation was reached
	env   *tenant.Env     // nil: not authenticated
	scope connector.Scope
	err   error // that was answered, for the log
}

type callKey struct{}

// callOf is the call that a handler's context belongs to.
func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

const localsCall = "patchbay.call"

// frame is around every request: its id, its headers, a panic's end, its metric and
// its line in the log.
func (a *API) frame(c *fiber.Ctx) (err error) {
	k := &call{api: a, c: c, id: requestID(c), begun: time.Now()}
	c.Locals(localsCall, k)
	defer func() {
		if p := recover(); p != nil {
			// Its value may hold anything, so only the stack is kept.
			k.fail(fault.New(fault.Internal, problem.InternalDetail).WithCause(errors.New("panic: " + string(debug.Stack()))))
		}
		secure(c)
		c.Set(headerRequestID, k.id)
		a.done(k)
		err = nil
	}()
	if err := c.Next(); err != nil {
		k.fail(problem.FromFiber(err))
	}
	return nil
}

// fail answers err.
func (k *call) fail(err error) {
	k.err = err
	problem.Write(k.c, err, k.id)
}

const (
	headerRequestID = "X-Request-Id"
	headerRevision  = "X-Patchbay-Revision"
	headerTenant    = "X-Tenant-Id"
	headerIfMatch   = "If-Match"
	headerKey       = "Idempotency-Key"
)

// secure is what every answer says to a browser that was led here: keep nothing,
// guess nothing, show it in nobody's frame.
func secure(c *fiber.Ctx) {
	h := &c.Response().Header
	if len(h.Peek(fiber.HeaderCacheControl)) == 0 {
		h.Set(fiber.HeaderCacheControl, "no-store")
	}
	h.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	h.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	if len(h.Peek(fiber.HeaderContentSecurityPolicy)) == 0 {
		h.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; frame-ancestors 'none'")
	}
}

// requestID is the caller's, where it is harmless in a log line; else our own.
func requestID(c *fiber.Ctx) string {
	given := c.Get(headerRequestID)
	if given == "" || len(given) > 64 {
		return obs.NewRequestID()
	}
	for _, r := range given {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
		default:
			return obs.NewRequestID()
		}
	}
	return given
}

// done counts and logs. Nothing that the caller wrote is in the line but what was
// parsed into an id.
func (a *API) done(k *call) {
	status, took := k.c.Response().StatusCode(), time.Since(k.begun)
	route, label := a.other, "other"
	if k.op != nil {
		route, label = a.routes[k.op.OperationID], k.op.Method+" "+k.op.Path
	}
	route.Done(status, took)
	level := slog.LevelInfo
	if status >= 500 && problem.CodeOf(k.err) == fault.Internal {
		level = slog.LevelError
	}
	if !a.o.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := []slog.Attr{
		slog.String(obs.FieldRequestID, k.id), slog.String(obs.FieldRoute, label),
		slog.Int(obs.FieldStatus, status), slog.Float64(obs.FieldDuration, float64(took.Microseconds())/1000),
	}
	if k.env != nil {
		attrs = append(attrs, slog.String(obs.FieldTenant, k.scope.Tenant.String()))
	}
	if k.err != nil {
		// The places of a bad request are names that the caller wrote; causes are for
		// what is ours.
		said := fault.Message(k.err)
		if status >= 500 {
			said = k.err.Error()
		}
		attrs = append(attrs, slog.String(obs.FieldCode, string(problem.CodeOf(k.err))), slog.String(obs.FieldError, said))
	}
	a.o.Log.LogAttrs(context.Background(), level, "request", attrs...)
}
