package vault_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/vault"
)

// callerVault is a Vault whose JWT role gives each token what is its tenant's,
// by a templated policy, and nothing else.
type callerVault struct {
	*server
	mount, auth string
	key         signer
	writer      *vault.Client // with every right
}

func newCallerVault(t *testing.T, s *server, ttl string) *callerVault {
	t.Helper()
	v := &callerVault{server: s, mount: s.kv(t), auth: name(t, "jwt"), key: newSigner(t)}
	s.admin(t, "POST", "sys/auth/"+v.auth, object{"type": "jwt"})
	s.admin(t, "POST", "auth/"+v.auth+"/config", object{"jwt_validation_pubkeys": []string{v.key.pem(t)}})
	mounts := s.admin(t, "GET", "sys/auth", nil)
	accessor := mounts["data"].(object)[v.auth+"/"].(object)["accessor"].(string)
	policy := name(t, "callers")
	s.admin(t, "PUT", "sys/policies/acl/"+policy, object{"policy": `path "` + v.mount +
		`/data/pb/{{identity.entity.aliases.` + accessor + `.name}}/*" { capabilities = ["read"] }`})
	s.admin(t, "POST", "auth/"+v.auth+"/role/app", object{
		"role_type": "jwt", "bound_audiences": []string{"patchbay"}, "user_claim": "tenant_id",
		"token_policies": policy, "token_ttl": ttl,
	})
	v.writer = openClient(t, s, v.mount, vault.Auth{Method: vault.AuthToken, TokenFile: file(t, t.TempDir(), "token", s.root)})
	ready(t, v.writer)
	return v
}

func (v *callerVault) jwt(t *testing.T, tenantID string) string {
	t.Helper()
	return v.key.token(t, object{"tenant_id": tenantID, "sub": "app", "aud": "patchbay", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()})
}

func (v *callerVault) open(t *testing.T, change ...func(*vault.Options)) *vault.Callers {
	t.Helper()
	o := vault.Options{
		Address: v.addr, Mount: v.mount, Prefix: "pb",
		Auth: vault.Auth{Method: vault.AuthCallerJWT, MountPath: v.auth, Role: "app"}, BackoffMin: 20 * time.Millisecond,
	}
	for _, f := range change {
		f(&o)
	}
	c, err := vault.OpenCallers(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func TestCallersReadTheirTenantsSecretsOnly(t *testing.T) {
	t.Parallel()
	v := newCallerVault(t, sharedServer(t), "1h")
	c := v.open(t)
	acme, globex := someRef("acme"), someRef("globex")
	put(t, v.writer, acme)
	put(t, v.writer, globex)
	until := time.Now().Add(time.Hour)
	jwt := v.jwt(t, "acme")
	s := c.Session(jwt, until)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := s.Read(t.Context(), acme); err != nil {
				t.Errorf("its own: %v", err)
			}
		})
	}
	wg.Wait()
	if n := c.Client().Logins(); n != 1 {
		t.Errorf("%d logins for one caller", n)
	}
	if c.Session(jwt, until) != s || c.Session(v.jwt(t, "acme"), until) == s {
		t.Error("a session is one JWT's")
	}
	// Even if our own walls fell, Vault would not give this caller another
	// tenant's secrets. The session lives on: the token is fresh, so that the
	// refusal is Vault's word on the path.
	b, err := s.Read(t.Context(), globex)
	if fault.CodeOf(err) != fault.Unavailable || len(b.Values) != 0 || !s.Live() {
		t.Errorf("another tenant's secrets: %v %v, live %v", b.Values.Names(), err, s.Live())
	}
	if _, err := c.Read(t.Context(), acme); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("the process reads by itself: %v", err)
	}
	must(t, c.Ready(t.Context()))
}

func TestCallersThatVaultRefuses(t *testing.T) {
	t.Parallel()
	v := newCallerVault(t, sharedServer(t), "1h")
	c := v.open(t)
	ref := someRef("acme")
	put(t, v.writer, ref)
	until := time.Now().Add(time.Hour)
	other := newSigner(t)
	forged := other.token(t, object{"tenant_id": "acme", "aud": "patchbay", "exp": until.Unix()})
	s := c.Session(forged, until)
	for range 5 {
		_, err := s.Read(t.Context(), ref)
		if fault.CodeOf(err) != fault.Unavailable {
			t.Fatalf("a forged JWT: %v", err)
		}
		if strings.Contains(err.Error()+fault.Message(err), forged) {
			t.Fatal("the error holds the JWT")
		}
	}
	if n := c.Client().LoginFailures(); n != 1 {
		t.Errorf("%d logins of a JWT that Vault refuses", n)
	}
	aud := c.Session(v.key.token(t, object{"tenant_id": "acme", "aud": "another", "exp": until.Unix()}), until)
	if _, err := aud.Read(t.Context(), ref); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("another audience: %v", err)
	}
}

