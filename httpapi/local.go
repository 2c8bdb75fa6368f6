package httpapi

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
)

// headerLimit is what a request line and headers may take together.
const headerLimit = 16 << 10

// awsCredentials is the one path that the second token isn't asked for on: the
// AWS SDKs can't send it.
const awsCredentials = "/v1/aws/credentials"

// Verifier makes an Env from a JWT. It must not keep token, which lives in the
// request's buffer. Errors: fault.Unauthenticated, fault.PermissionDenied,
// fault.Unavailable.
type Verifier interface {
	Verify(ctx context.Context, token string) (*tenant.Env, error)
}

// Sessions gives a caller a right to secrets of its own, see resolver.Session.
// jwt is verified and must not be kept; it ends at until.
type Sessions interface {
	Session(jwt string, until time.Time) resolver.Session
}

// Resolver answers; see resolver.Resolver for the errors.
type Resolver interface {
	Resolve(ctx context.Context, s resolver.Slot, minimum int64) (resolver.Answer, error)
	ResolveAll(ctx context.Context, s resolver.Slot, minimum int64) (resolver.Set, error)
	Connector(ctx context.Context, q resolver.ByID, minimum int64) (resolver.Answer, error)
}

// Categories knows the declared categories. The result must not alias name.
type Categories interface {
	Category(name string) (providers.Category, bool)
}

// LocalOptions configure a Local. Verifier, Resolver and Categories are needed.
type LocalOptions struct {
	Verifier   Verifier
	Resolver   Resolver
	Categories Categories
	Sessions   Sessions      // nil: secrets are read with the process's own right
	Log        *slog.Logger  // nil discards
	Registry   *obs.Registry // nil counts nothing

	AllowedHosts      []string // beside localhost, 127.0.0.1 and [::1]
	TrustedForwarders []string // addresses or prefixes
	TokenFile         string   // "" asks for no second token
	Deadline          time.Duration
	UnixSocket        bool // the listener is a Unix socket: its mode guards it, not the Host

	timeouts timeouts // zero ones are the defaults
}

// timeouts are how long a connection may take for a whole request, for reading
// an answer, and between requests.
type timeouts struct{ read, write, idle time.Duration }

// Local is the local API (DESIGN 3.2).
type Local struct {
	o       LocalOptions
	app     *fiber.App
	guard   *guard
	token   *localToken
	other   *obs.Route
	sources [3]*obs.Counter // by rank
	stale   *obs.Counter
	pool    sync.Pool
}

