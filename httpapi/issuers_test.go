package httpapi

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/tenant"
)

// signature signs a token's first two parts. It is written out here because a
// forger doesn't use our issuer either.
type signature func(text string) []byte

func es256(k *ecdsa.PrivateKey) signature {
	return func(text string) []byte {
		d := sha256.Sum256([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, k, d[:])
		if err != nil {
			panic(err)
		}
		out := make([]byte, 64)
		r.FillBytes(out[:32])
		s.FillBytes(out[32:])
		return out
	}
}

func rs256(k *rsa.PrivateKey) signature {
	return func(text string) []byte {
		d := sha256.Sum256([]byte(text))
		out, err := rsa.SignPKCS1v15(rand.Reader, k, crypto.SHA256, d[:])
		if err != nil {
			panic(err)
		}
		return out
	}
}

func hs256(secret []byte) signature {
	return func(text string) []byte {
		m := hmac.New(sha256.New, secret)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// forge makes a token out of anything.
func forge(header map[string]any, claims any, sign signature) string {
	h, err := json.Marshal(header)
	if err != nil {
		panic(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	text := b64(h) + "." + b64(c)
	return text + "." + b64(sign(text))
}

func ecJWK(t *testing.T, kid string, k *ecdsa.PrivateKey) map[string]any {
	t.Helper()
	point, err := k.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(point[1:33]), "y": b64(point[33:])}
}

func newKeys(t *testing.T) (*ecdsa.PrivateKey, *rsa.PrivateKey) {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return ec, rs
}

// keyServer publishes a key set; a nil one hangs until the test ends.
type keyServer struct {
	*httptest.Server
	set     atomic.Pointer[[]byte]
	fetches atomic.Int64
}

func newKeyServer(t *testing.T, keys ...any) *keyServer {
	t.Helper()
	s := &keyServer{}
	s.publish(t, keys...)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fetches.Add(1)
		if set := s.set.Load(); set != nil {
			_, _ = w.Write(*set)
			return
		}
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *keyServer) publish(t *testing.T, keys ...any) {
	t.Helper()
	if keys == nil {
		keys = []any{}
	}
	raw, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	s.set.Store(&raw)
}

// trusting starts a local API that trusts these issuers and keeps their keys
// current.
func trusting(t *testing.T, issuers ...tenant.Issuer) (*world, *tenant.Verifier) {
	t.Helper()
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: issuers})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("verifier: %v", err)
		}
	})
	return start(t, func(o *LocalOptions) { o.Verifier = v }), v
}

func (w *world) bearer(token string) (*http.Response, string) {
	w.t.Helper()
	return w.raw("GET /v1/env HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token + "\r\n\r\n")
}

// becomes polls until a token gets a status.
func (w *world) becomes(status int, token string) {
	w.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		res, body := w.bearer(token)
		if res.StatusCode == status {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("never %d, still %d %s", status, res.StatusCode, body)
		}
		<-tick.C
	}
}

