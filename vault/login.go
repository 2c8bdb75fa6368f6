package vault

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// refusedFor is how long a 403 that a fresh login did not cure is believed: a
// policy that forbids one path must not turn every read into a login.
const refusedFor = 5 * time.Second

// errRefused marks a login that Vault answered with no, as opposed to not at all.
var errRefused = errors.New("refused")

// refused is a statusError that errors.Is knows as errRefused.
type refused struct{ statusError }

func (refused) Is(target error) bool { return target == errRefused }

// loginState guards that one login runs at a time and remembers its outcome.
type loginState struct {
	mu           sync.Mutex
	flight       chan struct{} // closed when the attempt under way ends; nil when none is
	err          error         // of the last attempt
	last         time.Time
	lastError    string
	lastErrorAt  time.Time
	refusedUntil time.Time
}

// token returns the held lease. Before the first login it waits for the attempt
// under way; between failed attempts it fails at once, so that callers don't
// spend their deadlines on a Vault that is known to be away.
func (c *Client) token(ctx context.Context) (*lease, error) {
	if l := c.held.Load(); l != nil {
		return l, nil
	}
	c.login.mu.Lock()
	flight := c.login.flight
	c.login.mu.Unlock()
	if flight != nil {
		select {
		case <-flight:
		case <-c.ctx.Done():
		case <-ctx.Done():
			return nil, tooLate(ctx)
		}
	}
	if l := c.held.Load(); l != nil {
		return l, nil
	}
	return nil, fault.New(fault.Unavailable, "not logged in to Vault")
}

// relogin replaces a lease that Vault refused. Callers that hold the same one
// share a login; a caller whose lease has been replaced meanwhile takes the new one.
func (c *Client) relogin(ctx context.Context, refused *lease) (*lease, error) {
	c.login.mu.Lock()
	if l := c.held.Load(); l != nil && l != refused {
		c.login.mu.Unlock()
		return l, nil
	}
	if c.ctx.Err() != nil || c.o.Clock().Before(c.login.refusedUntil) {
		c.login.mu.Unlock()
		return nil, statusFault(http.StatusForbidden)
	}
	flight := c.login.flight
	if flight == nil {
		flight = make(chan struct{})
		c.login.flight = flight
		c.work.Go(func() {
			_ = c.attempt(flight)
			select {
			case c.kick <- struct{}{}:
			default:
			}
		})
	}
	c.login.mu.Unlock()
	select {
	case <-flight:
	case <-ctx.Done():
		return nil, tooLate(ctx)
	}
	if l := c.held.Load(); l != nil && l != refused {
		return l, nil
	}
	// The login failed. The keeper retries with back-off; until its first
	// retry, a read costs Vault one refusal and not a login as well.
	c.believeRefusal(c.o.BackoffMin)
	return nil, statusFault(http.StatusForbidden)
}

// believeRefusal keeps requests from logging in for a while.
func (c *Client) believeRefusal(d time.Duration) {
	c.login.mu.Lock()
	defer c.login.mu.Unlock()
	c.login.refusedUntil = c.o.Clock().Add(d)
}

// attempt logs in once and closes flight. What is held is replaced on success
// only: a failed login may be the auth method's trouble, not the token's.
func (c *Client) attempt(flight chan struct{}) error {
	// Not a caller's context: the login serves all of them.
	l, err := c.logIn(c.ctx)
	if err == nil && c.ctx.Err() == nil {
		c.held.Store(l)
		c.logins.Add(1)
	}
	c.note("login", err)
	c.login.mu.Lock()
	defer c.login.mu.Unlock()
	c.login.flight, c.login.err = nil, err
	if err == nil {
		c.login.last = c.o.Clock()
	}
	close(flight)
	return err
}

// loginOnce is attempt for the keeper: it joins one under way.
func (c *Client) loginOnce() error {
	c.login.mu.Lock()
	flight := c.login.flight
	own := flight == nil
	if own {
		flight = make(chan struct{})
		c.login.flight = flight
	}
	c.login.mu.Unlock()
	if own {
		return c.attempt(flight)
	}
	<-flight
	return c.lastLogin()
}

// lastLogin is the outcome of the newest attempt, whoever asked for it.
func (c *Client) lastLogin() error {
	c.login.mu.Lock()
	defer c.login.mu.Unlock()
	return c.login.err
}

