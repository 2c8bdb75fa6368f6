package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// While Vault keeps a changed secret back, the old answer is known to be wrong:
// it is not served, nor is the new config with the old secret. What did not
// change, or changed without its secret, needs no Vault.
func TestVaultKeepsASecretBack(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"fails": http.StatusInternalServerError, "is sealed": http.StatusServiceUnavailable, "forbids": http.StatusForbidden} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, options{cache: "{ttl: 2s, negative_ttl: 2s}"})
			f.control()
			p, quiet := f.newPair("initech"), f.newPair("umbrella")
			gate := newVaultGate(t, f)
			s := f.serve(gate.env())
			p.heard(s, 0, time.Now())
			quiet.heard(s, 0, time.Now())
			w := p.watch(1, []int{http.StatusServiceUnavailable}, s)
			gate.refuse(status)
			committed := p.write(1)
			f.eventually("the old answer is not served", func() bool {
				asked := time.Now()
				a := s.get("/v1/resolve/storage", p.token)
				if a.code == http.StatusOK && asked.Sub(committed) > promise+a.age(t) {
					t.Fatalf("%s after the commit: %s", asked.Sub(committed), a.body)
				}
				return a.code == http.StatusServiceUnavailable && a.Code == "unavailable" && a.header.Get("Retry-After") != ""
			})
			f.file("umbrella.xml", strings.Replace(bucketFile("umbrella", 0), "us-east-1", "eu-central-1", 1))
			f.importFile(quiet.file).ok(t)
			f.eventually("a change that leaves the secret alone is served", func() bool {
				a := s.get("/v1/resolve/storage", quiet.token)
				if a.code != http.StatusOK || a.Stale {
					t.Fatalf("%d %s", a.code, a.body)
				}
				return a.Config["region"] == "eu-central-1"
			})
			gate.before.Store(nil)
			f.eventually("Vault answers again", func() bool { return p.is(s) == 1 })
			w.end()
		})
	}
}

// A sidecar's right to Vault ends and is taken away: it logs in again by itself,
// and while it can't, it serves what it holds.
func TestVaultLoginEnds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	p, quiet := f.newPair("initech"), f.newPair("umbrella")
	role := f.approles["sidecar"]
	path := "auth/" + role.Mount + "/role/" + role.Name
	f.vault.Do(t, "POST", path, map[string]any{"token_policies": f.reads, "token_ttl": "2s", "token_max_ttl": "3s", "token_type": "service"})
	s := f.serve()
	quiet.heard(s, 0, time.Now())
	w := p.watch(1, []int{http.StatusServiceUnavailable}, s)
	n := 0
	for began := time.Now(); time.Since(began) < 6*time.Second; { // twice the longest life of a token
		n++
		p.heard(s, n, p.write(n))
	}
	n++
	f.vault.Do(t, "PUT", "sys/leases/revoke-prefix/auth/"+role.Mount, nil)
	p.heard(s, n, p.write(n))

	f.vault.Do(t, "DELETE", path, nil)
	f.vault.Do(t, "PUT", "sys/leases/revoke-prefix/auth/"+role.Mount, nil)
	n++
	committed := p.write(n)
	f.eventually("the changed secret can't be had", func() bool {
		asked := time.Now()
		a := s.get("/v1/resolve/storage", p.token)
		if a.code == http.StatusOK && asked.Sub(committed) > promise+a.age(t) {
			t.Fatalf("%d %s", a.code, a.body)
		}
		return a.code == http.StatusServiceUnavailable
	})
	f.eventually("the probe tells", func() bool { return !s.answers("vault") })
	if code := s.probe("/readyz"); code != http.StatusOK {
		t.Errorf("readyz %d: memory can serve", code)
	}
	if got := quiet.is(s); got != 0 {
		t.Errorf("what is held is not served: %d", got)
	}
	f.vault.Do(t, "POST", path, map[string]any{"token_policies": f.reads})
	f.vault.Do(t, "POST", path+"/role-id", map[string]any{"role_id": role.RoleID})
	f.vault.Do(t, "POST", path+"/custom-secret-id", map[string]any{"secret_id": role.SecretID})
	f.eventually("logged in again", func() bool { return p.is(s) == n })
	w.end()
}

// The issuer's keys rotate under a running sidecar.
func TestKeysRotate(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	p := f.newPair("initech")
	s := f.start(nil, "serve", "--config", f.config("sidecar", "sidecar", ""))
	s.ready()
	if n := p.is(s); n != 0 {
		t.Fatal(n)
	}
	old := p.token
	next := tenanttest.New(t)
	// As a secret store or a ConfigMap does it: a new file takes the old one's place.
	path := filepath.Join(f.dir, "jwks.json")
	if err := os.WriteFile(path+".new", next.JWKS(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	p.token = next.Token(tenanttest.Claims{Tenant: "initech", Organization: "hq", TTL: time.Hour})
	f.eventually("the new key counts", func() bool { return s.get("/v1/resolve/storage", p.token).code == http.StatusOK })
	f.eventually("the old key does not", func() bool { return s.get("/v1/resolve/storage", old).code == http.StatusUnauthorized })
	// A file that makes no sense takes nothing away.
	f.file("jwks.json", "<html>")
	f.eventually("the sidecar has seen it", func() bool {
		a := s.get("/v1/resolve/storage", p.token)
		if a.code != http.StatusOK {
			t.Fatalf("%d %s", a.code, a.body)
		}
		return strings.Contains(s.output(), "the last good ones stay")
	})
}

// A secret that was deleted in Vault is gone by somebody's decision: that is an
// answer, and no outage. A sidecar needs no right beyond reading to tell.
func TestSecretDeletedInVault(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{cache: "{ttl: 1s, negative_ttl: 1s}"})
	f.control()
	p := f.newPair("initech")
	path := "/patchbay/initech"
	for range 2 { // its connector, its pin
		keys, _ := f.vault.Do(t, "LIST", f.mount+"/metadata"+path, nil)["data"].(map[string]any)["keys"].([]any)
		if len(keys) != 1 {
			t.Fatalf("%s: %v", path, keys)
		}
		path += "/" + strings.TrimSuffix(keys[0].(string), "/")
	}
	f.vault.Do(t, "DELETE", f.mount+"/data"+path, nil)
	s := f.serve()
	if a := s.get("/v1/resolve/storage", p.token); a.code != http.StatusFailedDependency || a.Code != "needs_reauthorization" {
		t.Errorf("%d %s", a.code, a.body)
	}
	f.vault.Do(t, "POST", f.mount+"/undelete"+path, map[string]any{"versions": []int{1}})
	f.eventually("an undeleted secret is served", func() bool { return p.is(s) == 0 })
}
