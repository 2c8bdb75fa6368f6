package httpapi

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// hot returns the API's server, a bare Fiber one with the same bytes, and a
// request for both as it comes over the wire.
func hot(t testing.TB) (ours, bare *fasthttp.Server, request []byte) {
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
	ours = l.app.Server()
	ours.Handler = l.Handler()
	app := newApp(fiber.DefaultErrorHandler)
	body := a.Body.Reveal()
	app.Get("/v1/resolve/:category", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(body)
	})
	bare = app.Server()
	bare.Handler = app.Handler()
	token := kit.Token(tenanttest.Claims{Tenant: "acme", Organization: "hq"})
	return ours, bare, []byte("GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost:7411\r\nAuthorization: Bearer " + token + "\r\n\r\n")
}

// wire is a client's end that costs nothing: it sends a request again and again
// and throws the answers away, but for the first.
type wire struct {
	patientConn // without a connection: its deadlines are noted, never armed
	request     []byte
	left        int
	answer      []byte
}

func (w *wire) Read(b []byte) (int, error) {
	if w.left == 0 {
		return 0, io.EOF
	}
	w.left--
	return copy(b, w.request), nil
}

func (w *wire) Write(b []byte) (int, error) {
	if w.answer == nil {
		w.answer = append(w.answer, b...)
	}
	return len(b), nil
}

func (w *wire) Close() error         { return nil }
func (w *wire) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7411} }
func (w *wire) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000} }

// serve sends n requests over one connection.
func (w *wire) serve(t testing.TB, s *fasthttp.Server, n int) {
	w.left, w.answer = n, nil
	if err := s.ServeConn(w); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(w.answer, []byte("HTTP/1.1 200 ")) {
		t.Fatalf("%s", w.answer)
	}
}

// TestHitAllocatesNothing: from the bytes of a request to those of its answer,
// the token's memory, guard, metrics and log included. It compares with a bare
// handler, so that what the server does by itself is not counted.
func TestHitAllocatesNothing(t *testing.T) {
	if underRace {
		t.Skip("the race detector makes sync.Pool allocate at random")
	}
	ours, bare, request := hot(t)
	const requests = 1000
	count := func(s *fasthttp.Server) float64 {
		w := &wire{request: request}
		w.serve(t, s, 10)
		return testing.AllocsPerRun(10, func() { w.serve(t, s, requests) }) / requests
	}
	// A connection has a few of its own, which the first request pays.
	if o, b := count(ours), count(bare); o > b+0.02 {
		t.Errorf("a hit allocates %.3f times, a bare handler %.3f", o, b)
	}
}

// BenchmarkHit is a hit without the kernel: reading the request, the answer,
// writing it.
func BenchmarkHit(b *testing.B) {
	ours, bare, request := hot(b)
	for name, s := range map[string]*fasthttp.Server{"ours": ours, "bare": bare} {
		b.Run(name, func(b *testing.B) {
			w := &wire{request: request}
			b.ReportAllocs()
			w.serve(b, s, b.N)
		})
	}
}
