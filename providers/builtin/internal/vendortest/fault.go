package vendortest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

// Fault is a way in which any HTTP vendor fails to answer.
type Fault struct {
	Name string
	Doc  string
	Code providers.TestCode
	// Early: it shows before anything is asked, while connecting or agreeing on TLS.
	Early bool
	// Start starts it, until the test ends, and returns the runtime whose endpoint
	// for the kind leads to it.
	Start func(t *testing.T, kind providers.Kind) providers.Runtime
}

// Rebinding begins the name of the fault whose outcome depends on how many
// connections come before the one that asks.
const Rebinding = "a host name that leads inside from the second look-up on"

// PlainToTLS is what nginx answers, with status 400, to a request without TLS at a
// port with it.
const PlainToTLS = "<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head>" +
	"<body><center><h1>400 Bad Request</h1></center><center>The plain HTTP request was sent to HTTPS port</center><hr><center>nginx</center></body></html>"

const (
	// rfc is the section of HTTP Semantics that a status is defined in.
	rfc = "https://www.rfc-editor.org/rfc/rfc9110#name-"
	// validation says when a certificate is good.
	validation = "https://www.rfc-editor.org/rfc/rfc5280#section-6"

	vendor   = "api.vendor.example.com"
	loopback = "127.0.0.1"
	noise    = "\x00\x8f\x13\xff\n\x01\xfe\x00\x00\r\n\r\n"
)

