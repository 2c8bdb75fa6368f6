package providers

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"strings"
)

// Runtime is what a process gives its kinds: the way out to the network, and
// what the operator has set. The zero Runtime has no way out: what would dial
// fails with ErrNoNetwork.
type Runtime struct {
	// DialContext opens a TCP connection under the operator's egress policy. Kinds
	// have no other way to a host that a tenant typed.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Transport is the same policy for HTTP. Shared; kinds don't modify it.
	Transport http.RoundTripper
	// Endpoints are base URLs by "kind" or "kind.purpose" that stand in for the
	// vendor's own: sovereign clouds, test servers. The operator's, never a tenant's.
	Endpoints map[string]string
	// Roots verify servers; nil: the system's.
	Roots *x509.CertPool
	// HostName is what we introduce ourselves with (EHLO).
	HostName string
}

// Binder is implemented by kinds that reach out, or that have endpoints. What
// [Registry.Bind] returns holds the results: providers of the same schema that
// use r. Bind does no I/O and doesn't change its receiver.
type Binder interface {
	Bind(r Runtime) Provider
}

// Endpoint returns the operator's base URL for a kind's purpose, else its URL
// for the whole kind, else fallback. It has no trailing slash.
func (r Runtime) Endpoint(kind Kind, purpose, fallback string) string {
	for _, name := range []string{string(kind) + "." + purpose, string(kind)} {
		if u := r.Endpoints[name]; u != "" {
			return strings.TrimRight(u, "/")
		}
	}
	return strings.TrimRight(fallback, "/")
}

// Client returns an HTTP client over the policy. It follows no redirect: what a
// vendor's API redirects is a finding, and no credential travels along.
func (r Runtime) Client() *http.Client {
	t := r.Transport
	if t == nil {
		t = noTransport{}
	}
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Dial is DialContext, and ErrNoNetwork where there is none.
func (r Runtime) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if r.DialContext == nil {
		return nil, ErrNoNetwork
	}
	return r.DialContext(ctx, network, address)
}

// ErrNoNetwork is what kinds get that were given no way out.
var ErrNoNetwork = errNoNetwork{}

type errNoNetwork struct{}

func (errNoNetwork) Error() string { return "this process gives its kinds no way to the network" }

type noTransport struct{}

func (noTransport) RoundTrip(*http.Request) (*http.Response, error) { return nil, ErrNoNetwork }
