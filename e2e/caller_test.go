package e2e

import (
	"encoding/json"
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
// tenant. change is made to the role; nil is none.
func (f *fleet) callerConfig(t *testing.T, change func(role map[string]any)) string {
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
	role := map[string]any{
		"role_type": "jwt", "bound_audiences": []string{"patchbay"}, "user_claim": "tenant_id",
		"token_policies": []string{policy}, "token_ttl": "1h", "token_type": "batch",
	}
	if change != nil {
		change(role)
	}
	f.vault.Do(t, "POST", "auth/"+auth+"/role/app", role)
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
	config := f.callerConfig(t, nil)
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
	committed := f.committed("acme")
	f.eventually("the rotated secret is served", func() bool {
		asked := time.Now()
		a := s.get("/v1/resolve/storage", token)
		served := a.Config["secret_access_key"] == "rotated"
		if !served && asked.Sub(committed) > promise+a.age(t) {
			t.Fatalf("not served %s after it was committed: %d %s", asked.Sub(committed), a.code, a.body)
		}
		return served
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

// A token within the clock skew is a caller's like any other: what was read with
// it is held, for as long as the token is taken, and no longer.
func TestCallerWithinTheSkew(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.importFile(exampleFile(t), exampleVariables...).ok(t)
	s := f.start(nil, "serve", "--config", f.callerConfig(t, nil))
	s.ready()
	const skew, left = 30 * time.Second, 8 * time.Second
	exp := time.Now().Add(left - skew).Truncate(time.Second)
	token := f.kit.Sign(map[string]any{"tenant_id": "acme", "org_id": "acme", "exp": exp.Unix()})
	for i := range 4 {
		a := s.get("/v1/resolve/storage", token)
		if a.code != http.StatusOK || a.Config["secret_access_key"] != "s3-secret" || i > 0 && a.header.Get("X-Patchbay-Source") != "memory" {
			t.Fatalf("%d: %d %s from %s", i, a.code, a.body, a.header.Get("X-Patchbay-Source"))
		}
	}
	if l, r := s.metric("patchbay_vault_logins_total"), s.metric("patchbay_vault_reads_total"); l != 1 || r != 1 {
		t.Errorf("%v logins and %v reads for one caller", l, r)
	}
	f.eventually("the token has ended", func() bool {
		a := s.get("/v1/resolve/storage", token)
		if a.code != http.StatusOK && a.code != http.StatusUnauthorized {
			t.Fatalf("%d %s", a.code, a.body)
		}
		return a.code == http.StatusUnauthorized
	})
	if now := time.Now(); now.Before(exp.Add(skew)) || now.After(exp.Add(skew+5*time.Second)) {
		t.Errorf("it ended %v after its exp", now.Sub(exp))
	}
	if l, r := s.metric("patchbay_vault_logins_total"), s.metric("patchbay_vault_reads_total"); l != 1 || r != 1 {
		t.Errorf("%v logins and %v reads until its end", l, r)
	}
	// The next caller has a right of its own to bring: nothing is left of the first.
	if a := s.get("/v1/resolve/storage", f.token("acme", "acme")); a.code != http.StatusOK {
		t.Errorf("the next caller: %d %s", a.code, a.body)
	}
	if l, r := s.metric("patchbay_vault_logins_total"), s.metric("patchbay_vault_reads_total"); l != 2 || r != 2 {
		t.Errorf("%v logins and %v reads for two callers", l, r)
	}
}

// What Vault refuses a caller is that category's error, or that tenant's, and
// nobody else's. Both are 503: Vault's answer doesn't tell whose fault it is.
func TestCallerThatVaultRefuses(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{level: "debug"})
	f.control()
	f.importFile(exampleFile(t), exampleVariables...).ok(t)
	ordinary := f.serve()
	id := ordinary.get("/v1/resolve/storage", f.token("acme", "acme")).Connector.ID
	denied := f.vault.NewPolicy(t, fmt.Sprintf(`path "%s/data/patchbay/acme/%s/*" { capabilities = ["deny"] }`, f.mount, id))
	s := f.start(nil, "serve", "--config", f.callerConfig(t, func(role map[string]any) {
		role["token_policies"] = append(role["token_policies"].([]string), denied)
		role["bound_claims"] = map[string]any{"tenant_id": "acme"}
	}))
	s.connected()
	all := func(token string) (backends map[string]json.RawMessage, errs map[string]problem) {
		t.Helper()
		a := s.get("/v1/resolve", token)
		var set struct {
			Backends map[string]json.RawMessage
			Errors   map[string]problem
		}
		if err := json.Unmarshal(a.body, &set); err != nil || a.code != http.StatusOK {
			t.Fatalf("%d %s: %v", a.code, a.body, err)
		}
		return set.Backends, set.Errors
	}
	unavailable := func(what string, a answer) {
		t.Helper()
		if a.code != http.StatusServiceUnavailable || a.Code != "unavailable" || a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "vault/") || strings.Contains(string(a.body), f.mount) {
			t.Errorf("%s: %d %s, Retry-After %q", what, a.code, a.body, a.header.Get("Retry-After"))
		}
		if a.header.Get("Age") != "" || a.header.Get("X-Patchbay-Source") != "" {
			t.Errorf("%s: what is no answer has an age: %v", what, a.header)
		}
	}

	// One path is forbidden.
	acme := f.token("acme", "acme")
	for range 2 {
		backends, errs := all(acme)
		if _, ok := backends["email"]; !ok || len(backends) != 1 || len(errs) != 1 || errs["storage"].Status != http.StatusServiceUnavailable || errs["storage"].Code != "unavailable" {
			t.Errorf("one path forbidden: %v, errors %v", backends, errs)
		}
	}
	unavailable("the forbidden category", s.get("/v1/resolve/storage", acme))
	unavailable("by id", s.get("/v1/connectors/"+id, acme))
	if a := s.get("/v1/resolve/email", acme); a.code != http.StatusOK || a.header.Get("X-Patchbay-Source") != "memory" {
		t.Errorf("beside it: %d %s", a.code, a.body)
	}
	if n := s.metric("patchbay_vault_logins_total"); n != 1 {
		t.Errorf("%v logins: a forbidden path ended the session", n)
	}
	// A policy is read at each request: the same session is answered once it may.
	f.vault.Do(t, "PUT", "sys/policies/acl/"+denied, map[string]any{"policy": `path "none" { capabilities = ["deny"] }`})
	f.eventually("the path is allowed", func() bool { return s.get("/v1/resolve/storage", acme).code == http.StatusOK })
	if backends, errs := all(acme); len(backends) != 2 || len(errs) != 0 {
		t.Errorf("allowed: %v, errors %v", backends, errs)
	}

	// The login itself is refused.
	globex := f.token("globex", "globex")
	for range 5 {
		unavailable("a refused login", s.get("/v1/resolve/storage", globex))
	}
	if n := s.metric("patchbay_vault_login_failures_total"); n < 1 || n > 2 { // one in five seconds
		t.Errorf("%v logins of a caller whom Vault refuses", n)
	}
	if backends, errs := all(globex); len(backends) != 0 || len(errs) != 1 || errs["storage"].Code != "unavailable" {
		t.Errorf("a refused login: %v, errors %v", backends, errs)
	}
	if a := s.get("/v1/resolve/email", globex); a.code != http.StatusNotFound || a.Code != "no_default_connector" {
		t.Errorf("what needs no secret: %d %s", a.code, a.body)
	}
	if a := s.get("/v1/resolve/storage", acme); a.code != http.StatusOK {
		t.Errorf("another caller: %d %s", a.code, a.body)
	}
	if regexp.MustCompile(`eyJ[\w-]{10,}\.[\w-]+`).MatchString(s.output()) {
		t.Error("the log holds a JWT")
	}
}

// problem is an entry of a set's errors.
type problem struct {
	Status int
	Code   string
}
