package oauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

func fixedKey(id string, b byte) func(context.Context) (CacheKey, error) {
	return func(context.Context) (CacheKey, error) {
		return CacheKey{ID: id, Key: secret.New(string(bytes.Repeat([]byte{b}, 32)))}, nil
	}
}

// A sealed record is good for what it was sealed for, and nothing else.
func TestSealedForOneThing(t *testing.T) {
	t.Parallel()
	k, _ := fixedKey("k", 1)(t.Context())
	other, _ := fixedKey("k", 2)(t.Context())
	renamed, _ := fixedKey("l", 1)(t.Context())
	app := providers.OAuthApp{Flow: providers.FlowConsent, ClientID: "c", TokenURL: "https://i/"}
	base := connector.GrantRef{Tenant: acme, Connector: connector.NewID()}
	at := func(edit func(*connector.GrantRef, *providers.OAuthApp), purpose string, version int64) (string, []byte) {
		ref, app := base, app
		edit(&ref, &app)
		f := &flight{key: keyOf(ref, app)}
		return nameOf(f, purpose, version), parts(f, purpose, version)
	}
	same := func(*connector.GrantRef, *providers.OAuthApp) {}
	name, info := at(same, shareToken, 7)
	sealed, err := k.seal(info, []byte(canary))
	if err != nil || bytes.Contains(sealed, []byte(canary)) {
		t.Fatal(err)
	}
	if plain, ok := k.open(info, sealed); !ok || string(plain) != canary {
		t.Fatal("it does not open")
	}
	again, _ := k.seal(info, []byte(canary))
	if bytes.Equal(again, sealed) {
		t.Error("two seals are equal")
	}
	for what, edit := range map[string]func(*connector.GrantRef, *providers.OAuthApp){
		"tenant":    func(r *connector.GrantRef, _ *providers.OAuthApp) { r.Tenant = tenant.MustID("globex") },
		"connector": func(r *connector.GrantRef, _ *providers.OAuthApp) { r.Connector = connector.NewID() },
		"client":    func(_ *connector.GrantRef, a *providers.OAuthApp) { a.ClientID = "d" },
		"token URL": func(_ *connector.GrantRef, a *providers.OAuthApp) { a.TokenURL = "https://j/" },
		"flow":      func(_ *connector.GrantRef, a *providers.OAuthApp) { a.Flow = providers.FlowJWTBearer },
	} {
		otherName, otherInfo := at(edit, shareToken, 7)
		if _, ok := k.open(otherInfo, sealed); ok || otherName == name {
			t.Errorf("another %s opens it", what)
		}
	}
	for what, with := range map[string]struct {
		k       CacheKey
		purpose string
		version int64
	}{"version": {k, shareToken, 8}, "purpose": {k, sharePaused, 7}, "key": {other, shareToken, 7}, "key's name": {renamed, shareToken, 7}} {
		_, otherInfo := at(same, with.purpose, with.version)
		if _, ok := with.k.open(otherInfo, sealed); ok {
			t.Errorf("another %s opens it", what)
		}
	}
	for n := range sealed {
		broken := bytes.Clone(sealed)
		broken[n] ^= 1
		if _, ok := k.open(info, broken); ok {
			t.Errorf("byte %d may be changed", n)
		}
		if _, ok := k.open(info, sealed[:n]); ok {
			t.Errorf("%d bytes are enough", n)
		}
	}
}

func TestKeysOfMintedTokens(t *testing.T) {
	t.Parallel()
	app := providers.OAuthApp{Flow: providers.FlowJWTBearer, TokenURL: "u", Scopes: []string{"a"}, TokenParams: map[string]string{"p": "1"}, Assertion: &providers.Assertion{Issuer: "i", Subject: "s"}}
	ref := connector.GrantRef{Tenant: acme, Connector: connector.NewID()}
	base := keyOf(ref, app)
	for name, edit := range map[string]func(*providers.OAuthApp){
		"scopes":  func(a *providers.OAuthApp) { a.Scopes = []string{"a", "b"} },
		"params":  func(a *providers.OAuthApp) { a.TokenParams = map[string]string{"p": "2"} },
		"subject": func(a *providers.OAuthApp) { a.Assertion = &providers.Assertion{Issuer: "i", Subject: "another"} },
		"moved":   func(a *providers.OAuthApp) { a.Assertion = &providers.Assertion{Issuer: "is"} },
	} {
		a := app
		edit(&a)
		if keyOf(ref, a) == base {
			t.Errorf("other %s have the same key", name)
		}
	}
}

