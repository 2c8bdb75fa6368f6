package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// Client is the Store over HashiCorp Vault (KV version 2) or OpenBao.
type Client struct {
	o     Options
	base  string // scheme and host
	http  *http.Client
	slots chan struct{}

	held  atomic.Pointer[lease] // what requests use; nil before the first login
	login loginState
	kick  chan struct{} // wakes the keeper after a login that a request forced

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	work   sync.WaitGroup

	reads, writes, logins, loginFailures, renewals, refusals atomic.Int64
}

var _ Store = (*Client)(nil)

// Open checks the options and starts the keeper, which logs in in the
// background: an unreachable Vault is no error here, see Ready.
// Errors: fault.InvalidArgument, with a violation per problem.
func Open(ctx context.Context, o Options) (*Client, error) {
	if o.Auth.Method == AuthCallerJWT {
		return nil, fault.New(fault.InvalidArgument, "method caller_jwt has no login of its own; see OpenCallers")
	}
	c, err := newClient(ctx, o)
	if err != nil {
		return nil, err
	}
	c.login.flight = make(chan struct{}) // the keeper's first attempt is under way
	c.work.Go(c.keep)
	return c, nil
}

// newClient is a Client without login and keeper.
func newClient(ctx context.Context, o Options) (*Client, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	transport, err := o.transport()
	if err != nil {
		return nil, err
	}
	c := &Client{
		o: o, base: strings.TrimSuffix(o.Address, "/"),
		http:  &http.Client{Transport: transport, CheckRedirect: sameHostOnce},
		slots: make(chan struct{}, o.MaxConcurrent),
		kick:  make(chan struct{}, 1),
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return c, nil
}

// sameHostOnce follows one redirect within the configured host. A standby
// answers 307 to its active node: following it would send the token to a host
// that nobody configured.
func sameHostOnce(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if len(via) > 1 || req.URL.Host != first.Host || req.URL.Scheme != first.Scheme {
		return http.ErrUseLastResponse
	}
	return nil
}

// lease is a token and what is known of its end.
type lease struct {
	token     secret.Value
	issued    time.Time
	expires   time.Time // zero: it doesn't
	ttl       time.Duration
	first     time.Duration // the lease when it was new; a renewal that gives far less meets max_ttl
	renewable bool
}

// Status is what /readyz and the metrics show. Its text is safe.
type Status struct {
	LoggedIn  bool
	ExpiresAt time.Time // of the held token; zero when it doesn't expire or there is none
	Renewable bool
	LastLogin time.Time
	// LastError is why the newest login or renewal failed, "" once one worked.
	LastError   string
	LastErrorAt time.Time
}

// Status tells how the client stands. It never blocks on Vault.
func (c *Client) Status() Status {
	s := Status{}
	if l := c.held.Load(); l != nil {
		s.ExpiresAt, s.Renewable = l.expires, l.renewable
		s.LoggedIn = l.expires.IsZero() || c.o.Clock().Before(l.expires)
	}
	c.login.mu.Lock()
	defer c.login.mu.Unlock()
	s.LastLogin, s.LastError, s.LastErrorAt = c.login.last, c.login.lastError, c.login.lastErrorAt
	return s
}

// Ready implements Store: a token is held and has not ended. It asks nobody.
func (c *Client) Ready(context.Context) error {
	s := c.Status()
	switch {
	case s.LoggedIn:
		return nil
	case s.LastError != "":
		return fault.New(fault.Unavailable, "not logged in to Vault: "+s.LastError)
	default:
		return fault.New(fault.Unavailable, "not logged in to Vault")
	}
}

// Close implements Store. Requests in flight end with fault.Unavailable or
// their own answer.
func (c *Client) Close() error {
	c.login.mu.Lock() // a request must not start a login once the wait has begun
	c.cancel()
	c.login.mu.Unlock()
	c.work.Wait()
	c.held.Store(nil)
	c.http.CloseIdleConnections()
	return nil
}

// Reads counts the requests that read a bundle or a grant; a retry after a
// fresh login counts again.
func (c *Client) Reads() int64 { return c.reads.Load() }

// Writes counts the requests that store, delete or destroy.
func (c *Client) Writes() int64 { return c.writes.Load() }

// Logins counts the logins that worked.
func (c *Client) Logins() int64 { return c.logins.Load() }

// LoginFailures counts the logins that did not.
func (c *Client) LoginFailures() int64 { return c.loginFailures.Load() }

// Renewals counts the renewals that worked.
func (c *Client) Renewals() int64 { return c.renewals.Load() }

// Refusals counts answers of 403.
func (c *Client) Refusals() int64 { return c.refusals.Load() }

// certificateReason names why a peer was not trusted, "" for other errors.
func certificateReason(err error) string {
	var verify *tls.CertificateVerificationError
	var host x509.HostnameError
	var unknown x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record):
		return "the server does not speak TLS"
	case errors.As(err, &host):
		return "the certificate is for another host"
	case errors.As(err, &unknown):
		return "the certificate is signed by an unknown authority"
	case errors.As(err, &verify):
		return "the certificate is not valid"
	}
	return ""
}
