package vault_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
	"github.com/patchbay-dev/patchbay/vault/vaulttest"
)

func TestSuite(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	vaulttest.Run(t, vaulttest.Harness{Times: time.Second, Open: func(t *testing.T, log *slog.Logger) vault.Store {
		mount := s.kv(t)
		a := s.appRole(t, t.TempDir(), s.policy(t, mount, "pb/"), nil)
		c := openClient(t, s, mount, a, func(o *vault.Options) { o.Log = log })
		ready(t, c)
		return c
	}, Kept: func(t *testing.T, tn tenant.ID, id connector.ID) string {
		return kept(t, s, name(t, "kv"), tn, id)
	}})
}

// kept is every version of a grant that root can read, as Vault answers it.
func kept(t *testing.T, s *server, mount string, tn tenant.ID, id connector.ID) string {
	t.Helper()
	meta, err := vault.GrantPath(mount+"/metadata/pb", tn, id)
	must(t, err)
	data, err := vault.GrantPath(mount+"/data/pb", tn, id)
	must(t, err)
	held, _ := s.admin(t, "GET", meta, nil)["data"].(map[string]any)
	versions, _ := held["versions"].(map[string]any)
	if len(versions) == 0 {
		t.Fatal("there are no versions")
	}
	var all strings.Builder
	for n := range versions {
		var answer map[string]any
		if err := s.Call(s.root, "GET", data+"?version="+n, nil, &answer); err != nil {
			fmt.Fprintf(&all, "%s: %v\n", n, err)
		}
		fmt.Fprintf(&all, "%s: %v\n", n, answer)
	}
	return all.String()
}

func someRef(tn string) connector.SecretRef {
	return connector.SecretRef{Tenant: tenant.MustID(tn), Connector: connector.NewID(), Pin: vault.NewPin()}
}

func put(t *testing.T, c *vault.Client, ref connector.SecretRef) {
	t.Helper()
	must(t, c.Write(t.Context(), ref, vault.Bundle{Values: secret.Map{"password": secret.New("hunter2")}}))
}

func readable(t *testing.T, c *vault.Client, ref connector.SecretRef) {
	t.Helper()
	b, err := c.Read(t.Context(), ref)
	must(t, err)
	if !b.Values["password"].Equal(secret.New("hunter2")) {
		t.Fatal("another value came back")
	}
}

// fails wants a read to end in a fault that drops nothing.
func fails(t *testing.T, c *vault.Client, ref connector.SecretRef) {
	t.Helper()
	if _, err := c.Read(t.Context(), ref); fault.CodeOf(err) != fault.Unavailable {
		t.Fatalf("got %v, want unavailable", err)
	}
}

func TestShortLeaseIsRenewedThenReplaced(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	mount := s.kv(t)
	// Renewed after 7 s of 12, for what is left to max_ttl; there a renewal gives
	// too little, 4 s before the end. A stall of this machine is shorter than that.
	a := s.appRole(t, t.TempDir(), s.policy(t, mount, "pb/"), object{"token_ttl": "12s", "token_max_ttl": "18s"})
	c := openClient(t, s, mount, a, early)
	ready(t, c)
	ref := someRef("acme")
	put(t, c, ref)
	eventually(t, "a second login", func() bool { readable(t, c, ref); return c.Logins() >= 2 })
	readable(t, c, ref)
	if c.Renewals() == 0 || c.Refusals() != 0 {
		t.Fatalf("%d renewals, %d logins, %d refusals", c.Renewals(), c.Logins(), c.Refusals())
	}
	if st := c.Status(); !st.LoggedIn || st.LastError != "" || !st.Renewable || st.ExpiresAt.IsZero() {
		t.Fatalf("status %+v", st)
	}
}

func TestBatchTokensAreReplacedBeforeTheirEnd(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	mount := s.kv(t)
	// Replaced after 12 s of 20: this machine may stall for seconds in between, and
	// a token that ends meanwhile says nothing about the keeper.
	a := s.appRole(t, t.TempDir(), s.policy(t, mount, "pb/"), object{"token_type": "batch", "token_ttl": "20s"})
	c := openClient(t, s, mount, a, early)
	ready(t, c)
	ref := someRef("acme")
	put(t, c, ref)
	eventually(t, "a second login", func() bool { readable(t, c, ref); return c.Logins() >= 2 })
	readable(t, c, ref)
	if c.Renewals() != 0 || c.Refusals() != 0 {
		t.Fatalf("%d renewals, %d refusals", c.Renewals(), c.Refusals())
	}
}

