package httpapi

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/tenant"
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