// TestForgedTokens are those that need a hand-made header or a key of one's own.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	ec, rs := newKeys(t)
	other, _ := newKeys(t)
	rsJWK := map[string]any{"kty": "RSA", "kid": "rs", "n": b64(rs.N.Bytes()), "e": b64(big.NewInt(int64(rs.E)).Bytes())}
	srv, pinned := newKeyServer(t, ecJWK(t, "ec", ec), rsJWK), newKeyServer(t, ecJWK(t, "other", other))
	w, _ := trusting(t,
		tenant.Issuer{Issuer: "https://id.example.com", JWKSURL: srv.URL, Audiences: []string{"patchbay"}, Algorithms: []string{"ES256", "RS256"}},
		tenant.Issuer{Issuer: "https://globex.example.com", JWKSURL: pinned.URL, Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}, Tenant: "globex"})
	claims := func(changes ...map[string]any) map[string]any {
		c := map[string]any{"iss": "https://id.example.com", "aud": "patchbay", "tenant_id": "acme", "exp": time.Now().Add(time.Hour).Unix()}
		for _, m := range changes {
			maps.Copy(c, m)
		}
		return c
	}
	fromGlobex := map[string]any{"iss": "https://globex.example.com", "tenant_id": "globex"}
	w.becomes(200, forge(map[string]any{"alg": "ES256", "kid": "ec"}, claims(), es256(ec)))
	w.becomes(200, forge(map[string]any{"alg": "RS256", "kid": "rs"}, claims(), rs256(rs)))
	w.becomes(200, forge(map[string]any{"alg": "ES256", "kid": "other"}, claims(fromGlobex), es256(other)))

	der, err := x509.MarshalPKIXPublicKey(&rs.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	published := *srv.set.Load()
	jwk, err := json.Marshal(rsJWK)
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(string) []byte { return nil }
	for name, row := range map[string]struct {
		token  string
		status int
		code   string
		says   string
	}{
		"alg none":                      {forge(map[string]any{"alg": "none"}, claims(), nothing), 401, "unauthenticated", "algorithm is not allowed"},
		"alg none with a kid":           {forge(map[string]any{"alg": "none", "kid": "ec"}, claims(), es256(ec)), 401, "unauthenticated", "algorithm is not allowed"},
		"alg None":                      {forge(map[string]any{"alg": "None"}, claims(), nothing), 401, "unauthenticated", "unknown algorithm"},
		"alg NONE with a signature":     {forge(map[string]any{"alg": "NONE", "kid": "ec"}, claims(), es256(ec)), 401, "unauthenticated", "unknown algorithm"},
		"alg empty":                     {forge(map[string]any{"alg": "", "kid": "ec"}, claims(), nothing), 401, "unauthenticated", "unknown algorithm"},
		"empty signature":               {forge(map[string]any{"alg": "ES256", "kid": "ec"}, claims(), nothing), 401, "unauthenticated", "signature"},
		"empty signature, RSA":          {forge(map[string]any{"alg": "RS256", "kid": "rs"}, claims(), nothing), 401, "unauthenticated", "signature"},
		"signature of zeros":            {forge(map[string]any{"alg": "ES256", "kid": "ec"}, claims(), func(string) []byte { return make([]byte, 64) }), 401, "unauthenticated", "signature"},
		"HS256 with the JWKS":           {forge(map[string]any{"alg": "HS256", "kid": "rs"}, claims(), hs256(published)), 401, "unauthenticated", "algorithm is not allowed"},
		"HS256 with the JWK":            {forge(map[string]any{"alg": "HS256", "kid": "rs"}, claims(), hs256(jwk)), 401, "unauthenticated", "algorithm is not allowed"},
		"HS256 with the RSA key as PEM": {forge(map[string]any{"alg": "HS256", "kid": "rs"}, claims(), hs256(public)), 401, "unauthenticated", "algorithm is not allowed"},
		"HS256 with the RSA key as DER": {forge(map[string]any{"alg": "HS256", "kid": "rs"}, claims(), hs256(der)), 401, "unauthenticated", "algorithm is not allowed"},
		"HS256 with the modulus":        {forge(map[string]any{"alg": "HS256"}, claims(), hs256(rs.N.Bytes())), 401, "unauthenticated", "algorithm is not allowed"},
		"an algorithm not configured":   {forge(map[string]any{"alg": "PS256", "kid": "rs"}, claims(), rs256(rs)), 401, "unauthenticated", "algorithm is not allowed"},
		"an algorithm nobody knows":     {forge(map[string]any{"alg": "XS999"}, claims(), nothing), 401, "unauthenticated", "unknown algorithm"},
		"wrong key":                     {forge(map[string]any{"alg": "ES256", "kid": "ec"}, claims(), es256(other)), 401, "unauthenticated", "signature"},
		"RS256 on the EC key":           {forge(map[string]any{"alg": "RS256", "kid": "ec"}, claims(), rs256(rs)), 401, "unauthenticated", "signature"},
		"kid of another issuer":         {forge(map[string]any{"alg": "ES256", "kid": "other"}, claims(), es256(other)), 401, "unauthenticated", "key is not known"},
		"key of another issuer":         {forge(map[string]any{"alg": "ES256"}, claims(), es256(other)), 401, "unauthenticated", "signature"},
		"unknown kid":                   {forge(map[string]any{"alg": "ES256", "kid": "nobody"}, claims(), es256(ec)), 401, "unauthenticated", "key is not known"},
		"its own key in the header":     {forge(map[string]any{"alg": "ES256", "jwk": ecJWK(t, "", other)}, claims(), es256(other)), 401, "unauthenticated", "signature"},
		"crit":                          {forge(map[string]any{"alg": "ES256", "kid": "ec", "crit": []string{"b64"}}, claims(), es256(ec)), 401, "unauthenticated", "extension"},
		"pinned, another tenant":        {forge(map[string]any{"alg": "ES256", "kid": "other"}, claims(fromGlobex, map[string]any{"tenant_id": "acme"}), es256(other)), 403, "permission_denied", "does not speak for this tenant"},
		"pinned, tenant a number":       {forge(map[string]any{"alg": "ES256", "kid": "other"}, claims(fromGlobex, map[string]any{"tenant_id": 7}), es256(other)), 401, "unauthenticated", `\"tenant_id\" is malformed`},
		"claims a list":                 {forge(map[string]any{"alg": "ES256", "kid": "ec"}, []int{1}, es256(ec)), 401, "unauthenticated", "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			res, body := w.bearer(row.token)
			w.problem(res, body, row.status, row.code)
			if !strings.Contains(body, row.says) {
				t.Errorf("%s doesn't say %q", body, row.says)
			}
			if got := res.Header.Get("WWW-Authenticate"); (got == "Bearer") != (row.status == 401) {
				t.Errorf("WWW-Authenticate: %q", got)
			}
		})
	}
	if strings.Contains(w.log.String(), "eyJ") {
		t.Error("a token is in the log")
	}
}

