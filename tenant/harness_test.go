package tenant_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// signer is a private key with the kid that its public half is published under.
type signer struct {
	kid    string
	method jwt.SigningMethod
	key    crypto.Signer
}

func newES256(t testing.TB, kid string) signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{kid, jwt.SigningMethodES256, k}
}

func newRS256(t testing.TB, kid string, bits int) signer {
	t.Helper()
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return signer{kid, jwt.SigningMethodRS256, k}
}

func newEdDSA(t testing.TB, kid string) signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return signer{kid, jwt.SigningMethodEdDSA, k}
}

func (s signer) sign(t testing.TB, claims map[string]any) string {
	t.Helper()
	tok := jwt.NewWithClaims(s.method, jwt.MapClaims(claims))
	if s.kid != "" {
		tok.Header["kid"] = s.kid
	}
	out, err := tok.SignedString(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s signer) jwk(t testing.TB) map[string]any {
	t.Helper()
	enc := base64.RawURLEncoding.EncodeToString
	m := map[string]any{"use": "sig"}
	if s.kid != "" {
		m["kid"] = s.kid
	}
	switch k := s.key.Public().(type) {
	case *ecdsa.PublicKey:
		b, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		m["kty"], m["crv"], m["x"], m["y"] = "EC", "P-256", enc(b[1:33]), enc(b[33:])
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", enc(k.N.Bytes()), enc(big.NewInt(int64(k.E)).Bytes())
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", enc(k)
	}
	return m
}

func jwks(t testing.TB, signers ...signer) []byte {
	t.Helper()
	keys := []any{}
	for _, s := range signers {
		keys = append(keys, s.jwk(t))
	}
	raw, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// keyServer is a real HTTP server whose answer the test changes.
type keyServer struct {
	*httptest.Server
	fetches atomic.Int64
	mu      sync.Mutex
	handler http.HandlerFunc
}

func newKeyServer(t testing.TB, body []byte) *keyServer {
	t.Helper()
	s := &keyServer{}
	s.answer(body)
	s.Server = httptest.NewServer(http.HandlerFunc(s.ServeHTTP))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.fetches.Add(1)
	s.mu.Lock()
	h := s.handler
	s.mu.Unlock()
	h(w, r)
}

func (s *keyServer) serve(h http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
}

func (s *keyServer) answer(body []byte) {
	s.serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
}

// good returns claims that verify; each change replaces a claim, nil removes it.
func good(changes ...map[string]any) map[string]any {
	c := map[string]any{
		"iss": "https://id.example.com", "aud": "patchbay", "sub": "ann",
		"exp": time.Now().Add(time.Hour).Unix(), "tenant_id": "acme", "org_id": "hq",
	}
	for _, m := range changes {
		for k, v := range m {
			if v == nil {
				delete(c, k)
			} else {
				c[k] = v
			}
		}
	}
	return c
}

func newVerifier(t testing.TB, issuers ...tenant.Issuer) *tenant.Verifier {
	t.Helper()
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: issuers})
	if err != nil {
		t.Fatalf("new verifier: %v", err)
	}
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatalf("refresh: %v", err)
	}
	return v
}

// run runs the verifier's background work for the length of the test.
func run(t testing.TB, v *tenant.Verifier) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- v.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func wantCode(t testing.TB, v *tenant.Verifier, token string, code fault.Code) {
	t.Helper()
	env, err := v.Verify(t.Context(), token)
	if got := fault.CodeOf(err); got != code {
		t.Fatalf("code %q (%v), want %q", got, err, code)
	}
	if (env == nil) != (err != nil) {
		t.Fatalf("env %v beside error %v", env, err)
	}
}

// eventually polls with a deadline, for what a real server does in its own time.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never happened: %s", what)
		}
		<-tick.C
	}
}
