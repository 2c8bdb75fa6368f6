package httpapi

import (
	"net"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// hot returns the API's handler, a bare Fiber one with the same bytes, and a
// request for both.
func hot(t testing.TB) (ours, bare fasthttp.RequestHandler, request func() *fasthttp.RequestCtx) {
	kit := tenanttest.New(t)
	slot := resolver.Slot{Tenant: tenant.MustID("acme"), Organization: tenant.MustOrganizationID("hq"), Category: "storage"}
	a := answer(`{"connector": {}, "config": {"bucket": "acme-prod"}}`)
	l, err := NewLocal(LocalOptions{
		Verifier: kit.Verifier, Resolver: &table{slots: map[resolver.Slot]resolver.Answer{slot: a}},
		Categories: categories{"storage"}, Registry: obs.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	app := newApp(fiber.DefaultErrorHandler)
	body := a.Body.Reveal()
	app.Get("/v1/resolve/:category", func(c *fiber.Ctx) error {
		c.Response().Header.SetContentType(fiber.MIMEApplicationJSON)
		c.Response().SetBodyRaw(body)
		return nil
	})
	token := kit.Token(tenanttest.Claims{Tenant: "acme", Organization: "hq"})
	return l.Handler(), app.Handler(), func() *fasthttp.RequestCtx {
		var q fasthttp.Request
		q.SetRequestURI("/v1/resolve/storage")
		q.Header.SetHost("localhost:7411")
		q.Header.Set("Authorization", "Bearer "+token)
		var ctx fasthttp.RequestCtx
		ctx.Init(&q, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
		return &ctx
	}
}

// TestHitAllocatesNothing compares with a bare handler, so that what Fiber does
// by itself is not counted.
func TestHitAllocatesNothing(t *testing.T) {
	if underRace {
		t.Skip("the race detector makes sync.Pool allocate at random")
	}
	ours, bare, request := hot(t)
	count := func(h fasthttp.RequestHandler) float64 {
		ctx := request()
		h(ctx)
		if ctx.Response.StatusCode() != 200 {
			t.Fatalf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
		}
		return testing.AllocsPerRun(2000, func() { ctx.Response.Reset(); h(ctx) })
	}
	if o, b := count(ours), count(bare); o > b {
		t.Errorf("a hit allocates %v times, a bare handler %v", o, b)
	}
}

func BenchmarkHit(b *testing.B) {
	ours, bare, request := hot(b)
	for name, h := range map[string]fasthttp.RequestHandler{"ours": ours, "bare": bare} {
		b.Run(name, func(b *testing.B) {
			ctx := request()
			b.ReportAllocs()
			for b.Loop() {
				ctx.Response.Reset()
				h(ctx)
			}
		})
	}
}
