package tenant_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

func TestDiscovery(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	srv := newKeyServer(t, nil)
	issuer, jwksURI := srv.URL, srv.URL+"/keys"
	srv.serve(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, issuer, jwksURI)
		case "/keys", "/moved":
			_, _ = w.Write(jwks(t, ec))
		default:
			http.NotFound(w, r)
		}
	})
	conf := tenant.Issuer{Issuer: srv.URL, Discovery: srv.URL + "/.well-known/openid-configuration", Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}}
	v := newVerifier(t, conf)
	token := ec.sign(t, good(map[string]any{"iss": srv.URL}))
	wantCode(t, v, token, "")

	for name, set := range map[string]func(){
		"names another issuer":  func() { issuer = "https://evil.example.com" },
		"a trailing slash":      func() { issuer = srv.URL + "/" },
		"no jwks_uri":           func() { jwksURI = "" },
		"a file as jwks_uri":    func() { jwksURI = "file:///etc/passwd" },
		"jwks_uri not found":    func() { jwksURI = srv.URL + "/nowhere" },
		"jwks_uri not absolute": func() { jwksURI = "/keys" },
	} {
		issuer, jwksURI = srv.URL, srv.URL+"/keys"
		set()
		if err := v.Refresh(t.Context()); err == nil {
			t.Errorf("%s: accepted", name)
		}
		wantCode(t, v, token, "")
	}
	issuer, jwksURI = srv.URL, srv.URL+"/moved"
	if err := v.Refresh(t.Context()); err != nil {
		t.Errorf("a moved jwks_uri: %v", err)
	}
}

func write(t *testing.T, path string, raw []byte) {
	t.Helper()
	tmp := path + ".new"
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func publicPEM(t *testing.T, s signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func hs256(t *testing.T, secret string, claims map[string]any) string {
	t.Helper()
	tok, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(claims)).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// TestFileReload: a changed file counts within seconds, a broken or missing
// one never drops what is held.
func TestFileReload(t *testing.T) {
	t.Parallel()
	a, b := newES256(t, "a"), newES256(t, "b")
	secretA, secretB := strings.Repeat("a", 32), strings.Repeat("b", 32)
	for name, c := range map[string]struct {
		conf           func(path string) tenant.Issuer
		first, second  []byte
		tokenA, tokenB string
		broken         []byte
	}{
		"JWKS": {func(p string) tenant.Issuer { return tenant.Issuer{JWKSFile: p, Algorithms: []string{"ES256"}} },
			jwks(t, a), jwks(t, b), a.sign(t, good()), b.sign(t, good()), []byte("{")},
		"PEM": {func(p string) tenant.Issuer { return tenant.Issuer{PEMFile: p, Algorithms: []string{"ES256"}} },
			publicPEM(t, a), publicPEM(t, b), a.sign(t, good()), b.sign(t, good()), []byte("-----BEGIN PUBLIC KEY-----")},
		"HMAC": {func(p string) tenant.Issuer { return tenant.Issuer{HMACFile: p, Algorithms: []string{"HS256"}} },
			[]byte(secretA + "\n"), []byte(secretB), hs256(t, secretA, good()), hs256(t, secretB, good()), []byte("short")},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "keys")
			write(t, path, c.first)
			synctest.Test(t, func(t *testing.T) {
				// The bubble's clock starts in 2000, so tokens signed outside are not expired.
				conf := c.conf(path)
				conf.Issuer, conf.Audiences = "https://id.example.com", []string{"patchbay"}
				v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{conf}})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- v.Run(ctx) }()
				pass := func() { time.Sleep(5*time.Second + time.Millisecond); synctest.Wait() }
				wantCode(t, v, c.tokenA, "")
				wantCode(t, v, c.tokenB, fault.Unauthenticated)
				write(t, path, c.broken)
				pass()
				wantCode(t, v, c.tokenA, "")
				if v.Ready()[0].Err == nil {
					t.Error("the broken file doesn't show")
				}
				if err := os.Remove(path); err != nil {
					t.Error(err)
				}
				pass()
				wantCode(t, v, c.tokenA, "")
				write(t, path, c.second)
				pass()
				wantCode(t, v, c.tokenB, "")
				wantCode(t, v, c.tokenA, fault.Unauthenticated)
				if s := v.Ready()[0]; s.Err != nil {
					t.Errorf("status %+v", s)
				}
				cancel()
				<-done
			})
		})
	}
}

func TestPEMFile(t *testing.T) {
	t.Parallel()
	ec, rs, ed := newES256(t, "any"), newRS256(t, "", 2048), newEdDSA(t, "x")
	path := filepath.Join(t.TempDir(), "keys.pem")
	write(t, path, append(append(publicPEM(t, ec), publicPEM(t, rs)...), publicPEM(t, ed)...))
	v := newVerifier(t, tenant.Issuer{Issuer: "https://id.example.com", PEMFile: path, Audiences: []string{"patchbay"}, Algorithms: []string{"ES256", "RS256", "EdDSA"}})
	for _, s := range []signer{ec, rs, ed} {
		wantCode(t, v, s.sign(t, good()), "")
	}
	wantCode(t, v, newES256(t, "any").sign(t, good()), fault.Unauthenticated)
}

// TestBadFile: what is wrong at start is an error of the configuration.
func TestBadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(newES256(t, "").key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		raw  []byte
		conf tenant.Issuer
	}{
		"PEM without a block":      {[]byte("hello"), tenant.Issuer{PEMFile: "f", Algorithms: []string{"ES256"}}},
		"PEM with a private key":   {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), tenant.Issuer{PEMFile: "f", Algorithms: []string{"ES256"}}},
		"RSA of 1024 bits":         {publicPEM(t, newRS256(t, "", 1024)), tenant.Issuer{PEMFile: "f", Algorithms: []string{"RS256"}}},
		"EC key for RS256":         {publicPEM(t, newES256(t, "")), tenant.Issuer{PEMFile: "f", Algorithms: []string{"RS256"}}},
		"P-256 key for ES384":      {publicPEM(t, newES256(t, "")), tenant.Issuer{PEMFile: "f", Algorithms: []string{"ES384"}}},
		"HMAC of 31 bytes":         {[]byte(strings.Repeat("x", 31) + "\n"), tenant.Issuer{HMACFile: "f", Algorithms: []string{"HS256"}}},
		"HMAC too short for HS512": {[]byte(strings.Repeat("x", 32)), tenant.Issuer{HMACFile: "f", Algorithms: []string{"HS256", "HS512"}}},
		"JWKS empty":               {[]byte(`{"keys":[]}`), tenant.Issuer{JWKSFile: "f", Algorithms: []string{"ES256"}}},
		"larger than 1 MiB":        {make([]byte, 1<<20+1), tenant.Issuer{HMACFile: "f", Algorithms: []string{"HS256"}}},
		"missing":                  {nil, tenant.Issuer{JWKSFile: "f", Algorithms: []string{"ES256"}}},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
			if c.raw != nil {
				write(t, path, c.raw)
			}
			for _, p := range []*string{&c.conf.PEMFile, &c.conf.HMACFile, &c.conf.JWKSFile} {
				if *p != "" {
					*p = path
				}
			}
			c.conf.Issuer, c.conf.Audiences = "https://id.example.com", []string{"patchbay"}
			_, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{c.conf}})
			if fault.CodeOf(err) != fault.InvalidArgument {
				t.Errorf("got %v", err)
			}
		})
	}
}
