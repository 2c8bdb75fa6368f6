package oauth

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/resolver/rediscache"
	"github.com/patchbay-dev/patchbay/vault"
)

func machine(i *issuer) providers.OAuthApp {
	return providers.OAuthApp{
		Flow: providers.FlowClientCredentials, ClientID: "sid1", ClientSecret: secret.New("verysecret"), TokenURL: i.url + "oauth/token",
		AuthStyle: "header", Scopes: []string{"openid"},
	}
}

func account(t testing.TB, i *issuer) providers.OAuthApp {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i.key = &key.PublicKey
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return providers.OAuthApp{
		Flow: providers.FlowJWTBearer, TokenURL: i.url + "oauth/token", Scopes: []string{"openid"},
		Assertion: &providers.Assertion{
			Issuer: "service", Subject: "service", Audience: i.url, KeyID: "k1",
			Key: secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))),
		},
	}
}

func TestMinting(t *testing.T) {
	t.Parallel()
	for name, app := range map[string]func(testing.TB, *issuer) providers.OAuthApp{
		"client credentials": func(_ testing.TB, i *issuer) providers.OAuthApp { return machine(i) },
		"service account":    account,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t, 2*time.Second, false)
			w := newWorld(t, app(t, i))
			m := w.manager(nil)
			var all sync.WaitGroup
			for range 50 {
				all.Go(func() {
					if tok, err := w.source(m).Token(t.Context()); err != nil || !i.good(tok.Access.Reveal()) {
						t.Error(err)
					}
				})
			}
			all.Wait()
			first := w.ask(m)
			if i.posts.Load() != 1 || m.Stats.Mints.Load() != 1 {
				t.Fatalf("%d requests", i.posts.Load())
			}
			eventually(t, "a new one before the end", time.Until(first.ExpiresAt), func() bool { return !w.ask(m).Access.Equal(first.Access) })
			// A grant that is left from another mode of the kind means nothing here.
			left := w.ref
			left.GrantVersion = 7
			if tok, err := m.Source(left, w.app).Token(within(t, 5*time.Second)); err != nil || !i.good(tok.Access.Reveal()) {
				t.Error(err)
			}
			// A new secret or another scope is another token.
			w.ref.Pin = vault.NewPin()
			posts := i.posts.Load()
			w.ask(m)
			if i.posts.Load() != posts+1 {
				t.Error("the token of another secret was served")
			}
		})
	}
}

func TestAServiceAccountThatIsRefused(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, time.Hour, false)
	app := account(t, i)
	account(t, i) // the issuer now knows another key
	w := newWorld(t, app)
	m := w.manager(nil)
	_, err := w.source(m).Token(t.Context())
	e, ok := errors.AsType[*providers.TokenError](err)
	if !ok || e.Code != providers.CodeAuthFailed || fault.CodeOf(err) != fault.Unavailable || strings.Contains(err.Error(), "eyJ") {
		t.Fatal(err)
	}
	// Google's own words for a key that was deleted.
	s := newScripted(t, answersWith(400, `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`))
	w.app.TokenURL = s.URL
	w.fails(m, providers.CodeAuthFailed, fault.Unavailable)
	forms, basic := s.sent()
	if len(forms) != 1 || forms[0].Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || forms[0].Has("client_id") || basic[0] != "" || forms[0].Has("scope") {
		t.Errorf("sent %v", forms)
	}
	for name, key := range map[string]string{
		"no PEM": "canary", "no key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	} {
		broken := *w.app.Assertion
		broken.Key, broken.KeyID = secret.New(key), name
		w.app.Assertion = &broken
		if err := w.fails(m, providers.CodeConfigIncomplete, fault.Unavailable); strings.Contains(err.Error(), "canary") {
			t.Error(err)
		}
	}
	if s.asked.Load() != 1 {
		t.Error("the issuer was asked with what could not be signed")
	}
}

// shared opens clients of one cache, of this test alone, in a real Redis.
func shared(t testing.TB, s *testenv.RedisServer) func() *rediscache.Client {
	t.Helper()
	prefix := s.Prefix(t) + "pb"
	return func() *rediscache.Client {
		c, err := rediscache.Open(rediscache.Options{URL: secret.New(s.URL()), Prefix: prefix, Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
}

// A fleet makes one token, and one for each that ends.
func TestAFleetMintsOne(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, 3*time.Second, false)
	w := newWorld(t, machine(i))
	cache := shared(t, testenv.Redis(t))
	var ms []*Manager
	for range 20 {
		ms = append(ms, w.manager(func(o *Options) { o.Cache, o.CacheKey = cache(), fixedKey("k", 1) }))
	}
	everywhere := func() map[string]bool {
		var mu sync.Mutex
		seen := map[string]bool{}
		var all sync.WaitGroup
		for _, m := range ms {
			all.Go(func() {
				tok, err := w.source(m).Token(within(t, 20*time.Second))
				if err != nil || !i.good(tok.Access.Reveal()) {
					t.Error(err)
				}
				mu.Lock()
				seen[tok.Access.Reveal()] = true
				mu.Unlock()
			})
		}
		all.Wait()
		return seen
	}
	if seen := everywhere(); len(seen) != 1 || i.minted.Load() != 1 {
		t.Fatalf("%d tokens, %d minted", len(seen), i.minted.Load())
	}
	eventually(t, "the second token everywhere", 20*time.Second, func() bool {
		everywhere()
		return i.minted.Load() == 2 && len(everywhere()) == 1
	})
	if n := i.minted.Load(); n != 2 {
		t.Errorf("%d minted", n)
	}
}
