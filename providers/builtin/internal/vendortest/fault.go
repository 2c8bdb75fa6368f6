package vendortest

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

// Fault is a way in which any HTTP vendor fails to answer.
type Fault struct {
	Name string
	Doc  string
	Code providers.TestCode
	// Start starts it, until the test ends, and returns the runtime whose endpoint
	// for the kind leads to it.
	Start func(t *testing.T, kind providers.Kind) providers.Runtime
}

// rfc is the section of HTTP Semantics that a status is defined in.
const rfc = "https://www.rfc-editor.org/rfc/rfc9110#name-"

// Faults lists them, each with the code that a test of every kind finds.
func Faults() []Fault {
	answers := func(h http.HandlerFunc) func(*testing.T, providers.Kind) providers.Runtime {
		return func(t *testing.T, kind providers.Kind) providers.Runtime {
			return at(t, kind, Serve(t, map[string]http.HandlerFunc{"/": h}).URL)
		}
	}
	return []Fault{
		{"HTML instead of JSON", "", providers.CodeUnexpectedBody, answers(Answer(200, "<html><body>Welcome to the hotel's Wi-Fi</body></html>"))},
		{"JSON that the vendor does not document", "", providers.CodeUnexpectedBody, answers(Answer(200, `{"status":"ok"}`))},
		{"JSON of another type", "", providers.CodeUnexpectedBody, answers(Answer(200, `[1,2,3]`))},
		{"JSON that is cut off", "", providers.CodeUnexpectedBody, answers(Answer(200, `{"scopes":["mail.send"`))},
		{"an answer without a body", "", providers.CodeUnexpectedBody, answers(Answer(200, ""))},
		{"a status of 500", rfc + "500-internal-server-error", providers.CodeVendorError, answers(Answer(500, `{"message":"oops"}`))},
		{"a status of 503 as HTML", rfc + "503-service-unavailable", providers.CodeVendorError, answers(Answer(503, "<html>Down for maintenance</html>"))},
		{"a status of 418", "", providers.CodeUnexpectedStatus, answers(Answer(418, `{"message":"teapot"}`))},
		{"429 with Retry-After", "https://www.rfc-editor.org/rfc/rfc6585#section-4", providers.CodeRateLimited,
			answers(Answer(429, `{"message":"slow down"}`, "Retry-After", "30"))},
		{"a redirect to another host", rfc + "redirection-3xx", providers.CodeRedirected, redirect},
		{"no answer at all", "", providers.CodeTimeout, hang("")},
		{"an answer that stops in the middle", "", providers.CodeTimeout, hang("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")},
		{"a body of 1 GB", "", providers.CodeTooLarge, answers(endless)},
		{"a connection that is dropped", "", providers.CodeConnectionReset, dropped},
		{"something that is not HTTP", "", providers.CodeProtocolError, hang("SSH-2.0-OpenSSH_9.6\r\n\r\n")},
		{"nobody listening", "", providers.CodeConnectionRefused, refused},
		{"a certificate that nobody signed", "https://www.rfc-editor.org/rfc/rfc5280#section-6", providers.CodeCertificateUnknown, selfSigned},
		{"a host name that does not resolve", "https://www.rfc-editor.org/rfc/rfc6761#section-6.4", providers.CodeHostNotFound,
			unknown},
		{"a host that egress denies", "", providers.CodeEgressDenied, denied},
		{"a process without a network", "", providers.CodeNoNetwork,
			func(_ *testing.T, _ providers.Kind) providers.Runtime { return providers.Runtime{} }},
	}
}

// Traps makes a trap of every fault: bind makes the provider and its input, and
// step is the step that talks to the vendor first. bind may change what it gets.
func Traps(step string, kind providers.Kind, tokens providers.TokenSource,
	bind func(t *testing.T, rt providers.Runtime) (providers.Provider, providers.Input),
) []providertest.Trap {
	var traps []providertest.Trap
	for _, f := range Faults() {
		traps = append(traps, providertest.Trap{
			Name: f.Name, Doc: f.Doc, Step: step, Status: providers.StepFail, Code: f.Code, Tokens: tokens,
			Make: func(t *testing.T) (providers.Provider, providers.Input) { return bind(t, f.Start(t, kind)) },
		})
	}
	return traps
}

func at(t *testing.T, kind providers.Kind, url string) providers.Runtime {
	t.Helper()
	return Runtime(t, map[string]string{string(kind): url})
}

// redirect leads to a second server, which nobody may ask for anything: a
// credential that follows a redirect belongs to whoever can place one.
func redirect(t *testing.T, kind providers.Kind) providers.Runtime {
	var asked atomic.Int32
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(func() {
		target.Close()
		if n := asked.Load(); n > 0 {
			t.Errorf("the redirect was followed %d times", n)
		}
	})
	return at(t, kind, Serve(t, map[string]http.HandlerFunc{
		"/": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", target.URL+"/elsewhere")
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
	}).URL)
}

// hang answers every connection with the text and then neither says anything
// more nor closes.
func hang(text string) func(*testing.T, providers.Kind) providers.Runtime {
	return func(t *testing.T, kind providers.Kind) providers.Runtime {
		return at(t, kind, raw(t, func(c net.Conn) {
			buf := make([]byte, 4096)
			if _, err := c.Read(buf); err != nil {
				return
			}
			_, _ = io.WriteString(c, text)
			_, _ = io.Copy(io.Discard, c) // until the other side gives up
		}))
	}
}

func dropped(t *testing.T, kind providers.Kind) providers.Runtime {
	return at(t, kind, raw(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		_, _ = c.Read(buf)
	}))
}

// raw serves connections one by one with f, which need not close them.
func raw(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l := listen(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				f(c)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	var c net.ListenConfig
	l, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// endless sends 1 GB, or as much of it as the other side takes.
func endless(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = ' '
	}
	for range 1 << 10 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func refused(t *testing.T, kind providers.Kind) providers.Runtime {
	l := listen(t)
	url := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return at(t, kind, url)
}

func selfSigned(t *testing.T, kind providers.Kind) providers.Runtime {
	server := httptest.NewUnstartedServer(Answer(200, "{}"))
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	t.Cleanup(server.Close)
	return at(t, kind, server.URL)
}

// unknown is a vendor whose name the resolver says does not exist.
func unknown(t *testing.T, kind providers.Kind) providers.Runtime {
	return runtime(t, egress.Config{Resolver: nowhere{}}, map[string]string{string(kind): "https://api.vendor.example.com"})
}

type nowhere struct{}

func (nowhere) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// denied is an operator who allows nothing: loopback is then out of reach.
func denied(t *testing.T, kind providers.Kind) providers.Runtime {
	s := Serve(t, nil)
	t.Cleanup(func() {
		if n := len(s.Requests()); n > 0 {
			t.Errorf("%d requests reached a host that egress denies", n)
		}
	})
	return runtime(t, egress.Config{}, map[string]string{string(kind): s.URL})
}