// early takes the jitter's lowest value.
func early(o *vault.Options) { o.Rand = func() float64 { return 0 } }

func (s *server) revokeAll(t *testing.T, a vault.Auth) {
	t.Helper()
	s.admin(t, "POST", "sys/leases/revoke-force/auth/"+a.MountPath+"/login", object{})
}

func TestRevokedTokenCostsOneLogin(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	mount := s.kv(t)
	a := s.appRole(t, t.TempDir(), s.policy(t, mount, "pb/"), nil)
	c := openClient(t, s, mount, a)
	ready(t, c)
	ref := someRef("acme")
	put(t, c, ref)
	for round := range int64(3) {
		s.revokeAll(t, a)
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				if _, err := c.Read(t.Context(), ref); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if c.Logins() != round+2 {
			t.Fatalf("%d logins after %d revocations", c.Logins(), round+1)
		}
	}
}

func TestFailedLoginKeepsTheHeldToken(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	mount := s.kv(t)
	dir := t.TempDir()
	a := s.appRole(t, dir, s.policy(t, mount, "pb/"), object{"token_type": "batch", "token_ttl": "15s"})
	c := openClient(t, s, mount, a, early) // after 9 s
	ready(t, c)
	ref := someRef("acme")
	put(t, c, ref)
	file(t, dir, "secret-id", "wrong")
	eventually(t, "a login fails", func() bool { return c.LoginFailures() > 0 })
	readable(t, c, ref)
	must(t, c.Ready(t.Context()))
	st := c.Status()
	if !st.LoggedIn || st.LastError != "Vault refuses the login" {
		t.Fatalf("status %+v", st)
	}
	eventually(t, "the token ends", func() bool { return c.Ready(t.Context()) != nil })
	if err := c.Ready(t.Context()); !strings.Contains(fault.Message(err), "refuses the login") {
		t.Fatalf("not ready for another reason: %v", err)
	}
	fails(t, c, ref)
	file(t, dir, "secret-id", secretID)
	ready(t, c)
	readable(t, c, ref)
}

func TestPolicyOfOneTenant(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	mount := s.kv(t)
	a := s.appRole(t, t.TempDir(), s.policy(t, mount, "pb/acme/"), nil)
	c := openClient(t, s, mount, a)
	ready(t, c)
	mine, theirs := someRef("acme"), someRef("globex")
	put(t, c, mine)
	before := c.Logins()
	for range 20 {
		fails(t, c, theirs)
		readable(t, c, mine)
	}
	if err := c.Write(t.Context(), theirs, vault.Bundle{}); fault.CodeOf(err) != fault.Unavailable {
		t.Fatalf("a write elsewhere: %v", err)
	}
	// A forbidden path is not an expired token: one login to make sure, no more.
	if n := c.Logins() - before; n != 1 {
		t.Fatalf("%d logins for 403s that no login cures", n)
	}
	must(t, c.Ready(t.Context()))
}

func TestMountThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	mount := s.kv(t)
	c := openClient(t, s, mount+"x", vault.Auth{Method: vault.AuthToken, TokenFile: file(t, t.TempDir(), "token", s.root)})
	ready(t, c)
	ref := someRef("acme")
	fails(t, c, ref)
	if g, err := c.ReadGrant(t.Context(), ref.Tenant, ref.Connector); fault.CodeOf(err) != fault.Unavailable {
		t.Fatalf("an absent mount reads as a grant that never was: %+v %v", g, err)
	}
	if _, err := c.Tenants(t.Context()); fault.CodeOf(err) != fault.Unavailable {
		t.Fatalf("an absent mount lists as empty: %v", err)
	}
}

