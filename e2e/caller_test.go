package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// callerConfig is a sidecar's config without any right of its own in Vault: each
// caller's JWT is exchanged for a token that a templated policy binds to its
// tenant.
func (f *fleet) callerConfig(t *testing.T) string {
	t.Helper()
	keys := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(f.kit.JWKS())
	}))
	t.Cleanup(keys.Close)
	auth := "jwt-" + f.mount
	f.vault.Do(t, "POST", "sys/auth/"+auth, map[string]any{"type": "jwt"})
	f.vault.Do(t, "POST", "auth/"+auth+"/config", map[string]any{"jwks_url": keys.URL})
	data, _ := f.vault.Do(t, "GET", "sys/auth", nil)["data"].(map[string]any)
	method, _ := data[auth+"/"].(map[string]any)
	accessor, _ := method["accessor"].(string)
	policy := f.vault.NewPolicy(t, fmt.Sprintf(`path "%s/data/patchbay/{{identity.entity.aliases.%s.name}}/*" { capabilities = ["read"] }`, f.mount, accessor))
	f.vault.Do(t, "POST", "auth/"+auth+"/role/app", map[string]any{
		"role_type": "jwt", "bound_audiences": []string{"patchbay"}, "user_claim": "tenant_id",
		"token_policies": policy, "token_ttl": "1h", "token_type": "batch",
	})
	path := f.config("sidecar", "sidecar", "")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := regexp.MustCompile(`auth: \{[^}]*\}`).ReplaceAllString(string(text), "auth: {method: caller_jwt, mount: "+auth+", role: app}")
	if changed == string(text) {
		t.Fatal("the config has no auth section")
	}
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The sidecar holds no standing right to any tenant's secrets, and answers as
// one that does.
func TestCallersBringTheirOwnRight(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{level: "debug"})
	f.control()
	f.importFile(exampleFile(t), exampleVariables...).ok(t)
	config := f.callerConfig(t)
	f.run(nil, "check", "--config", config).ok(t)
	s := f.start(nil, "serve", "--config", config)
	s.connected()
	ordinary := f.serve()
	for _, who := range [][2]string{{"acme", "acme"}, {"acme", "acme_labs"}, {"globex", "globex"}} {
		token := f.token(who[0], who[1])
		for _, path := range []string{"/v1/resolve/storage", "/v1/resolve/email", "/v1/resolve"} {
			got, want := s.get(path, token), ordinary.get(path, token)
			if got.code != want.code || got.code == http.StatusOK && string(got.body) != string(want.body) || got.header.Get("ETag") != want.header.Get("ETag") {
				t.Errorf("%v %s: %d %s, an ordinary sidecar: %d %s", who, path, got.code, got.body, want.code, want.body)
			}
		}
	}
	// One login and one read per caller and bundle; the same caller again is
	// served from memory, another caller reads with its own right.
	token := f.token("acme", "acme")
	logins, reads := s.metric("patchbay_vault_logins_total"), s.metric("patchbay_vault_reads_total")
	for i := range 5 {
		if a := s.get("/v1/resolve/storage", token); a.code != http.StatusOK || i > 0 && a.header.Get("X-Patchbay-Source") != "memory" {
			t.Fatalf("%d %s from %s", a.code, a.body, a.header.Get("X-Patchbay-Source"))
		}
	}
	if l, r := s.metric("patchbay_vault_logins_total")-logins, s.metric("patchbay_vault_reads_total")-reads; l != 1 || r != 1 {
		t.Errorf("%v logins and %v reads for one new caller", l, r)
	}
	// A rotation reaches a caller's own memory as any other.
	changed := append([]string{}, exampleVariables...)
	changed[1] = "S3_SECRET=rotated"
	f.importFile(exampleFile(t), changed...).ok(t)
	f.within(time.Second, "the rotated secret is served", func() bool {
		return s.get("/v1/resolve/storage", token).Config["secret_access_key"] == "rotated"
	})
	if regexp.MustCompile(`eyJ[\w-]{10,}\.[\w-]+`).MatchString(s.output()) {
		t.Error("the log holds a JWT")
	}
	// The control plane has no caller whose right it could use.
	for _, command := range []string{"admin", "import"} {
		o := f.run(nil, command, "--config", config, "x.xml")
		if command == "admin" {
			o = f.run(nil, command, "--config", config)
		}
		if o.code != 2 || !strings.Contains(o.err, "caller_jwt is for sidecar serve") {
			t.Errorf("%s: exit %d %s", command, o.code, o.err)
		}
	}
}