// note records an outcome for Status and logs a failure once per kind of it:
// a Vault that is away for an hour is one line, not a thousand.
func (c *Client) note(action string, err error) {
	if c.ctx.Err() != nil {
		return
	}
	c.login.mu.Lock()
	defer c.login.mu.Unlock()
	before := c.login.lastError
	if err == nil {
		c.login.lastError, c.login.lastErrorAt = "", time.Time{}
		if before != "" {
			c.o.Log.Info("vault login is well again", "action", action)
		}
		return
	}
	if action == "login" {
		c.loginFailures.Add(1)
	}
	c.login.lastError, c.login.lastErrorAt = fault.Message(err), c.o.Clock()
	if before != c.login.lastError {
		c.o.Log.Warn("vault login is in trouble", "action", action, "error", err)
	}
}

// logIn asks the configured auth method for a token. It reads its credential
// files anew, because a projected token or a wrapped secret id rotates in place.
// Errors: fault.Unavailable, errRefused in its tree where Vault said no.
func (c *Client) logIn(ctx context.Context) (*lease, error) {
	a := c.o.Auth
	fields := map[string]string{}
	read := func(field, path string) error {
		v, err := credential(path)
		if err == nil {
			fields[field] = v.Reveal()
		}
		return err
	}
	var err error
	switch a.Method {
	case AuthToken:
		return c.logInByFile(ctx)
	case AuthAppRole:
		fields["role_id"] = a.RoleID
		if a.RoleIDFile != "" {
			err = read("role_id", a.RoleIDFile)
		}
		if err == nil && a.SecretIDFile != "" {
			err = read("secret_id", a.SecretIDFile)
		}
	default:
		if a.Role != "" {
			fields["role"] = a.Role
		}
		err = read("jwt", a.JWTFile)
	}
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return nil, fault.New(fault.Internal, "a login could not be serialised")
	}
	begun := c.o.Clock()
	ans, err := c.send(ctx, secret.Value{}, http.MethodPost, "auth/"+a.MountPath+"/login", secret.NewBody(raw))
	if err != nil {
		return nil, err
	}
	if ans.status >= 400 && ans.status < 500 && ans.status != http.StatusTooManyRequests {
		return nil, fault.New(fault.Unavailable, "Vault refuses the login").WithCause(refused{statusError{ans.status}})
	}
	if ans.status != http.StatusOK {
		return nil, statusFault(ans.status)
	}
	return leaseOf(ans.secret, 0, begun)
}

// leaseOf reads the auth part of a login or renewal; first is the length of the
// lease when it was new, 0 when this is that. The lease counts from begun, when
// the request was made: Vault's clock can only have started later.
func leaseOf(s *api.Secret, first time.Duration, begun time.Time) (*lease, error) {
	if s == nil || s.Auth == nil || s.Auth.ClientToken == "" {
		return nil, fault.New(fault.Unavailable, "Vault's login answer holds no token")
	}
	ttl := time.Duration(s.Auth.LeaseDuration) * time.Second
	return newLease(secret.New(s.Auth.ClientToken), begun, ttl, max(first, ttl), s.Auth.Renewable), nil
}

// newLease dates a token. A ttl of 0 is a token without end (a root token):
// nothing to renew, nothing to replace.
func newLease(token secret.Value, begun time.Time, ttl, first time.Duration, renewable bool) *lease {
	l := &lease{token: token, issued: begun, ttl: ttl, first: first, renewable: renewable && ttl > 0}
	if ttl > 0 {
		l.expires = l.issued.Add(ttl)
	}
	return l
}

// logInByFile takes the token file's content for a login once Vault knows it.
func (c *Client) logInByFile(ctx context.Context) (*lease, error) {
	token, err := credential(c.o.Auth.TokenFile)
	if err != nil {
		return nil, err
	}
	begun := c.o.Clock()
	ans, err := c.send(ctx, token, http.MethodGet, "auth/token/lookup-self", secret.Body{})
	if err != nil {
		return nil, err
	}
	if ans.status == http.StatusForbidden {
		return nil, fault.New(fault.Unavailable, "Vault refuses the token of the token file").WithCause(statusError{ans.status})
	}
	if ans.status != http.StatusOK {
		return nil, statusFault(ans.status)
	}
	ttl, err := ans.secret.TokenTTL()
	if err != nil {
		return nil, fault.New(fault.Unavailable, "Vault's answer about the token is not readable")
	}
	renewable, err := ans.secret.TokenIsRenewable()
	if err != nil {
		return nil, fault.New(fault.Unavailable, "Vault's answer about the token is not readable")
	}
	// A token that is handed over late in its life looks short, but
	// the lease's whole length is what a renewal gives back, not what is left of it.
	first := ttl
	if n, ok := ans.secret.Data["creation_ttl"].(json.Number); ok {
		if s, err := n.Int64(); err == nil {
			first = max(first, time.Duration(s)*time.Second)
		}
	}
	return newLease(token, begun, ttl, first, renewable), nil
}