func TestTokenFile(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	mount := s.kv(t)
	dir := t.TempDir()
	policy := s.policy(t, mount, "pb/")
	create := func() (string, string) {
		out := s.admin(t, "POST", "auth/token/create", object{"policies": []string{policy}, "ttl": "1h"})
		auth, _ := out["auth"].(map[string]any)
		token, _ := auth["client_token"].(string)
		accessor, _ := auth["accessor"].(string)
		return token, accessor
	}
	first, accessor := create()
	a := vault.Auth{Method: vault.AuthToken, TokenFile: dir + "/token"}
	c := openClient(t, s, mount, a)
	if err := c.Ready(t.Context()); err == nil {
		t.Fatal("ready without a token file")
	}
	file(t, dir, "token", first+"\n")
	ready(t, c)
	ref := someRef("acme")
	put(t, c, ref)
	second, _ := create()
	file(t, dir, "token", second)
	eventually(t, "the new file is read", func() bool { return c.Logins() == 2 })
	s.admin(t, "POST", "auth/token/revoke-accessor", object{"accessor": accessor})
	readable(t, c, ref)
	if c.Refusals() != 0 {
		t.Fatal("the old token was still in use")
	}
	// A bad file never replaces a good token.
	file(t, dir, "token", "hvs.nonsense")
	eventually(t, "the bad file is noticed", func() bool { return c.LoginFailures() > 1 })
	readable(t, c, ref)
	must(t, c.Ready(t.Context()))
	if st := c.Status(); !strings.Contains(st.LastError, "token file") {
		t.Fatalf("status %+v", st)
	}
}

func TestServerAbsentThenStartedThenKilledAndBack(t *testing.T) {
	t.Parallel()
	s := private(t)
	s.Kill()
	dir := t.TempDir()
	a := vault.Auth{
		Method: vault.AuthAppRole, MountPath: name(t, "approle"), RoleID: "fixed-role-id",
		SecretIDFile: file(t, dir, "secret-id", secretID),
	}
	c := openClient(t, s, name(t, "kv"), a)
	ref := someRef("acme")
	fails(t, c, ref)
	if err := c.Ready(t.Context()); fault.CodeOf(err) != fault.Unavailable {
		t.Fatalf("ready without a server: %v", err)
	}
	s.Start(t)
	mount := s.kv(t)
	s.appRole(t, dir, s.policy(t, mount, "pb/"), nil)
	ready(t, c)
	put(t, c, ref)
	s.Kill()
	fails(t, c, ref)
	must(t, c.Ready(t.Context())) // the token is still held: nothing says that it ended
	s.Start(t)
	eventually(t, "the held token works again", func() bool { _, err := c.Read(t.Context(), ref); return err == nil })

	// The token ends with its auth method, as it does where a server was set up
	// anew: the client logs in again.
	s.admin(t, "DELETE", "sys/auth/"+a.MountPath, nil)
	fails(t, c, ref)
	s.appRole(t, dir, s.policy(t, mount, "pb/"), nil)
	eventually(t, "the client logs in again", func() bool { _, err := c.Read(t.Context(), ref); return err == nil })
}

func TestSealedServer(t *testing.T) {
	t.Parallel()
	s := private(t)
	mount := s.kv(t)
	c := openClient(t, s, mount, vault.Auth{Method: vault.AuthToken, TokenFile: file(t, t.TempDir(), "token", s.root)})
	ready(t, c)
	ref := someRef("acme")
	put(t, c, ref)
	s.admin(t, "POST", "sys/seal", object{})
	_, err := c.Read(t.Context(), ref)
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(fault.Message(err), "sealed") {
		t.Fatalf("got %v", err)
	}
}

