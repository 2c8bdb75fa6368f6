package httpapi

import (
	"cmp"
	"context"
	"net"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/patchbay-dev/patchbay/httpapi/adminapi"
	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/obs"
)

// AdminOptions configure the control plane's listener.
type AdminOptions struct {
	// JWKS returns the dev issuer's public keys, served at /dev/jwks.json; nil
	// serves none.
	JWKS func() []byte
	// CheckHost refuses foreign Hosts, Origins and forwarded headers as the local
	// API does: for dev, whose listener is on a laptop's loopback.
	CheckHost    bool
	AllowedHosts []string // with CheckHost, beside localhost
	// API is the admin API; nil serves none.
	API *adminapi.Options

	timeouts timeouts // zero ones are the defaults
}

// Admin is the control plane's HTTP surface.
type Admin struct {
	API *adminapi.API // nil: none is served
	app *fiber.App
}

// NewAdmin returns the admin surface, not yet serving.
// Errors: fault.InvalidArgument.
func NewAdmin(o AdminOptions) (*Admin, error) {
	g, err := newGuard(o.AllowedHosts, nil, false)
	if err != nil {
		return nil, err
	}
	g.ownPages = true
	app := fiber.New(fiber.Config{
		CaseSensitive: true, StrictRouting: true, DisableStartupMessage: true,
		// What a handler reads of a request lives on in tests that outlast it.
		Immutable:      true,
		ReadBufferSize: headerLimit, BodyLimit: adminapi.MaxBody,
		// A request is read whole within its time: a client that sends a byte now and
		// then gains nothing.
		ReadTimeout: cmp.Or(o.timeouts.read, 30*time.Second), WriteTimeout: cmp.Or(o.timeouts.write, 30*time.Second),
		IdleTimeout: cmp.Or(o.timeouts.idle, 2*time.Minute),
		ErrorHandler: func(c *fiber.Ctx, err error) error {
			problem.Write(c, problem.FromFiber(err), obs.NewRequestID())
			return nil
		},
	})
	if o.CheckHost {
		app.Use(func(c *fiber.Ctx) error {
			if err := g.check(c); err != nil {
				return err
			}
			return c.Next()
		})
	}
	if o.JWKS != nil {
		app.Get("/dev/jwks.json", func(c *fiber.Ctx) error {
			c.Set(fiber.HeaderCacheControl, "no-store")
			c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
			return c.Send(o.JWKS())
		})
	}
	a := &Admin{app: app}
	if o.API != nil {
		if a.API, err = adminapi.Mount(app, *o.API); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// Handler is the surface as a fasthttp handler.
func (a *Admin) Handler() fasthttp.RequestHandler { return handler(a.app) }

// Serve blocks until Shutdown (nil) or until the listener fails.
func (a *Admin) Serve(ln net.Listener) error {
	// A body is read before anybody knows who sends it, so a large one is read only
	// of who shows at least something, and only where one is wanted.
	a.app.Server().HeaderReceived = func(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
		return fasthttp.RequestConfig{MaxRequestBodySize: adminapi.BodyLimit(h)}
	}
	return serve(a.app, ln)
}

// Shutdown closes the listener and waits for requests in flight until ctx ends.
func (a *Admin) Shutdown(ctx context.Context) error { return shutdown(ctx, a.app) }
