package vendortest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/providers"
)

// Request is what the vendor received.
type Request struct {
	Method, Path, Query string // Path as it was escaped
	Header              http.Header
	Body                string
}

// Server is a vendor.
type Server struct {
	URL string

	mu   sync.Mutex
	seen []Request
}

// Serve starts a vendor that answers the given routes ("GET /v3/scopes", in the
// form of http.ServeMux) until the test ends. Any other request is an error of
// the test: a vendor answers only what it documents.
func Serve(t testing.TB, routes map[string]http.HandlerFunc) *Server {
	t.Helper()
	s := &Server{}
	mux := http.NewServeMux()
	for pattern, h := range routes {
		mux.HandleFunc(pattern, h)
	}
	if _, ok := routes["/"]; !ok {
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
			t.Errorf("the vendor documents no %s %s", r.Method, r.URL.Path)
			w.WriteHeader(http.StatusTeapot)
		})
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			t.Errorf("the request's body: %v", err)
		}
		s.mu.Lock()
		s.seen = append(s.seen, Request{r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Clone(), string(body)})
		s.mu.Unlock()
		if r.Header.Get("User-Agent") != "patchbay" || r.Header.Get("Accept") != "application/json" {
			t.Errorf("%s %s does not say who asks and for what: %v", r.Method, r.URL.Path, r.Header)
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Requests returns what was received so far.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.seen...)
}

// Answer is a handler that answers with a status and a body, as JSON where the
// body looks like it. header holds names and values in turn.
func Answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		if !strings.HasPrefix(body, "{") && !strings.HasPrefix(body, "[") {
			w.Header().Set("Content-Type", "text/html")
		}
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// Wants is h for requests that carry this Authorization header. Without it the
// test fails and the vendor answers 401.
func Wants(t testing.TB, authorization string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Values("Authorization"); len(got) != 1 || got[0] != authorization {
			t.Errorf("%s %s carries the authorization %q, not %q", r.Method, r.URL.Path, got, authorization)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h(w, r)
	}
}

// OddSecret has what shells, JSON, URLs, templates and HTML give a meaning to. It
// has to reach the vendor as it is.
const OddSecret = `'single' "double" ` + "`back`" + ` back\slash $HOME ${x} %d %2F {{x}} <b> &amp; a+b ümläut-密码`

// Hang is a handler that never answers.
func Hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// Runtime is a process whose only way out is the real egress policy with
// loopback allowed, and whose operator has set these endpoints.
func Runtime(t testing.TB, endpoints map[string]string) providers.Runtime {
	t.Helper()
	return runtime(t, egress.Config{AnyLoopback: true}, endpoints)
}

func runtime(t testing.TB, c egress.Config, endpoints map[string]string) providers.Runtime {
	t.Helper()
	d, err := egress.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return providers.Runtime{DialContext: d.DialContext, Transport: d.Transport(), Endpoints: endpoints}
}
