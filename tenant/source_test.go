package tenant_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// TestRedirects: a key server may move, but not to where anybody on the way
// could put keys of their own, and not in circles.
func TestRedirects(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	plain := newKeyServer(t, jwks(t, ec))
	safe := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/keys":
			_, _ = w.Write(jwks(t, ec))
		case "/moved":
			http.Redirect(w, r, "/keys", http.StatusFound)
		case "/downgrade":
			http.Redirect(w, r, plain.URL, http.StatusFound)
		default:
			http.Redirect(w, r, "/circle", http.StatusFound)
		}
	}))
	t.Cleanup(safe.Close)
	roots := x509.NewCertPool()
	roots.AddCert(safe.Certificate())
	for path, want := range map[string]bool{"/keys": true, "/moved": true, "/downgrade": false, "/circle": false} {
		v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{urlIssuer(safe.URL + path)}, RootCAs: roots})
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Refresh(t.Context()); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if n := plain.fetches.Load(); n != 0 {
		t.Errorf("keys were asked for in clear, %d times", n)
	}
	// Without its authority the same server is a stranger.
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{urlIssuer(safe.URL + "/keys")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Refresh(t.Context()); err == nil {
		t.Error("a certificate that nobody vouches for was accepted")
	}
	wantCode(t, v, ec.sign(t, good()), fault.Unavailable)
}

// TestKeyServerErrorsKeepItsURL: some key servers want an API key in the query.
func TestKeyServerErrorsKeepItsURL(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{urlIssuer(gone.URL + "/keys?apikey=canary-of-a-key")}})
	if err != nil {
		t.Fatal(err)
	}
	err = v.Refresh(t.Context())
	if err == nil || strings.Contains(err.Error(), "canary") || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
}

// TestDiscoveryStaysSafe: a configuration fetched by https names keys by https.
func TestDiscoveryStaysSafe(t *testing.T) {
	t.Parallel()
	plain := newKeyServer(t, jwks(t, newES256(t, "ec")))
	var self string
	safe := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, self, plain.URL)
	}))
	t.Cleanup(safe.Close)
	self = safe.URL
	v, err := tenant.NewVerifier(tenant.VerifierOptions{HTTP: safe.Client(), Issuers: []tenant.Issuer{
		{Issuer: self, Discovery: self, Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Refresh(t.Context()); err == nil || plain.fetches.Load() != 0 {
		t.Errorf("keys in clear: %v, %d fetches", err, plain.fetches.Load())
	}
}

// TestPEMForms: certificates and PKCS #1 carry public keys too.
func TestPEMForms(t *testing.T) {
	t.Parallel()
	ec, rs := newES256(t, ""), newRS256(t, "", 2048)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, ec.key.Public(), ec.key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys.pem")
	conf := tenant.Issuer{Issuer: "https://id.example.com", PEMFile: path, Audiences: []string{"patchbay"}, Algorithms: []string{"ES256", "RS256"}}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	write(t, path, append(certificate, pem.EncodeToMemory(&pem.Block{
		Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(rs.key.Public().(*rsa.PublicKey))})...))
	v := newVerifier(t, conf)
	wantCode(t, v, ec.sign(t, good()), "")
	wantCode(t, v, rs.sign(t, good()), "")
	write(t, path, append(certificate, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("garbage")})...))
	if err := v.Refresh(t.Context()); err == nil {
		t.Error("a block of garbage was skipped in silence")
	}
	wantCode(t, v, ec.sign(t, good()), "")
}

// TestKeyFileIsAFile: opening a pipe would wait for ever, at start and later.
func TestKeyFileIsAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir, filepath.Join(dir, "missing")} {
		conf := tenant.Issuer{Issuer: "https://id.example.com", JWKSFile: path, Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}}
		if _, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{conf}}); fault.CodeOf(err) != fault.InvalidArgument {
			t.Errorf("%s: %v", filepath.Base(path), err)
		}
	}
}

// TestExposedSecretIsTold: a warning, because some volumes know no narrower mode.
func TestExposedSecretIsTold(t *testing.T) {
	t.Parallel()
	secret := strings.Repeat("s", 32)
	for mode, want := range map[os.FileMode]bool{0o644: true, 0o640: false} {
		path := filepath.Join(t.TempDir(), "secret")
		write(t, path, []byte(secret))
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		conf := tenant.Issuer{Issuer: "https://id.example.com", HMACFile: path, Audiences: []string{"patchbay"}, Algorithms: []string{"HS256"}}
		v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{conf}, Log: slog.New(slog.NewJSONHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, v, hs256(t, secret, good()), "")
		if got := strings.Contains(log.String(), "readable by everybody"); got != want || strings.Contains(log.String(), secret) {
			t.Errorf("mode %o: %s", mode, log.String())
		}
	}
}
