package httpapi

import (
	"context"
	"net"

	"github.com/gofiber/fiber/v2"

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
}

// Admin is the control plane's HTTP surface.
type Admin struct{ app *fiber.App }

// NewAdmin returns the admin surface, not yet serving.
// Errors: fault.InvalidArgument.
func NewAdmin(o AdminOptions) (*Admin, error) {
	g, err := newGuard(o.AllowedHosts, nil, false)
	if err != nil {
		return nil, err
	}
	app := newApp(func(c *fiber.Ctx, err error) error {
		problem.Write(c, problem.FromFiber(err), obs.NewRequestID())
		return nil
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
	return &Admin{app}, nil
}

// Serve blocks until Shutdown (nil) or until the listener fails.
func (a *Admin) Serve(ln net.Listener) error { return serve(a.app, ln) }

// Shutdown closes the listener and waits for requests in flight until ctx ends.
func (a *Admin) Shutdown(ctx context.Context) error { return shutdown(ctx, a.app) }
