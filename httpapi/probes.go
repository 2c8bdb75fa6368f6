package httpapi

import (
	"context"
	"encoding/json"
	"net"
	"net/http"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"

	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/obs"
)

// Dependency is one upstream as a readiness probe sees it.
type Dependency struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Required: the process is ready only while this one is OK. Redis never is.
	Required bool `json:"required"`
	// Detail is a public sentence; never an upstream's error text.
	Detail string `json:"detail,omitempty"`
}

// ProbesOptions configure the probes' listener. Nil functions count as well.
type ProbesOptions struct {
	// Ready reports every dependency. It must not block: probes are polled.
	Ready func() []Dependency
	// Live returns nil while the config is valid and the listeners are up;
	// draining is live.
	Live    func() error
	Metrics http.Handler // nil: no /metrics
}

// Probes is /livez, /readyz and /metrics.
type Probes struct{ app *fiber.App }

// NewProbes returns the probes, not yet serving.
func NewProbes(o ProbesOptions) *Probes {
	app := newApp(func(c *fiber.Ctx, err error) error {
		problem.Write(c, problem.FromFiber(err), obs.NewRequestID())
		return nil
	})
	app.Get("/livez", func(c *fiber.Ctx) error {
		if o.Live != nil {
			if err := o.Live(); err != nil {
				return plain(c, http.StatusServiceUnavailable, "not live\n")
			}
		}
		return plain(c, http.StatusOK, "ok\n")
	})
	app.Get("/readyz", func(c *fiber.Ctx) error {
		var all []Dependency
		if o.Ready != nil {
			all = o.Ready()
		}
		ready, status := true, http.StatusOK
		for _, d := range all {
			ready = ready && (d.OK || !d.Required)
		}
		if !ready {
			status = http.StatusServiceUnavailable
		}
		if !c.Context().QueryArgs().Has("verbose") {
			return plain(c, status, map[bool]string{true: "ok\n", false: "not ready\n"}[ready])
		}
		body, err := json.Marshal(struct {
			Ready        bool         `json:"ready"`
			Dependencies []Dependency `json:"dependencies"`
		}{ready, append([]Dependency{}, all...)})
		if err != nil {
			return err
		}
		c.Set(fiber.HeaderCacheControl, "no-store")
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Status(status).Send(body)
	})
	if o.Metrics != nil {
		metrics := fasthttpadaptor.NewFastHTTPHandler(o.Metrics)
		app.Get("/metrics", func(c *fiber.Ctx) error { metrics(c.Context()); return nil })
	}
	return &Probes{app}
}

func plain(c *fiber.Ctx, status int, text string) error {
	c.Set(fiber.HeaderCacheControl, "no-store")
	return c.Status(status).SendString(text)
}

// Serve blocks until Shutdown (nil) or until the listener fails.
func (p *Probes) Serve(ln net.Listener) error { return serve(p.app, ln) }

// Shutdown closes the listener and waits for requests in flight until ctx ends.
func (p *Probes) Shutdown(ctx context.Context) error { return shutdown(ctx, p.app) }

// handler is an app without the methods that Fiber answers by itself.
func handler(app *fiber.App) fasthttp.RequestHandler {
	inner := app.Handler()
	return func(ctx *fasthttp.RequestCtx) {
		// Fiber answers HEAD by every GET route, and a method that it doesn't know
		// in plain text, before any route or error handler.
		if ctx.IsHead() || !known(ctx) {
			c := app.AcquireCtx(ctx)
			defer app.ReleaseCtx(c)
			problem.Write(c, fault.New(fault.MethodNotAllowed, "the method is not allowed here"), obs.NewRequestID())
			return
		}
		inner(ctx)
	}
}

func serve(app *fiber.App, ln net.Listener) error {
	server := app.Server()
	server.Handler = handler(app)
	if err := server.Serve(ln); err != nil {
		return fault.New(fault.Unavailable, "a listener failed").WithCause(err)
	}
	return nil
}