// Faults lists them, each with the code that a test of every kind finds.
func Faults() []Fault {
	answers := func(h http.HandlerFunc) func(*testing.T, providers.Kind) providers.Runtime {
		return func(t *testing.T, kind providers.Kind) providers.Runtime {
			return at(t, kind, Serve(t, map[string]http.HandlerFunc{"/": h}).URL)
		}
	}
	const early = true
	return []Fault{
		{"HTML instead of JSON", "", providers.CodeUnexpectedBody, !early, answers(Answer(200, "<html><body>Welcome to the hotel's Wi-Fi</body></html>"))},
		{"JSON that the vendor does not document", "", providers.CodeUnexpectedBody, !early, answers(Answer(200, `{"status":"ok"}`))},
		{"JSON of another type", "", providers.CodeUnexpectedBody, !early, answers(Answer(200, `[1,2,3]`))},
		{"JSON that is cut off", "", providers.CodeUnexpectedBody, !early, answers(Answer(200, `{"scopes":["mail.send"`))},
		{"an answer without a body", "", providers.CodeUnexpectedBody, !early, answers(Answer(200, ""))},
		{"a status of 500", rfc + "500-internal-server-error", providers.CodeVendorError, !early, answers(Answer(500, `{"message":"oops"}`))},
		{"a status of 503 as HTML", rfc + "503-service-unavailable", providers.CodeVendorError, !early, answers(Answer(503, "<html>Down for maintenance</html>"))},
		{"a status of 418", "", providers.CodeUnexpectedStatus, !early, answers(Answer(418, `{"message":"teapot"}`))},
		{"429 with Retry-After", "https://www.rfc-editor.org/rfc/rfc6585#section-4", providers.CodeRateLimited, !early,
			answers(Answer(429, `{"message":"slow down"}`, "Retry-After", "30"))},
		{"a redirect to another host", rfc + "redirection-3xx", providers.CodeRedirected, !early, redirect},
		{"a redirect to a metadata service", rfc + "redirection-3xx", providers.CodeRedirected, !early,
			answers(Answer(302, "", "Location", "http://169.254.169.254/latest/meta-data/iam/security-credentials/"))},
		{"no answer at all", "", providers.CodeTimeout, !early, hang("")},
		{"an answer that stops in the middle", "", providers.CodeTimeout, !early, hang("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")},
		{"headers that stop in the middle", "", providers.CodeTimeout, !early, hang("HTTP/1.1 200 OK\r\nContent-Le")},
		{"a body of 1 GB", "", providers.CodeTooLarge, !early, answers(endless)},
		{"headers of 1 GB", "", providers.CodeProtocolError, !early, headers},
		{"a connection that is dropped", "", providers.CodeConnectionReset, !early, dropped},
		{"something that is not HTTP", "", providers.CodeProtocolError, !early, hang("SSH-2.0-OpenSSH_9.6\r\n\r\n")},
		{"binary noise", "", providers.CodeProtocolError, !early, hang(noise)},
		{"plain HTTP where TLS is spoken", "https://nginx.org/en/docs/http/ngx_http_ssl_module.html#errors", providers.CodeTLSWrongMode, !early, answers(Answer(400, PlainToTLS))},
		{"nobody listening", "", providers.CodeConnectionRefused, early, refused},
		{"a connection that nobody accepts", "", providers.CodeTimeout, early, unaccepted},
		{"TLS where plain HTTP is spoken", "https://www.rfc-editor.org/rfc/rfc8446#section-5.1", providers.CodeTLSWrongMode, early,
			https(answers(Answer(200, "{}")))},
		{"a TLS handshake that nobody answers", "https://www.rfc-editor.org/rfc/rfc8446#section-2", providers.CodeTimeout, early, https(hang(""))},
		{"binary noise where TLS is expected", "https://www.rfc-editor.org/rfc/rfc8446#section-5.1", providers.CodeTLSWrongMode, early, https(hang(noise))},
		{"a certificate that nobody signed", validation, providers.CodeCertificateUnknown, early, encrypted(func(t *testing.T) (tls.Certificate, *x509.CertPool) {
			cert, _ := testenv.SelfSigned(t, loopback)
			return cert, nil
		})},
		{"a certificate that nobody signed and the operator trusts, and a status of 500", validation, providers.CodeVendorError, !early,
			encrypted(func(t *testing.T) (tls.Certificate, *x509.CertPool) { return testenv.SelfSigned(t, loopback) })},
		{"a certificate of an authority that the operator does not know", validation, providers.CodeCertificateUnknown, early,
			encrypted(func(t *testing.T) (tls.Certificate, *x509.CertPool) {
				return testenv.NewAuthority(t).Issue(t, loopback), authority(t).Roots()
			})},
		{"an expired certificate", validation, providers.CodeCertificateExpired, early, encrypted(func(t *testing.T) (tls.Certificate, *x509.CertPool) {
			return authority(t).IssueUntil(t, time.Now().Add(-time.Hour), loopback), authority(t).Roots()
		})},
		{"a certificate for another name", rfc + "https-certificate-verificat", providers.CodeCertificateName, early,
			encrypted(func(t *testing.T) (tls.Certificate, *x509.CertPool) {
				return authority(t).Issue(t, "api.other.example", "192.0.2.1"), authority(t).Roots()
			})},
		{"a host name that does not resolve", "https://www.rfc-editor.org/rfc/rfc6761#section-6.4", providers.CodeHostNotFound, early,
			named(names{})},
		{"a host name that leads inside", "https://www.rfc-editor.org/rfc/rfc1918#section-3", providers.CodeEgressDenied, early,
			named(names{vendor: {"10.1.2.3"}})},
		{"a host name of a metadata service", "https://www.rfc-editor.org/rfc/rfc3927#section-2.1", providers.CodeEgressDenied, early,
			named(names{vendor: {"169.254.169.254"}})},
		{Rebinding + ", and a status of 500", "", providers.CodeVendorError, !early, rebinds},
		{"a host that egress denies", "", providers.CodeEgressDenied, early, denied},
		{"a process without a network", "", providers.CodeNoNetwork, early,
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

// unaccepted is a host that drops packets: a connection to it takes for ever.
func unaccepted(t *testing.T, kind providers.Kind) providers.Runtime {
	rt := at(t, kind, "https://"+vendor)
	rt.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	transportOf(rt).DialContext = rt.DialContext
	return rt
}

// https is a fault that is met with TLS.
func https(fault func(*testing.T, providers.Kind) providers.Runtime) func(*testing.T, providers.Kind) providers.Runtime {
	return func(t *testing.T, kind providers.Kind) providers.Runtime {
		rt := fault(t, kind)
		rt.Endpoints[string(kind)] = strings.Replace(rt.Endpoints[string(kind)], "http://", "https://", 1)
		return rt
	}
}

// transportOf is the transport that at made.
func transportOf(rt providers.Runtime) *http.Transport {
	transport, ok := rt.Transport.(*http.Transport)
	if !ok {
		panic("vendortest: the runtime's transport is not its own")
	}
	return transport
}

// authority signs certificates, and is the one that operators trust.
func authority(t *testing.T) *testenv.Authority {
	t.Helper()
	shared.once.Do(func() { shared.authority = testenv.NewAuthority(t) })
	return shared.authority
}

var shared struct {
	once      sync.Once
	authority *testenv.Authority
}

// trusting is rt in a process whose operator trusts these roots and no others.
func trusting(rt providers.Runtime, roots *x509.CertPool) providers.Runtime {
	rt.Roots = roots
	transportOf(rt).TLSClientConfig.RootCAs = roots
	return rt
}

// secure starts a server that answers over TLS, and complains to nobody of
// clients that leave.
func secure(t *testing.T, cert tls.Certificate, h http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = quiet()
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

// Secured starts a server with TLS, until the test ends, and a process whose
// operator trusts it.
func Secured(t *testing.T, h http.HandlerFunc) (url string, rt providers.Runtime) {
	t.Helper()
	cert, roots := testenv.SelfSigned(t, loopback)
	return secure(t, cert, h), trusting(Runtime(t, nil), roots)
}

// encrypted is a vendor with this certificate, where the operator trusts these
// roots (nil: the system's), and whose answer is a status of 500. Who doesn't
// trust it must not ask it for anything: the question carries the credentials.
func encrypted(with func(t *testing.T) (tls.Certificate, *x509.CertPool)) func(*testing.T, providers.Kind) providers.Runtime {
	return func(t *testing.T, kind providers.Kind) providers.Runtime {
		cert, roots := with(t)
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		trusted := false
		if roots != nil {
			_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: loopback})
			trusted = err == nil
		}
		return trusting(at(t, kind, secure(t, cert, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if !trusted {
				t.Error("a server whose certificate is not good was asked")
			}
			w.WriteHeader(http.StatusInternalServerError)
		}))), roots)
	}
}