func TestVersionsThatAreGone(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	mount := s.kv(t)
	c := openClient(t, s, mount, vault.Auth{Method: vault.AuthToken, TokenFile: file(t, t.TempDir(), "token", s.root)})
	ready(t, c)
	ref := someRef("acme")
	put(t, c, ref)
	p, err := vault.BundlePath(mount+"/destroy/pb", ref)
	must(t, err)
	s.admin(t, "PUT", p, object{"versions": []int{1}}) // metadata stays and says so
	if _, err := c.Read(t.Context(), ref); fault.CodeOf(err) != fault.NotFound {
		t.Fatalf("destroyed, metadata left: %v", err)
	}
	refs, err := c.Refs(t.Context(), ref.Tenant, ref.Connector)
	must(t, err)
	if len(refs) != 1 || refs[0].DeletedAt.IsZero() {
		t.Fatalf("%+v", refs)
	}
	// A grant that somebody deleted: no answer to use, but the version to write over.
	id := connector.NewID()
	_, err = c.WriteGrant(t.Context(), ref.Tenant, id, secret.Map{"r": secret.New("1")}, 0)
	must(t, err)
	g, err := vault.GrantPath(mount+"/data/pb", ref.Tenant, id)
	must(t, err)
	s.admin(t, "DELETE", g, nil)
	grant, err := c.ReadGrant(t.Context(), ref.Tenant, id)
	if fault.CodeOf(err) != fault.NotFound || grant.Version != 1 {
		t.Fatalf("%+v %v", grant, err)
	}
	_, err = c.WriteGrant(t.Context(), ref.Tenant, id, secret.Map{"r": secret.New("2")}, grant.Version)
	must(t, err)
}

func TestDeadlineWhileWaitingForASlot(t *testing.T) {
	t.Parallel()
	h := newHang(t)
	c := openClient(t, &server{addr: h.addr}, "secret", vault.Auth{Method: vault.AuthToken, TokenFile: file(t, t.TempDir(), "token", "x")},
		func(o *vault.Options) { o.MaxConcurrent = 1; o.Timeout = time.Minute })
	ready(t, c)
	first := make(chan error, 1)
	long, stop := context.WithCancel(t.Context())
	go func() { _, err := c.Read(long, someRef("acme")); first <- err }()
	<-h.reached // holds the only slot
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Read(short, someRef("acme")); fault.CodeOf(err) != fault.DeadlineExceeded {
		t.Fatalf("waiting for a slot: %v", err)
	}
	stop()
	if err := <-first; fault.CodeOf(err) != fault.DeadlineExceeded {
		t.Fatalf("cancelled in flight: %v", err)
	}
}

func TestCacheKey(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	mount := s.kv(t)
	c := openClient(t, s, mount, vault.Auth{Method: vault.AuthToken, TokenFile: file(t, t.TempDir(), "token", s.root)})
	ready(t, c)
	write := func(fields object) { s.admin(t, "POST", mount+"/data/patchbay/cache-key", object{"data": fields}) }
	_, _, err := c.CacheKey(t.Context(), "patchbay/cache-key")
	if fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("never written: %v", err)
	}
	canary := strings.Repeat("canary-of-a-key-", 2)
	write(object{"key": base64.StdEncoding.EncodeToString([]byte(canary)) + "\n"})
	id, key, err := c.CacheKey(t.Context(), "patchbay/cache-key")
	if err != nil || id != "v1" || key.Reveal() != canary {
		t.Fatalf("%s %v %v", id, key, err)
	}
	for name, fields := range map[string]object{
		"short": {"key": base64.StdEncoding.EncodeToString([]byte("canary"))}, "no base64": {"key": canary + "!"},
		"another field": {"value": canary}, "a number": {"key": 7},
	} {
		write(fields)
		_, _, err := c.CacheKey(t.Context(), "patchbay/cache-key")
		if fault.CodeOf(err) != fault.InvalidArgument || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
	write(object{"key": base64.StdEncoding.EncodeToString([]byte(canary))})
	if id, _, err := c.CacheKey(t.Context(), "patchbay/cache-key"); err != nil || id != "v6" {
		t.Errorf("replaced: %s %v", id, err)
	}
	s.admin(t, "DELETE", mount+"/data/patchbay/cache-key", nil)
	if _, _, err := c.CacheKey(t.Context(), "patchbay/cache-key"); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("deleted: %v", err)
	}
	for _, path := range []string{"", "../sys/seal", "a//b", "/a"} {
		if _, _, err := c.CacheKey(t.Context(), path); fault.CodeOf(err) != fault.InvalidArgument {
			t.Errorf("%q: %v", path, err)
		}
	}
}
