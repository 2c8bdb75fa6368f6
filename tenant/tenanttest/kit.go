package tenanttest

import (
	"maps"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/devissuer"
)

// Claims are what a token says; see devissuer.
type Claims = devissuer.Claims

// Kit is an issuer in memory and a Verifier that trusts it and nobody else.
type Kit struct {
	Verifier *tenant.Verifier
	issuer   *devissuer.Issuer
	t        testing.TB
}

// New makes a Kit with a key of its own.
func New(t testing.TB) *Kit {
	t.Helper()
	issuer, err := devissuer.Generate(nil)
	if err != nil {
		t.Fatalf("generate issuer: %v", err)
	}
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{issuer.VerifierIssuer()}})
	if err != nil {
		t.Fatalf("make verifier: %v", err)
	}
	return &Kit{Verifier: v, issuer: issuer, t: t}
}

// JWKS is the issuer's public key set.
func (k *Kit) JWKS() []byte { return k.issuer.JWKS() }

// Issuer is the configuration that trusts this Kit, for a Verifier of one's own.
func (k *Kit) Issuer() tenant.Issuer { return k.issuer.VerifierIssuer() }

// Token signs good claims.
func (k *Kit) Token(c Claims) string {
	k.t.Helper()
	token, err := k.issuer.Mint(c)
	if err != nil {
		k.t.Fatalf("mint: %v", err)
	}
	return token
}

// Sign signs any claims, for tokens that are wrong. iss, aud and exp are
// filled in where absent; a nil value leaves the claim out.
func (k *Kit) Sign(claims map[string]any) string {
	k.t.Helper()
	all := map[string]any{"iss": devissuer.Name, "aud": devissuer.Audience, "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	token, err := k.issuer.Sign(all)
	if err != nil {
		k.t.Fatalf("sign: %v", err)
	}
	return token
}

// Env signs and verifies a token for tenant with org active ("" for none) and
// orgs allowed; without orgs the token doesn't name any.
func (k *Kit) Env(tenantID, org string, orgs ...string) *tenant.Env {
	k.t.Helper()
	return k.EnvOf(Claims{Tenant: tenantID, Organization: org, Organizations: orgs})
}

// EnvOf is Env with every claim in hand, roles too.
func (k *Kit) EnvOf(c Claims) *tenant.Env {
	k.t.Helper()
	env, err := k.Verifier.Verify(k.t.Context(), k.Token(c))
	if err != nil {
		k.t.Fatalf("verify: %v", err)
	}
	return env
}