// TestNoKeyComesFromAToken: whatever place a header names for its key (RFC 7515,
// 4.1.2 to 4.1.6), nobody goes there, and the key that is in it is nobody's.
func TestNoKeyComesFromAToken(t *testing.T) {
	t.Parallel()
	ec, _ := newKeys(t)
	evil, _ := newKeys(t)
	srv := newKeyServer(t, ecJWK(t, "ec", ec))
	w, _ := trusting(t, tenant.Issuer{Issuer: "i", JWKSURL: srv.URL, Audiences: []string{"a"}, Algorithms: []string{"ES256"}})
	claims := map[string]any{"iss": "i", "aud": "a", "tenant_id": "acme", "exp": time.Now().Add(time.Hour).Unix()}
	w.becomes(200, forge(map[string]any{"alg": "ES256", "kid": "ec"}, claims, es256(ec)))

	set, err := json.Marshal(map[string]any{"keys": []any{ecJWK(t, "evil", evil)}})
	if err != nil {
		t.Fatal(err)
	}
	var connections atomic.Int64
	place := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(set) }))
	place.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	place.Start()
	t.Cleanup(place.Close)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &evil.PublicKey, evil)
	if err != nil {
		t.Fatal(err)
	}
	secure := strings.Replace(place.URL, "http:", "https:", 1)
	for name, header := range map[string]map[string]any{
		"jwk":           {"jwk": ecJWK(t, "evil", evil)},
		"jwk, kid ours": {"jwk": ecJWK(t, "ec", evil), "kid": "ec"},
		"jku":           {"jku": place.URL},
		"jku, its kid":  {"jku": place.URL, "kid": "evil"},
		"jku, kid ours": {"jku": place.URL, "kid": "ec"},
		"jku by https":  {"jku": secure, "kid": "evil"},
		"x5u":           {"x5u": place.URL, "kid": "evil"},
		"x5u by https":  {"x5u": secure},
		"x5c":           {"x5c": []string{base64.StdEncoding.EncodeToString(der)}},
		"kid a URL":     {"kid": place.URL},
		"kid a path":    {"kid": "../../../../dev/null"},
		"iss a place":   nil,
	} {
		c := maps.Clone(claims)
		if header == nil {
			header, c["iss"] = map[string]any{"kid": "evil"}, place.URL
		}
		header = maps.Clone(header)
		header["alg"] = "ES256"
		token := forge(header, c, es256(evil))
		res, body := w.bearer(token)
		w.problem(res, body, 401, "unauthenticated")
		if strings.Contains(body, place.URL) {
			t.Errorf("%s: the place is repeated: %s", name, body)
		}
	}
	// Fetches are made in the background: the issuer's own, which those key ids
	// caused, has been made by the time that this is looked at.
	deadline := time.Now().Add(20 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); srv.fetches.Load() < 2; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("an unknown kid is never looked for at its issuer")
		}
	}
	if n := connections.Load(); n != 0 {
		t.Errorf("%d connections to where a token said", n)
	}
	if strings.Contains(w.log.String(), place.URL) {
		t.Error("the place is in the log")
	}
}

