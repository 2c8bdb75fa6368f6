package httpapi

import (
	"bytes"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// hot returns the API's server, a bare Fiber one with the same bytes, a request
// for both as it comes over the wire, and the same with another token.
func hot(t testing.TB) (ours, bare *fasthttp.Server, request, other []byte) {
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
	with := func() []byte { // every token has a signature of its own
		token := kit.Token(tenanttest.Claims{Tenant: "acme", Organization: "hq"})
		return []byte("GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost:7411\r\nAuthorization: Bearer " + token + "\r\n\r\n")
	}
	return ours, bare, with(), with()
}

var headEnd = []byte("\r\n\r\n")

// wire is a client's end that costs nothing: it sends a request again and again
// and throws the answers away, but for the first.
type wire struct {
	patientConn // without a connection: what is used of one is below
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

func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

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

// BenchmarkHit is a hit without the kernel: reading the request, the answer,
// writing it.
func BenchmarkHit(b *testing.B) {
	ours, bare, request, other := hot(b)
	for name, s := range map[string]struct {
		*fasthttp.Server
		requests []byte // in one read
	}{
		"ours": {ours, request}, "bare": {bare, request},
		// One connection for several callers, so that each token is hashed.
		"ours, tokens in turns": {ours, slices.Concat(request, other)}, "bare, tokens in turns": {bare, slices.Concat(request, other)},
	} {
		b.Run(name, func(b *testing.B) {
			w := &wire{request: s.requests}
			b.ReportAllocs()
			w.serve(b, s.Server, (b.N+1)/max(1, bytes.Count(s.requests, headEnd)))
		})
	}
}
