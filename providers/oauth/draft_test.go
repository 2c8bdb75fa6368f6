package oauth

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
)

// held is how many sources a Manager holds tokens for.
func (m *Manager) held() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.entries)
}

// What is minted for a draft is in no memory and in no Redis afterwards, whether the
// issuer gave a token, refused, or was down, which a fleet is told of otherwise.
func TestADraftLeavesNothing(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t)
	i := newIssuer(t, time.Hour, false)
	down := newScripted(t, answersWith(503, `down`))
	w := newWorld(t, machine(i))
	cache := shared(t, server)
	m := w.manager(func(o *Options) { o.Cache, o.CacheKey = cache(), fixedKey("k1", 1) })
	keys := func() int {
		t.Helper()
		got, err := server.Command("KEYS", "*")
		if err != nil {
			t.Fatal(err)
		}
		return len(got.([]any))
	}
	stored := w.ask(m) // a stored connector's, so that there is something to count
	sources, records := m.held(), keys()
	if sources != 1 || records == 0 {
		t.Fatalf("%d sources, %d records of a stored connector", sources, records)
	}
	wrong, away := machine(i), machine(i)
	wrong.ClientSecret = secret.New(canary)
	away.TokenURL = down.URL
	for name, row := range map[string]struct {
		app  providers.OAuthApp
		code providers.TestCode // "" for a token
	}{
		"client credentials": {machine(i), ""}, "a service account": {account(t, i), ""},
		"a wrong secret": {wrong, providers.CodeOAuthClientInvalid}, "an outage": {away, providers.CodeTokenEndpointDown},
		"a consent": {i.app(), providers.CodeConsentMissing},
	} {
		asked := i.posts.Load()
		d := m.Draft(row.app)
		first, err := d.Token(within(t, 20*time.Second))
		if row.code != "" {
			if e, ok := errors.AsType[*providers.TokenError](err); !ok || e.Code != row.code {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		second, err2 := d.Token(within(t, 20*time.Second))
		if err != nil || err2 != nil || !i.good(first.Access.Reveal()) || !second.Access.Equal(first.Access) {
			t.Errorf("%s: %v, %v, the same token: %v", name, err, err2, second.Access.Equal(first.Access))
		}
		// Each draft mints for itself: one with a wrong secret finds no other's token.
		third, err := m.Draft(row.app).Token(within(t, 20*time.Second))
		if err != nil || third.Access.Equal(first.Access) || i.posts.Load() != asked+2 {
			t.Errorf("%s: another draft: %v, %d requests", name, err, i.posts.Load()-asked)
		}
	}
	if m.held() != sources || keys() != records {
		t.Errorf("%d sources instead of %d, %d records instead of %d", m.held(), sources, keys(), records)
	}
	if !w.ask(m).Access.Equal(stored.Access) {
		t.Error("a draft took the stored connector's token away")
	}
}

// A draft's request ends with who asks.
func TestADraftEndsWithItsTest(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, time.Hour, false)
	w := newWorld(t, machine(i))
	m := w.manager(nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := m.Draft(machine(i))
	_, err := d.Token(ctx)
	if e, ok := errors.AsType[*providers.TokenError](err); !ok || e.Code != providers.CodeCancelled || fault.CodeOf(err) != fault.DeadlineExceeded {
		t.Errorf("%v", err)
	}
	if tok, err := d.Token(within(t, 20*time.Second)); err != nil || !i.good(tok.Access.Reveal()) {
		t.Errorf("afterwards: %v", err)
	}
}