// Redis shows nothing: not a token, not a tenant's connector, not a client.
func TestRedisHoldsNothingReadable(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t)
	i := newIssuer(t, time.Hour, true)
	w := newWorld(t, i.app())
	cache := shared(t, server)
	with := func(o *Options) { o.Cache, o.CacheKey = cache(), fixedKey("k1", 1) }
	m := w.manager(with)
	w.consent(m, i)
	w.age(-time.Second)
	tok := w.ask(m)
	keys, err := server.Command("KEYS", "*")
	if err != nil || len(keys.([]any)) == 0 {
		t.Fatal(keys, err)
	}
	dump := ""
	for _, k := range keys.([]any) {
		v, err := server.Command("GET", k.(string))
		if err != nil {
			t.Fatal(err)
		}
		dump += fmt.Sprintf("%s %s\n", k, v)
	}
	for what, s := range map[string]string{
		"the token": tok.Access.Reveal(), "a part of it": tok.Access.Reveal()[:20], "the refresh token": w.stored().Values[grantRefresh].Reveal(),
		"the connector": w.id.String(), "the client": w.app.TokenURL, "its secret": w.app.ClientSecret.Reveal(),
	} {
		if strings.Contains(dump, s) {
			t.Errorf("Redis shows %s", what)
		}
	}
	// Another process finds it there, reading no Vault.
	other := w.manager(with)
	w.ref.GrantVersion = w.stored().Version
	reads := w.grants.reads.Load()
	if !w.ask(other).Access.Equal(tok.Access) || other.Stats.SharedHits.Load() != 1 || w.grants.reads.Load() != reads {
		t.Error("it is not shared")
	}
	// One with another key, and one whose database knows of more, don't take it.
	stranger := w.manager(func(o *Options) { o.Cache, o.CacheKey = cache(), fixedKey("k2", 2) })
	w.ask(stranger)
	if stranger.Stats.SharedHits.Load() != 0 {
		t.Error("another key opened it")
	}
	w.consent(m, i)
	late := w.manager(with)
	if got := w.ask(late); got.Access.Equal(tok.Access) || late.Stats.SharedHits.Load() != 0 {
		t.Error("a token of another grant version was served")
	}
}

// Without a key nothing is shared, and it is asked for again.
func TestWithoutACacheKey(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, time.Hour, false)
	w := newWorld(t, machine(i))
	cache := shared(t, testenv.Redis(t))
	var asked atomic.Int64
	var mu sync.Mutex
	now := time.Now()
	key := func(context.Context) (CacheKey, error) { return CacheKey{}, errors.New(canary) }
	m := w.manager(func(o *Options) {
		o.Cache = cache()
		o.CacheKey = func(ctx context.Context) (CacheKey, error) {
			asked.Add(1)
			mu.Lock()
			defer mu.Unlock()
			return key(ctx)
		}
		o.Clock = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	w.ask(m)
	if asked.Load() != 1 || m.Stats.SharedErrors.Load() != 1 || strings.Contains(w.log.String(), canary) {
		t.Errorf("asked %d times", asked.Load())
	}
	mu.Lock()
	now, key = now.Add(keyRetry), fixedKey("k", 1)
	mu.Unlock()
	if _, ok := m.cacheKey(t.Context()); !ok || asked.Load() != 2 {
		t.Error("the key was not asked for again")
	}
	mu.Lock()
	now, key = now.Add(keyFor), func(context.Context) (CacheKey, error) { return CacheKey{ID: "short", Key: secret.New("x")}, nil }
	mu.Unlock()
	if k, ok := m.cacheKey(t.Context()); !ok || k.ID != "k" || asked.Load() != 3 {
		t.Error("a bad key replaced a good one")
	}
}

// An outage that one process meets keeps the others from asking in turn.
func TestAFleetAsksADeadIssuerOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		h     http.HandlerFunc
		asked int64
	}{
		"it says so": {header("Retry-After", "60", answersWith(503, "")), 1},
		// Each connection is dropped, and tried again: who knows on whose side it is.
		"it says nothing": {func(w http.ResponseWriter, r *http.Request) { drop(w, r) }, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, tc.h)
			w := newWorld(t, providers.OAuthApp{Flow: providers.FlowConsent, ClientID: "c", TokenURL: s.URL, Rotates: true})
			w.give(w.old("r", -time.Second))
			cache := shared(t, testenv.Redis(t))
			for range 10 {
				w.fails(w.manager(func(o *Options) { o.Cache, o.CacheKey = cache(), fixedKey("k", 1) }), providers.CodeTokenEndpointDown, "unavailable")
			}
			if s.asked.Load() != tc.asked {
				t.Errorf("asked %d times", s.asked.Load())
			}
		})
	}
}