// headers sends 1 GB of header lines, or as much of it as the other side takes.
func headers(t *testing.T, kind providers.Kind) providers.Runtime {
	return at(t, kind, raw(t, func(c net.Conn) {
		buf := make([]byte, 4096)
		if _, err := c.Read(buf); err != nil {
			return
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n"); err != nil {
			return
		}
		line := "X-More: " + strings.Repeat("x", 1<<20-10) + "\r\n"
		for range 1 << 10 {
			if _, err := io.WriteString(c, line); err != nil {
				return
			}
		}
	}))
}

// named is a vendor at a name that the resolver knows this of.
func named(known names) func(*testing.T, providers.Kind) providers.Runtime {
	return func(t *testing.T, kind providers.Kind) providers.Runtime {
		return runtime(t, egress.Config{Resolver: &lookups{known: known}}, map[string]string{string(kind): "https://" + vendor})
	}
}

// rebinds is a vendor whose name leads to a server that may be reached when it is
// judged, and inside ever after. That it is the first server's answer which is
// heard shows that what was judged is what was dialled.
func rebinds(t *testing.T, kind providers.Kind) providers.Runtime {
	u, err := url.Parse(Serve(t, map[string]http.HandlerFunc{"/": Answer(500, "{}")}).URL)
	if err != nil {
		t.Fatal(err)
	}
	dns := &lookups{known: names{vendor: {loopback, "169.254.169.254"}}}
	return runtime(t, egress.Config{AnyLoopback: true, Resolver: dns}, map[string]string{string(kind): "http://" + net.JoinHostPort(vendor, u.Port())})
}

// names has the address that each look-up of a name answers; the last one is
// answered from then on.
type names map[string][]string

// lookups is the resolver of the tests.
type lookups struct {
	known names
	mu    sync.Mutex
	asked int
}

func (l *lookups) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	answers := l.known[strings.TrimSuffix(host, ".")]
	if len(answers) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i := min(l.asked, len(answers)-1)
	l.asked++
	return []netip.Addr{netip.MustParseAddr(answers[i])}, nil
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