// TestKidStorm: made-up kids cost the issuer one fetch and nobody a wait, although
// the issuer hangs. One that waited would get 504 here.
func TestKidStorm(t *testing.T) {
	t.Parallel()
	ec, _ := newKeys(t)
	srv := newKeyServer(t, ecJWK(t, "ec", ec))
	w, _ := trusting(t, tenant.Issuer{Issuer: "i", JWKSURL: srv.URL, Audiences: []string{"a"}, Algorithms: []string{"ES256"}})
	claims := map[string]any{"iss": "i", "aud": "a", "tenant_id": "acme", "exp": time.Now().Add(time.Hour).Unix()}
	known := forge(map[string]any{"alg": "ES256", "kid": "ec"}, claims, es256(ec))
	w.becomes(200, known)
	srv.set.Store(nil)
	for i := range 200 {
		res, body := w.bearer(forge(map[string]any{"alg": "ES256", "kid": fmt.Sprint("k", i)}, claims, es256(ec)))
		if res.StatusCode != 401 {
			t.Fatalf("kid %d: %d %s", i, res.StatusCode, body)
		}
	}
	if res, body := w.bearer(known); res.StatusCode != 200 {
		t.Errorf("a known key meanwhile: %d %s", res.StatusCode, body)
	}
	if n := srv.fetches.Load(); n > 2 {
		t.Errorf("%d fetches for one storm", n-1)
	}
}

// TestKeySets: what an issuer may publish, as callers see it.
func TestKeySets(t *testing.T) {
	t.Parallel()
	stays, _ := newKeys(t)
	goes, _ := newKeys(t)
	claims := map[string]any{"iss": "i", "aud": "a", "tenant_id": "acme", "exp": time.Now().Add(time.Hour).Unix()}
	first := forge(map[string]any{"alg": "ES256", "kid": "stays"}, claims, es256(stays))
	second := forge(map[string]any{"alg": "ES256", "kid": "goes"}, claims, es256(goes))

	// Never any keys: the one state in which a good token is neither good nor bad.
	srv := newKeyServer(t)
	html := []byte("<html>back soon</html>")
	srv.set.Store(&html)
	w, v := trusting(t, tenant.Issuer{Issuer: "i", JWKSURL: srv.URL, Audiences: []string{"a"}, Algorithms: []string{"ES256"}})
	res, body := w.bearer(first)
	w.problem(res, body, 503, "unavailable")
	if res.Header.Get("Retry-After") == "" || strings.Contains(body, "html") {
		t.Errorf("%v %s", res.Header, body)
	}
	srv.publish(t, ecJWK(t, "stays", stays), ecJWK(t, "goes", goes))
	w.becomes(200, first) // without a restart
	w.becomes(200, second)

	for name, set := range map[string]*[]byte{"HTML": &html, "empty": new([]byte), "no keys": ptr([]byte(`{"keys":[]}`))} {
		srv.set.Store(set)
		if err := v.Refresh(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if res, body := w.bearer(second); res.StatusCode != 200 {
			t.Errorf("%s: the last good keys are gone: %d %s", name, res.StatusCode, body)
		}
	}
	// Shrunk to fewer good keys is a withdrawal, and takes the remembered token along.
	srv.publish(t, ecJWK(t, "stays", stays))
	if err := v.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	res, body = w.bearer(second)
	w.problem(res, body, 401, "unauthenticated")
	if res, body := w.bearer(first); res.StatusCode != 200 {
		t.Errorf("the key that stayed: %d %s", res.StatusCode, body)
	}
}

func ptr[T any](v T) *T { return &v }