// A session ends with its Vault token's lease, with its JWT, and when Vault takes
// the token back; the next one logs in again.
func TestCallersSessionsEnd(t *testing.T) {
	t.Parallel()
	v := newCallerVault(t, sharedServer(t), "1m")
	var clock testClock
	c := v.open(t, func(o *vault.Options) { o.Clock = clock.now })
	ref := someRef("acme")
	put(t, v.writer, ref)
	jwt := v.jwt(t, "acme")
	s := c.Session(jwt, time.Now().Add(time.Hour))
	if _, err := s.Read(t.Context(), ref); err != nil || !s.Live() {
		t.Fatalf("%v, live %v", err, s.Live())
	}
	clock.add(61 * time.Second)
	if s.Live() {
		t.Error("the session outlives its lease")
	}
	next := c.Session(jwt, time.Now().Add(time.Hour))
	if next == s || next.ID() == s.ID() {
		t.Error("the session was not replaced")
	}
	if _, err := next.Read(t.Context(), ref); err != nil || c.Client().Logins() != 2 {
		t.Errorf("%v after %d logins", err, c.Client().Logins())
	}
	if ended := c.Session(v.jwt(t, "acme"), clock.now().Add(-time.Second)); ended.Live() {
		t.Error("the session outlives its JWT")
	}
}

// A session lasts as long as its JWT is taken, the clock skew included: Vault
// takes such a JWT too. Then it ends, although its Vault token would do for hours.
func TestCallersSessionWithinTheSkew(t *testing.T) {
	t.Parallel()
	v := newCallerVault(t, sharedServer(t), "1h")
	var clock testClock
	c := v.open(t, func(o *vault.Options) { o.Clock = clock.now })
	ref := someRef("acme")
	put(t, v.writer, ref)
	const skew = 30 * time.Second
	exp := time.Now().Add(-5 * time.Second)
	jwt := v.key.token(t, object{"tenant_id": "acme", "aud": "patchbay", "iat": exp.Add(-time.Hour).Unix(), "exp": exp.Unix()})
	until := exp.Add(skew)
	s := c.Session(jwt, until)
	if _, err := s.Read(t.Context(), ref); err != nil || !s.Live() {
		t.Fatalf("past its exp: %v, live %v", err, s.Live())
	}
	if c.Session(jwt, until) != s {
		t.Error("another session within the skew")
	}
	clock.add(skew)
	if s.Live() || c.Session(jwt, until).Live() {
		t.Error("the session outlives the skew")
	}
	if n := c.Client().Logins(); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestCallersTokenTakenBack(t *testing.T) {
	t.Parallel()
	v := newCallerVault(t, sharedServer(t), "1h")
	var clock testClock
	c := v.open(t, func(o *vault.Options) { o.Clock = clock.now })
	ref := someRef("acme")
	put(t, v.writer, ref)
	jwt := v.jwt(t, "acme")
	until := time.Now().Add(time.Hour)
	s := c.Session(jwt, until)
	if _, err := s.Read(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	// A path that is forbidden for good ends nothing, however old the token.
	clock.add(time.Minute)
	forbidden := someRef("globex")
	put(t, v.writer, forbidden)
	if _, err := s.Read(t.Context(), forbidden); fault.CodeOf(err) != fault.Unavailable || !s.Live() {
		t.Errorf("a forbidden path: %v, live %v", err, s.Live())
	}
	v.admin(t, "PUT", "sys/leases/revoke-prefix/auth/"+v.auth+"/login", object{})
	clock.add(time.Minute)
	if _, err := s.Read(t.Context(), ref); fault.CodeOf(err) != fault.Unavailable || s.Live() {
		t.Errorf("%v, live %v", err, s.Live())
	}
	if _, err := c.Session(jwt, until).Read(t.Context(), ref); err != nil {
		t.Errorf("the next session: %v", err)
	}
}

// Tokens that are seen once don't pile up: a session that falls out has ended.
func TestCallersAreBounded(t *testing.T) {
	t.Parallel()
	v := newCallerVault(t, sharedServer(t), "1h")
	c := v.open(t)
	const seen, remembered = 40_000, 16 << 10
	until := time.Now().Add(time.Hour)
	sessions := make([]*vault.Session, seen)
	for i := range sessions {
		sessions[i] = c.Session(strconv.Itoa(i), until)
	}
	eventually(t, "what fell out has ended", func() bool {
		live := 0
		for _, s := range sessions {
			if s.Live() {
				live++
			}
		}
		return live <= remembered
	})
}

// A Vault that is away costs a caller its answer, not its session.
func TestCallersWithoutVault(t *testing.T) {
	t.Parallel()
	v := newCallerVault(t, private(t), "1h")
	c := v.open(t)
	ref := someRef("acme")
	put(t, v.writer, ref)
	jwt, until := v.jwt(t, "acme"), time.Now().Add(time.Hour)
	v.Kill()
	s := c.Session(jwt, until)
	if _, err := s.Read(t.Context(), ref); fault.CodeOf(err) != fault.Unavailable || !s.Live() {
		t.Errorf("%v, live %v", err, s.Live())
	}
	if err := c.Ready(t.Context()); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("ready without Vault: %v", err)
	}
	v.Start(t)
	eventually(t, "the same session reads", func() bool { _, err := s.Read(t.Context(), ref); return err == nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Read(ctx, ref); fault.CodeOf(err) != fault.DeadlineExceeded {
		t.Errorf("a caller who left: %v", err)
	}
	v.admin(t, "POST", "sys/seal", object{})
	if err := c.Ready(t.Context()); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("ready while sealed: %v", err)
	}
}

type testClock struct {
	mu  sync.Mutex
	off time.Duration
}

func (c *testClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.off)
}

func (c *testClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.off += d
}
