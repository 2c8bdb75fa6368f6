package tenant_test

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// refusal holds what every refusal keeps to: a code of the contract, and a
// message that repeats nothing of the token.
func refusal(t *testing.T, err error, submitted ...string) {
	t.Helper()
	if code := fault.CodeOf(err); code != fault.Unauthenticated && code != fault.PermissionDenied {
		t.Errorf("code %q: %v", code, err)
	}
	for _, s := range submitted {
		if len(s) > 12 && strings.Contains(fault.Message(err), s) {
			t.Errorf("the message %q repeats what was sent", fault.Message(err))
		}
	}
}

// FuzzToken: nothing but the tokens that were signed is ever good.
func FuzzToken(f *testing.F) {
	ec := newES256(f, "ec")
	v := newVerifier(f, memoryIssuer(f, ec))
	signed := []string{ec.sign(f, good()), ec.sign(f, good(map[string]any{"org_ids": []string{"*"}}))}
	parts := strings.Split(signed[0], ".")
	enc := base64.RawURLEncoding.EncodeToString
	for _, s := range append(signed,
		"", ".", "..", "...", strings.Repeat(".", 100), parts[0], parts[0]+"."+parts[1], parts[0]+"."+parts[1]+".",
		parts[0]+".."+parts[2], signed[0]+"=", signed[0]+"\x00", " "+signed[0], strings.ToUpper(signed[0]),
		enc([]byte(`{"alg":"none"}`))+"."+parts[1]+".",
		enc([]byte(`{"alg":"HS256","kid":"ec"}`))+"."+parts[1]+"."+parts[2],
		enc([]byte(`{"alg":"ES256","kid":["ec"]}`))+"."+parts[1]+"."+parts[2],
		enc([]byte(`{"alg":"ES256","alg":"none","kid":"ec"}`))+"."+parts[1]+"."+parts[2],
		enc([]byte(strings.Repeat(`{"a":`, 2000)))+"."+parts[1]+"."+parts[2],
		parts[0]+"."+enc([]byte("null"))+"."+parts[2],
		parts[0]+"."+parts[1]+"."+enc(make([]byte, 64)),
		parts[0]+"."+parts[1]+"."+enc(make([]byte, 1<<12)),
	) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		env, err := v.Verify(t.Context(), token)
		if slices.Contains(signed, token) {
			if err != nil {
				t.Errorf("a good token: %v", err)
			}
			return
		}
		if err == nil {
			t.Fatalf("a token that nobody signed speaks for %v", env.Tenant())
		}
		refusal(t, err, token)
	})
}

// FuzzClaims signs what it is given: an issuer that we trust may still write
// nonsense. What comes out is an Env that keeps the rules, or a refusal.
func FuzzClaims(f *testing.F) {
	ec := newES256(f, "ec")
	v := newVerifier(f, tenant.Issuer{
		Issuer: "https://id.example.com", JWKS: jwks(f, ec), Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"},
		Claims: tenant.Claims{Tenant: "app.tenant", Roles: "https://example.com/roles"},
	})
	head := `{"alg":"ES256","kid":"ec"}`
	base := map[string]any{"app": map[string]any{"tenant": "acme"}, "https://example.com/roles": "connectors.read", "exp": 4102444800}
	for _, change := range []map[string]any{
		{}, {"exp": nil}, {"exp": 1e300}, {"exp": "4102444800"}, {"nbf": 1e300}, {"nbf": -1}, {"iat": []int{}},
		{"app": "acme"}, {"app": nil, "app.tenant": "acme"}, {"app": map[string]any{"tenant": []string{"acme"}}},
		{"app": map[string]any{"tenant": "../x"}}, {"app": map[string]any{"tenant": strings.Repeat("a", 64)}},
		{"org_id": ""}, {"org_id": 7}, {"org_ids": []any{"hq", 7}}, {"org_ids": []string{"*"}}, {"org_ids": []string{"*", "hq"}},
		{"org_ids": map[string]any{}}, {"org_id": "hq", "org_ids": []string{}}, {"org_id": "hq", "org_ids": []string{"hq", "hq"}},
		{"https://example.com/roles": map[string]any{}}, {"https://example.com/roles": []any{nil}}, {"sub": []string{"x"}},
		{"aud": []any{"patchbay", 7}}, {"iss": 7}, {"sub": "\x00\n"},
	} {
		raw, err := json.Marshal(good(map[string]any{"tenant_id": nil, "org_id": nil}, base, change))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(head, string(raw))
	}
	f.Add(`{"alg":"ES256"}`, `{}`)
	f.Add(`{"alg":"ES256","kid":"nobody"}`, `[]`)
	f.Add(`{"alg":"ES256","kid":"ec","crit":["x"]}`, `{"iss":"https://id.example.com","iss":"x"}`)
	enc := base64.RawURLEncoding.EncodeToString
	f.Fuzz(func(t *testing.T, header, claims string) {
		text := enc([]byte(header)) + "." + enc([]byte(claims))
		signature, err := ec.method.Sign(text, ec.key)
		if err != nil {
			t.Fatal(err)
		}
		env, err := v.Verify(t.Context(), text+"."+enc(signature))
		if err != nil {
			refusal(t, err, header, claims)
			return
		}
		if _, err := tenant.ParseID(env.Tenant().String()); err != nil {
			t.Errorf("tenant %q: %v", env.Tenant(), err)
		}
		for _, o := range append(env.Organizations(), env.Organization()) {
			if _, err := tenant.ParseOrganizationID(o.String()); err != nil && !o.IsZero() {
				t.Errorf("organization %q: %v", o, err)
			}
			if !o.IsZero() && !env.Allows(o) {
				t.Errorf("organization %q is not among the allowed", o)
			}
		}
		if env.AllOrganizations() && len(env.Organizations()) > 0 {
			t.Error("all and some organizations at once")
		}
		if y := env.ExpiresAt().Year(); y > 9999 || time.Since(env.ExpiresAt()) > 31*time.Second {
			t.Errorf("good until %v", env.ExpiresAt())
		}
	})
}