// NewLocal returns the local API, not yet serving.
// Errors: fault.InvalidArgument for options that can't be used.
func NewLocal(o LocalOptions) (*Local, error) {
	if o.Verifier == nil || o.Resolver == nil || o.Categories == nil {
		return nil, fault.New(fault.InvalidArgument, "the local API needs a verifier, a resolver and categories")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Deadline <= 0 {
		o.Deadline = 2 * time.Second
	}
	l := &Local{o: o}
	l.pool.New = func() any { return &request{ctx: &lazyContext{}} }
	var err error
	if l.guard, err = newGuard(o.AllowedHosts, o.TrustedForwarders, o.UnixSocket); err != nil {
		return nil, err
	}
	if l.token, err = newLocalToken(o.TokenFile, o.Log); err != nil {
		return nil, err
	}
	var requests *obs.Requests
	if o.Registry != nil {
		requests = o.Registry.NewRequests("local")
		sources := []resolver.Source{resolver.FromMemory, resolver.FromRedis, resolver.FromDatabase}
		counters := o.Registry.Counters("answers_total", "Answers by where they came from.", "source",
			string(sources[0]), string(sources[1]), string(sources[2]))
		for _, s := range sources {
			l.sources[rank(s)] = counters[string(s)]
		}
		l.stale = o.Registry.Counter("stale_answers_total", "Answers served while an upstream was down.")
	}
	l.app = newApp(func(c *fiber.Ctx, err error) error {
		// Requests that never reached a route: oversized headers, bad syntax.
		l.refuse(c, problem.FromFiber(err))
		return nil
	})
	server := l.app.Server()
	// The connections keep these (see patient).
	l.o.timeouts = timeouts{
		read: cmp.Or(o.timeouts.read, server.ReadTimeout), write: cmp.Or(o.timeouts.write, server.WriteTimeout),
		idle: cmp.Or(o.timeouts.idle, server.IdleTimeout),
	}
	server.ReadTimeout, server.WriteTimeout, server.IdleTimeout = 0, 0, 0
	route := func(pattern string, h func(*request) error) {
		m := requests.Route(pattern)
		l.app.All(pattern, func(c *fiber.Ctx) error { l.serve(c, pattern, m, h); return nil })
	}
	route("/v1/resolve/:category", l.resolve)
	route("/v1/resolve", l.resolveAll)
	route("/v1/connectors/:id", l.connector)
	route("/v1/env", l.env)
	l.other = requests.Route("other")
	l.app.Use(func(c *fiber.Ctx) error { l.serve(c, "other", l.other, noRoute); return nil })
	return l, nil
}

func noRoute(*request) error { return fault.New(fault.NotFound, "there is no such route") }

// newApp returns a Fiber app with what every listener here needs.
func newApp(onError fiber.ErrorHandler) *fiber.App {
	return fiber.New(fiber.Config{
		CaseSensitive: true, StrictRouting: true, DisableStartupMessage: true,
		ReadBufferSize: headerLimit, BodyLimit: 64 << 10, // a GET's body is read, and thrown away
		ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		ErrorHandler: onError,
	})
}

// Handler is the API as a fasthttp handler, for benchmarks and for Serve.
func (l *Local) Handler() fasthttp.RequestHandler {
	inner := l.app.Handler()
	return func(ctx *fasthttp.RequestCtx) {
		// Fiber answers a method that it doesn't know in plain text, before any
		// route or error handler.
		if !ctx.IsGet() && !known(ctx) {
			c := l.app.AcquireCtx(ctx)
			defer l.app.ReleaseCtx(c)
			l.serve(c, "other", l.other, noRoute)
			return
		}
		inner(ctx)
	}
}

func known(ctx *fasthttp.RequestCtx) bool {
	for _, m := range fiber.DefaultMethods {
		if string(ctx.Method()) == m {
			return true
		}
	}
	return false
}

// Serve blocks until Shutdown (nil) or until the listener fails.
func (l *Local) Serve(ln net.Listener) error {
	server := l.app.Server()
	server.Handler = l.Handler()
	if err := server.Serve(patient{ln, l.o.timeouts}); err != nil {
		return fault.New(fault.Unavailable, "the local API's listener failed").WithCause(err)
	}
	return nil
}

// Shutdown closes the listener and waits for requests in flight until ctx ends.
func (l *Local) Shutdown(ctx context.Context) error {
	return shutdown(ctx, l.app)
}

func shutdown(ctx context.Context, app *fiber.App) error {
	if err := app.Server().ShutdownWithContext(ctx); err != nil {
		return fault.New(fault.DeadlineExceeded, "requests were still in flight").WithCause(err)
	}
	return nil
}

// request is one call's state. It is pooled: nothing may keep it.
type request struct {
	c        *fiber.Ctx
	began    time.Time
	ctx      *lazyContext
	wanted   wanted
	id       string // made on first need
	token    []byte // verified; the request's own buffer
	env      *tenant.Env
	org      tenant.OrganizationID
	minimum  int64
	category providers.Category
	conn     connector.ID
	source   resolver.Source
	negative resolver.Answer // what an error that is an answer tells of itself; without a source none is
	partial  error           // what an answer lacks, for the log
	broken   bool            // partial holds an internal error
	scratch  [20]byte
}

// requestID is the caller's X-Request-Id, so that an app's log and ours can be
// joined, where it is harmless in a log line; else one of our own.
func (r *request) requestID() string {
	if r.id == "" {
		if given := r.c.Request().Header.Peek("X-Request-Id"); harmlessID(given) {
			r.id = string(given)
		} else {
			r.id = obs.NewRequestID()
		}
	}
	return r.id
}

// harmlessID accepts [A-Za-z0-9._-]{1,64}. A JWT is longer, so that one in the
// wrong header is not repeated.
func harmlessID(b []byte) bool {
	if len(b) == 0 || len(b) > 64 {
		return false
	}
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// serve is the frame of every request: guard, handler, error, metric, log.
func (l *Local) serve(c *fiber.Ctx, pattern string, m *obs.Route, h func(*request) error) {
	start := c.Context().Time() // when the request had been read
	if start.IsZero() {         // not from a server
		start = time.Now()
	}
	r := l.pool.Get().(*request) //nolint:forcetypeassert // the pool holds nothing else
	r.c, r.began, r.ctx.at = c, start, start.Add(l.o.Deadline)
	err := l.run(r, h)
	if err != nil {
		problem.Write(c, err, r.requestID())
		if r.negative.Source != "" {
			l.tell(r, r.negative)
		}
		if errors.Is(err, fault.Malformed) {
			// Where such a request ends is in doubt too: what follows on the
			// connection may be a part of it.
			c.Context().SetConnectionClose()
		}
	}
	status, took := c.Response().StatusCode(), time.Since(start)
	m.Done(status, took)
	l.event(r, pattern, status, took, err)
	ctx := r.ctx
	if !ctx.end() {
		ctx = &lazyContext{}
	}
	*r = request{ctx: ctx}
	l.pool.Put(r)
}

// run calls the handler behind the guard. A panic is an internal error of this
// request only; its value may hold anything, so only the stack is logged.
func (l *Local) run(r *request, h func(*request) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Internal, problem.InternalDetail).WithCause(errors.New("panic: " + string(debug.Stack())))
		}
	}()
	if err := l.guard.read(r.c, &r.wanted); err != nil {
		return err
	}
	if !r.c.Context().IsGet() {
		return fault.New(fault.MethodNotAllowed, "the local API answers GET only")
	}
	if l.token != nil && r.c.Path() != awsCredentials {
		if err := l.token.check(r.wanted.token); err != nil {
			return err
		}
	}
	return h(r)
}

