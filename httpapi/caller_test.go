package httpapi

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// counting is a Verifier that counts how often it is asked.
type counting struct {
	Verifier
	asked atomic.Int64
}

func (c *counting) Verify(ctx context.Context, token string) (*tenant.Env, error) {
	c.asked.Add(1)
	return c.Verifier.Verify(ctx, token)
}

// TestCallerOfAConnection: a token is verified once per connection, as long as it
// is the same, alive, and its key its issuer's.
func TestCallerOfAConnection(t *testing.T) {
	t.Parallel()
	ec, _ := newKeys(t)
	next, _ := newKeys(t)
	srv := newKeyServer(t, ecJWK(t, "ec", ec))
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{
		{Issuer: "i", JWKSURL: srv.URL, Audiences: []string{"a"}, Algorithms: []string{"ES256"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := &counting{Verifier: v}
	w := start(t, func(o *LocalOptions) { o.Verifier = c })
	token := func(tenantID string, lives time.Duration, pad int) string {
		return forge(map[string]any{"alg": "ES256", "kid": "ec"}, map[string]any{"iss": "i", "aud": "a", "tenant_id": tenantID,
			"exp": time.Now().Add(lives).Unix(), "pad": strings.Repeat("x", pad)}, es256(ec))
	}
	acme, globex := token("acme", time.Hour, 0), token("globex", time.Hour, 0)
	late, long := token("acme", -10*time.Second, 0), token("acme", time.Hour, maxCallerToken)

	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(conn)
	// ask sends a token over the one connection.
	ask := func(what, token string, status int, says string, asked int64) {
		t.Helper()
		before := c.asked.Load()
		if _, err := io.WriteString(conn, "GET /v1/env HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+token+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != status || !strings.Contains(string(body), says) {
			t.Errorf("%s: %d %s", what, res.StatusCode, body)
		}
		if n := c.asked.Load() - before; n != asked {
			t.Errorf("%s: the verifier was asked %d times, want %d", what, n, asked)
		}
	}
	ask("the first time", acme, 200, `"acme"`, 1)
	ask("again", acme, 200, `"acme"`, 0)
	ask("another token", globex, 200, `"globex"`, 1)
	ask("and back", acme, 200, `"acme"`, 1)
	ask("cut", acme[:len(acme)-1], 401, "unauthenticated", 1)
	ask("longer by one", acme+"A", 401, "unauthenticated", 1)
	ask("after bad ones", acme, 200, `"acme"`, 0)
	ask("past its end, within the skew", late, 200, `"acme"`, 1)
	ask("past its end, again", late, 200, `"acme"`, 1)
	ask("a long one", long, 200, `"acme"`, 1)
	ask("a long one, again", long, 200, `"acme"`, 1)
	ask("before the withdrawal", acme, 200, `"acme"`, 1)
	srv.publish(t, ecJWK(t, "next", next))
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask("after the withdrawal", acme, 401, "unauthenticated", 1)

	if res, _ := w.bearer(acme); res.StatusCode != 401 {
		t.Errorf("on another connection: %d", res.StatusCode)
	}
}

// lent is a Sessions that notes what it was asked for, and the right that it gave.
type lent struct {
	mu    sync.Mutex
	jwt   string
	until time.Time
}

func (l *lent) Session(jwt string, until time.Time) resolver.Session {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jwt, l.until = strings.Clone(jwt), until
	return noRight{}
}

func (l *lent) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jwt, l.until = "", time.Time{}
}

func (l *lent) asked() (jwt string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.jwt, l.until
}

type noRight struct{}

func (noRight) ID() uint64 { return 1 }
func (noRight) Live() bool { return true }
func (noRight) Read(context.Context, connector.SecretRef) (vault.Bundle, error) {
	return vault.Bundle{}, fault.New(fault.Unavailable, "no right")
}

// TestCallersRightEndsWithItsToken: at the last moment at which the token is
// taken, skew included. Earlier, nothing that was read would be kept for a token
// that still does; later, secrets would be held for one that doesn't.
func TestCallersRightEndsWithItsToken(t *testing.T) {
	t.Parallel()
	l := &lent{}
	w := start(t, func(o *LocalOptions) { o.Sessions = l })
	for name, exp := range map[string]time.Time{"fresh": time.Now().Add(time.Hour), "within the skew": time.Now().Add(-10 * time.Second)} {
		token := w.kit.Sign(map[string]any{"tenant_id": "acme", "exp": exp.Unix()})
		for _, path := range []string{"/v1/resolve/storage", "/v1/resolve", "/v1/connectors/" + connectorID.String()} {
			l.forget()
			w.raw("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token + "\r\n\r\n")
			jwt, until := l.asked()
			if want := exp.Truncate(time.Second).Add(tenant.Leeway); jwt != token || !until.Equal(want) {
				t.Errorf("%s, %s: a right until %v, want %v", name, path, until, want)
			}
		}
	}
}
