package tenant_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// private is the signer's JWK with its private half, as a careless export has it.
func (s signer) private(t testing.TB) map[string]any {
	t.Helper()
	enc := base64.RawURLEncoding.EncodeToString
	m := s.jwk(t)
	switch k := s.key.(type) {
	case *ecdsa.PrivateKey:
		d, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		m["d"] = enc(d)
	case *rsa.PrivateKey:
		m["d"], m["p"], m["q"] = enc(k.D.Bytes()), enc(k.Primes[0].Bytes()), enc(k.Primes[1].Bytes())
	}
	return m
}

func set(t testing.TB, keys ...any) []byte {
	t.Helper()
	raw, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// with is a JWK with one member more.
func with(jwk map[string]any, member string, value any) map[string]any {
	jwk[member] = value
	return jwk
}

// TestOddKeys: a key that can't be trusted or used is as good as absent, and
// costs nothing but itself.
func TestOddKeys(t *testing.T) {
	t.Parallel()
	ec, odd := newES256(t, "ec"), newES256(t, "odd")
	oct := func(kid string) map[string]any {
		return map[string]any{"kty": "oct", "kid": kid, "k": base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))}
	}
	for name, key := range map[string]any{
		"a private key":                 odd.private(t),
		"a private RSA key":             newRS256(t, "odd", 2048).private(t),
		"a shared secret":               oct("odd"),
		"an encryption key":             with(odd.jwk(t), "use", "enc"),
		"key_ops without verify":        with(odd.jwk(t), "key_ops", []string{"sign"}),
		"a key for another algorithm":   with(odd.jwk(t), "alg", "ES384"),
		"a point that is off the curve": with(odd.jwk(t), "y", odd.jwk(t)["x"]),
		"an unknown curve":              with(odd.jwk(t), "crv", "P-256K"),
		"an unknown type":               with(odd.jwk(t), "kty", "XYZ"),
		"RSA with an exponent of 1":     with(newRS256(t, "odd", 2048).jwk(t), "e", "AQ"),
		"a kid that is a number":        with(odd.jwk(t), "kid", 7),
		"a string":                      "key",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := tenant.Issuer{Issuer: "https://id.example.com", Audiences: []string{"patchbay"}, Algorithms: []string{"ES256", "RS256"}}
			conf.JWKS = set(t, key, ec.jwk(t))
			v := newVerifier(t, conf)
			wantCode(t, v, ec.sign(t, good()), "")
			wantCode(t, v, odd.sign(t, good()), fault.Unauthenticated)
			wantCode(t, v, hs256(t, strings.Repeat("k", 32), good()), fault.Unauthenticated)
			if n := v.Ready()[0].Keys; n != 1 {
				t.Errorf("%d keys", n)
			}
			conf.JWKS = set(t, key)
			if _, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{conf}}); fault.CodeOf(err) != fault.InvalidArgument {
				t.Errorf("a set with nothing else: %v", err)
			}
		})
	}
}

// TestPrivateKeySaysSo: the operator learns which mistake it was, and the log
// doesn't get the key.
func TestPrivateKeySaysSo(t *testing.T) {
	t.Parallel()
	jwk := newES256(t, "ec").private(t)
	_, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{{
		Issuer: "https://id.example.com", JWKS: set(t, jwk), Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"},
	}}})
	if err == nil || !strings.Contains(err.Error(), "private keys") || strings.Contains(err.Error(), jwk["d"].(string)) {
		t.Errorf("got %v", err)
	}
}

// TestDuplicateKid: some issuers rotate under one kid and publish both for a
// while. Each verifies; none hides the other.
func TestDuplicateKid(t *testing.T) {
	t.Parallel()
	a, b, c := newES256(t, "k"), newES256(t, "k"), newES256(t, "k")
	rs := newRS256(t, "k", 2048)
	conf := memoryIssuer(t, a)
	conf.JWKS, conf.Algorithms = set(t, a.jwk(t), rs.jwk(t), b.jwk(t), a.jwk(t)), []string{"ES256", "RS256"}
	v := newVerifier(t, conf)
	for _, s := range []signer{a, b, rs} {
		wantCode(t, v, s.sign(t, good()), "")
	}
	wantCode(t, v, c.sign(t, good()), fault.Unauthenticated)
}

// TestTooManyKeys: a token without a kid is tried against each.
func TestTooManyKeys(t *testing.T) {
	t.Parallel()
	keys := make([]any, 65)
	for i := range keys {
		keys[i] = newES256(t, "").jwk(t)
	}
	conf := memoryIssuer(t, newES256(t, ""))
	conf.JWKS = set(t, keys...)
	if _, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{conf}}); fault.CodeOf(err) != fault.InvalidArgument {
		t.Errorf("65 keys: %v", err)
	}
	conf.JWKS = set(t, keys[:64]...)
	newVerifier(t, conf)
}