// refuse answers a request that never reached a route.
func (l *Local) refuse(c *fiber.Ctx, err error) {
	id := obs.NewRequestID()
	problem.Write(c, err, id)
	status := c.Response().StatusCode()
	l.other.Done(status, 0)
	l.o.Log.Info("request", obs.FieldRequestID, id, obs.FieldRoute, "other", obs.FieldStatus, status, obs.FieldCode, string(fault.CodeOf(err)))
}

// event logs one structured line per request. Hits are debug events, because at
// thousands a second they would be the load; a level that is off costs nothing.
// Nothing that the caller wrote is in a line but what was parsed into an id.
func (l *Local) event(r *request, pattern string, status int, took time.Duration, err error) {
	if err == nil {
		err = r.partial
	}
	level := slog.LevelInfo
	switch {
	case r.broken, status >= 500 && problem.CodeOf(err) == fault.Internal:
		level = slog.LevelError
	case err == nil && (r.source == resolver.FromMemory || r.source == ""):
		level = slog.LevelDebug
	}
	if !l.o.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs, slog.String(obs.FieldRequestID, r.requestID()), slog.String(obs.FieldRoute, pattern),
		slog.Int(obs.FieldStatus, status), slog.Float64(obs.FieldDuration, float64(took.Microseconds())/1000))
	if r.env != nil {
		attrs = append(attrs, slog.String(obs.FieldTenant, r.env.Tenant().String()), slog.String(obs.FieldOrganization, r.org.String()))
	}
	if r.category != "" {
		attrs = append(attrs, slog.String(obs.FieldCategory, string(r.category)))
	}
	if !r.conn.IsZero() {
		attrs = append(attrs, slog.String(obs.FieldConnector, r.conn.String()))
	}
	if r.source != "" {
		attrs = append(attrs, slog.String(obs.FieldSource, string(r.source)))
	}
	if err != nil {
		attrs = append(attrs, slog.String(obs.FieldCode, string(problem.CodeOf(err))), slog.String(obs.FieldError, err.Error()))
	}
	l.o.Log.LogAttrs(context.Background(), level, "request", attrs...)
}
