package oauth

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// connected is a world whose user has consented at a real issuer.
func connected(t *testing.T, life time.Duration, rotates bool) (*world, *issuer, *Manager) {
	t.Helper()
	i := newIssuer(t, life, rotates)
	w := newWorld(t, i.app())
	m := w.manager(nil)
	w.consent(m, i)
	return w, i, m
}

func hook(f func(http.ResponseWriter, *http.Request) bool) *func(http.ResponseWriter, *http.Request) bool {
	return &f
}

func drop(w http.ResponseWriter, _ *http.Request) bool {
	panic(http.ErrAbortHandler)
}

func TestConsentThenRefresh(t *testing.T) {
	t.Parallel()
	for name, rotates := range map[string]bool{"rotating": true, "keeping": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, i, m := connected(t, 2*time.Second, rotates)
			first := w.ask(m)
			if i.posts.Load() != 1 || !i.good(first.Access.Reveal()) || first.Type != "Bearer" || len(first.Scopes) != 2 {
				t.Fatalf("%d requests, %+v", i.posts.Load(), first)
			}
			life := 2*time.Second - 2*time.Second/50
			if at := time.Until(first.ExpiresAt); at > life || !first.RefreshAt.Before(first.ExpiresAt) {
				t.Fatalf("ends in %v, renewed in %v", at, time.Until(first.RefreshAt))
			}
			refresh := w.stored().Values[grantRefresh]
			eventually(t, "a new token before the old one's end", time.Until(first.ExpiresAt), func() bool {
				return !w.ask(m).Access.Equal(first.Access)
			})
			next := w.ask(m)
			if !i.good(next.Access.Reveal()) || i.refreshed.Load() != 1 || m.Stats.Refreshes.Load() != 1 {
				t.Fatalf("%d refreshes", i.refreshed.Load())
			}
			g := w.stored()
			if !g.Values[grantAccess].Equal(next.Access) || g.Values[grantRefresh].Equal(refresh) == rotates || g.Version != w.ref.GrantVersion+1 {
				t.Errorf("version %d is stored, %v", g.Version, g.Values)
			}
			eventually(t, "the lease is given back and the version known", 5*time.Second, func() bool {
				row := w.row()
				return row.Owner == "" && row.Version == g.Version && row.Status == connector.GrantActive
			})
			// Another process finds it in Vault.
			other := w.manager(nil)
			if !w.ask(other).Access.Equal(next.Access) || other.Stats.GrantHits.Load() != 1 {
				t.Error("another process has another token")
			}
			if out := w.log.String(); strings.Contains(out, next.Access.Reveal()) || strings.Contains(out, refresh.Reveal()) || strings.Contains(out, "canary") {
				t.Errorf("the log shows a secret: %s", out)
			}
		})
	}
}

func TestConsentNeedsItsVerifier(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, time.Minute, true)
	w := newWorld(t, i.app())
	m := w.manager(nil)
	verifier := NewVerifier()
	at := AuthCodeURL(w.app, redirectURL, "a state", verifier)
	if strings.Contains(at, verifier.Reveal()) || !strings.Contains(at, "code_challenge_method=S256") {
		t.Fatalf("the consent's URL is %s", at)
	}
	_, _, err := m.Exchange(t.Context(), w.app, i.agree(t, at), NewVerifier(), redirectURL)
	if e, ok := errors.AsType[*providers.TokenError](err); !ok || i.minted.Load() != 0 {
		t.Errorf("another's verifier: %v", e)
	}
}

func TestConsentWithoutRefreshToken(t *testing.T) {
	t.Parallel()
	s := newScripted(t, answersWith(200, `{"access_token":"a","token_type":"bearer","expires_in":3600}`))
	w := newWorld(t, providers.OAuthApp{Flow: providers.FlowConsent, ClientID: "c", ClientSecret: secret.New("s"), TokenURL: s.URL, AuthStyle: "params"})
	_, _, err := w.manager(nil).Exchange(t.Context(), w.app, secret.New("code"), NewVerifier(), redirectURL)
	if fault.CodeOf(err) != fault.NeedsReauthorization {
		t.Errorf("an access token that ends and nothing to renew it with: %v", err)
	}
	forms, _ := s.sent()
	if len(forms) != 1 || forms[0].Get("code") != "code" || forms[0].Get("client_secret") != "s" || forms[0].Get("redirect_uri") != redirectURL {
		t.Errorf("sent %v", forms)
	}
	// One without an end needs nothing.
	s2 := newScripted(t, answersWith(200, `{"access_token":"xoxb","scope":"chat:write,files:read"}`))
	w.app.TokenURL = s2.URL
	m := w.manager(nil)
	values, tok, err := m.Exchange(t.Context(), w.app, secret.New("code"), NewVerifier(), redirectURL)
	if err != nil || !tok.ExpiresAt.IsZero() || !tok.RefreshAt.IsZero() || len(tok.Scopes) != 2 {
		t.Fatal(tok, err)
	}
	w.give(values)
	if got := w.ask(m); !got.Access.Equal(tok.Access) || !got.ExpiresAt.IsZero() || s2.asked.Load() != 1 {
		t.Errorf("%+v", got)
	}
}

func TestOneFlight(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	reads := w.grants.reads.Load()
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if tok, err := w.source(m).Token(within(t, 20*time.Second)); err != nil || !i.good(tok.Access.Reveal()) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := i.refreshed.Load(); n != 1 || w.grants.reads.Load() != reads+2 {
		t.Errorf("%d refreshes, %d reads", n, w.grants.reads.Load()-reads)
	}
}

// The old token is served while the issuer takes its time, and never past its end.
func TestHeldWhileDueNeverPastItsEnd(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(1500 * time.Millisecond)
	release := make(chan struct{})
	i.before.Store(hook(func(http.ResponseWriter, *http.Request) bool { <-release; return false }))
	t.Cleanup(func() { close(release) })
	held := w.stored().Values[grantAccess]
	// A cold memory asks the issuer first: the token there is due. What it holds then
	// is put there as a process would have it that read it in time.
	m.holdStored(w)
	end := time.Now()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begun := time.Now()
		tok, err := w.source(m).Token(ctx)
		cancel()
		if err != nil {
			if fault.CodeOf(err) != fault.DeadlineExceeded && fault.CodeOf(err) != fault.Unavailable {
				t.Fatal(err)
			}
			if time.Since(end) < time.Second {
				t.Fatalf("not served after %v", time.Since(end))
			}
			return
		}
		if !tok.Access.Equal(held) || time.Since(begun) > 40*time.Millisecond || !begun.Before(tok.ExpiresAt) {
			t.Fatalf("after %v: %v", time.Since(begun), tok.ExpiresAt)
		}
		if time.Since(end) > 5*time.Second {
			t.Fatal("served for ever")
		}
		<-time.After(10 * time.Millisecond)
	}
}

// holdStored puts what Vault has into memory.
func (m *Manager) holdStored(w *world) {
	g, _ := grantOf(w.stored())
	e := m.entry(keyOf(w.ref, w.app))
	e.mu.Lock()
	e.held = m.timed(keyOf(w.ref, w.app), g.token)
	e.mu.Unlock()
}

func TestCallersDeadlineEndsItsWaitingOnly(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	release := make(chan struct{})
	i.before.Store(hook(func(http.ResponseWriter, *http.Request) bool { <-release; return false }))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := w.source(m).Token(ctx)
	if e, ok := errors.AsType[*providers.TokenError](err); !ok || e.Code != providers.CodeTimeout || fault.CodeOf(err) != fault.DeadlineExceeded {
		t.Fatal(err)
	}
	close(release)
	if tok := w.ask(m); !i.good(tok.Access.Reveal()) || i.posts.Load() != 2 {
		t.Errorf("%d requests", i.posts.Load())
	}
}

func TestAnEarlierConsentIsNotServed(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	first := w.ask(m)
	w.consent(m, i)
	second := w.ask(m)
	if second.Access.Equal(first.Access) || !second.Access.Equal(w.stored().Values[grantAccess]) {
		t.Error("the earlier consent's token was served")
	}
	// A caller whose reading of the database is older gets the newer one.
	old := w.ref
	old.GrantVersion--
	if tok, err := m.Source(old, w.app).Token(t.Context()); err != nil || !tok.Access.Equal(second.Access) {
		t.Error(err)
	}
	// Where the database knows of no consent, none is served, held or not.
	gone := w.ref
	gone.GrantVersion = 0
	_, err := m.Source(gone, w.app).Token(t.Context())
	if e, ok := errors.AsType[*providers.TokenError](err); !ok || e.Code != providers.CodeConsentMissing || fault.CodeOf(err) != fault.NeedsReauthorization {
		t.Error(err)
	}
}

func TestAVaultOfYesterday(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	w.ref.GrantVersion++ // the database has heard of more
	w.fails(m, providers.CodeStorageDown, fault.Unavailable)
	if i.refreshed.Load() != 0 {
		t.Error("a refresh token was sent that may have been replaced")
	}
}

func TestInvalidGrant(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	v := w.stored().Values.Clone()
	v[grantRefresh] = secret.New("unknown-canary")
	w.give(v)
	err := w.fails(m, providers.CodeNeedsReauthorization, fault.NeedsReauthorization)
	if strings.Contains(err.Error(), "canary") || fault.RetryAfter(err) != 0 {
		t.Error(err)
	}
	if row := w.row(); row.Status != connector.GrantNeedsReauthorization || row.Version != w.ref.GrantVersion || i.invalid.Load() != 1 {
		t.Errorf("%+v after %d", row, i.invalid.Load())
	}
	// Others believe the row, and ask no issuer.
	w.fails(w.manager(nil), providers.CodeNeedsReauthorization, fault.NeedsReauthorization)
	if i.invalid.Load() != 1 {
		t.Error("a second process asked")
	}
	// A new consent helps at once, and heals the row.
	w.consent(m, i)
	if tok := w.ask(m); !i.good(tok.Access.Reveal()) {
		t.Error("no token after the new consent")
	}
	if w.row().Status != connector.GrantActive {
		t.Error("the row says something else")
	}
}

// Whoever has used the refresh token meanwhile has left another.
func TestInvalidGrantReadsAgain(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	right := w.stored()
	// A process without the lease (it was suspended) stores its own while we ask with
	// what it has replaced.
	wrong := right.Values.Clone()
	wrong[grantRefresh] = secret.New("replaced meanwhile")
	w.give(wrong)
	posts := i.posts.Load()
	i.before.Store(hook(func(http.ResponseWriter, *http.Request) bool {
		if i.posts.Load() == posts {
			if _, err := w.vault.WriteGrant(context.Background(), acme, w.id, right.Values, w.ref.GrantVersion); err != nil {
				t.Error(err)
			}
		}
		return false
	}))
	if tok := w.ask(m); !i.good(tok.Access.Reveal()) || i.invalid.Load() != 1 || i.refreshed.Load() != 1 {
		t.Errorf("%d refused, %d refreshed", i.invalid.Load(), i.refreshed.Load())
	}
	if row := w.row(); row.Status != connector.GrantActive || row.Version != w.stored().Version {
		t.Errorf("%+v", row)
	}
}

// What is concluded of a version is void when the row knows a greater one.
func TestARefusalOfAnOldVersionIsNotRecorded(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	v := w.stored().Values.Clone()
	v[grantRefresh] = secret.New("unknown")
	w.give(v)
	w.age(-time.Second)
	i.before.Store(hook(func(http.ResponseWriter, *http.Request) bool {
		if _, err := w.store.SettleGrant(context.Background(), acme, w.id, w.ref.GrantVersion+1, connector.GrantActive); err != nil {
			t.Error(err)
		}
		return false
	}))
	w.fails(m, providers.CodeStorageDown, fault.Unavailable) // Vault lags behind the row
	if w.row().Status != connector.GrantActive {
		t.Error("the newer grant was marked")
	}
}

func TestALostWriteTakesTheWinners(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, false)
	w.age(-time.Second)
	i.after.Store(hook(func(http.ResponseWriter, *http.Request) bool {
		i.after.Store(nil)
		w.give(w.old("the winner's", time.Hour)) // due, so it needs a refresh of its own
		v := w.stored().Values.Clone()
		v[grantIssued] = secret.New(time.Now().Format(time.RFC3339Nano))
		w.give(v)
		return false
	}))
	if tok := w.ask(m); tok.Access.Reveal() != "held-canary" || m.Stats.LostWrites.Load() != 1 {
		t.Errorf("%d lost writes", m.Stats.LostWrites.Load())
	}
	if w.stored().Values[grantRefresh].Reveal() != "the winner's" {
		t.Error("the winner's refresh token is gone")
	}
}

func TestAWriteWithoutAnAnswerIsRecognised(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	w.grants.silent.Store(true)
	if tok := w.ask(m); !i.good(tok.Access.Reveal()) || i.refreshed.Load() != 1 || m.Stats.LostWrites.Load() != 0 {
		t.Error("the write was not recognised")
	}
	if g := w.stored(); g.Version != w.ref.GrantVersion+1 {
		t.Errorf("version %d", g.Version)
	}
}

// stepping runs f once at a step.
func stepping(m *Manager, at string, f func()) {
	var once sync.Once
	m.step = func(name string) {
		if name == at {
			once.Do(f)
		}
	}
}

// A replaced refresh token that can't be stored is held, and nothing of it served.
func TestVaultAwayAfterTheAnswer(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	stepping(m, "answered", func() { w.grants.down.Store(true) })
	begun := time.Now()
	w.fails(m, providers.CodeStorageDown, fault.Unavailable)
	if time.Since(begun) > 5*time.Second || m.Stats.Unstored.Load() != 1 || i.refreshed.Load() != 1 {
		t.Fatalf("said so after %v, %d unstored", time.Since(begun), m.Stats.Unstored.Load())
	}
	w.fails(m, providers.CodeStorageDown, fault.Unavailable)
	if row := w.row(); row.Owner == "" {
		t.Error("the lease was given back while others would use the replaced refresh token")
	}
	w.grants.down.Store(false)
	eventually(t, "the token is served once it is stored", 15*time.Second, func() bool {
		tok, err := w.source(m).Token(t.Context())
		return err == nil && i.good(tok.Access.Reveal()) && tok.Access.Equal(w.stored().Values[grantAccess])
	})
	if i.refreshed.Load() != 1 || m.Stats.Unstored.Load() != 0 {
		t.Errorf("%d refreshes, %d unstored", i.refreshed.Load(), m.Stats.Unstored.Load())
	}
}

func TestCloseWaitsForWhatIsUnstored(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	stepping(m, "answered", func() { w.grants.down.Store(true) })
	w.fails(m, providers.CodeStorageDown, fault.Unavailable)
	closed := make(chan error, 1)
	go func() { closed <- m.Close(within(t, 20*time.Second)) }()
	eventually(t, "no new flight", 5*time.Second, func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.closing
	})
	select {
	case <-closed:
		t.Fatal("it did not wait")
	default:
	}
	w.grants.down.Store(false)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if w.stored().Version != w.ref.GrantVersion+1 || w.row().Owner != "" || i.refreshed.Load() != 1 {
		t.Error("the grant was not stored")
	}
	// And not for ever.
	m = w.manager(nil)
	w.age(-time.Second)
	w.grants.down.Store(false)
	stepping(m, "answered", func() { w.grants.down.Store(true) })
	w.fails(m, providers.CodeStorageDown, fault.Unavailable)
	if err := m.Close(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) || m.Stats.Lost.Load() != 1 {
		t.Errorf("%v, %d lost", err, m.Stats.Lost.Load())
	}
	if !strings.Contains(w.log.String(), "could not be stored and is given up") {
		t.Error("nothing was logged")
	}
}

// A right to read grants only, or a Vault that is gone, is noticed before the
// refresh token is taken.
func TestNothingIsTakenThatCannotBeStored(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	w.grants.readOnly.Store(true)
	w.fails(m, providers.CodeStorageDown, fault.Unavailable)
	if i.refreshed.Load() != 0 {
		t.Error("the refresh token was replaced")
	}
	w.grants.readOnly.Store(false)
	eventually(t, "it comes back", 10*time.Second, func() bool {
		_, err := w.source(m).Token(t.Context())
		return err == nil
	})
	// A refresh token that stays depends on no write.
	w, i, m = connected(t, time.Hour, false)
	w.age(-time.Second)
	w.grants.readOnly.Store(true)
	if tok := w.ask(m); !i.good(tok.Access.Reveal()) || i.refreshed.Load() != 1 {
		t.Error("no token")
	}
}

func TestWithoutTheLeaseStore(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	w.lease.down.Store(true)
	w.fails(m, providers.CodeStorageDown, fault.Unavailable)
	if i.refreshed.Load() != 0 {
		t.Error("a refresh token that is replaced was used without the lease")
	}
	// What another has stored is served all the same.
	v := w.stored().Values.Clone()
	v[grantIssued], v[grantExpires] = secret.New(time.Now().Format(time.RFC3339Nano)), secret.New(time.Now().Add(time.Hour).Format(time.RFC3339Nano))
	if _, err := w.vault.WriteGrant(t.Context(), acme, w.id, v, w.stored().Version); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another's token", 10*time.Second, func() bool {
		_, err := w.source(m).Token(t.Context())
		return err == nil
	})
	w, i, m = connected(t, time.Hour, false)
	w.age(-time.Second)
	w.lease.down.Store(true)
	if tok := w.ask(m); !i.good(tok.Access.Reveal()) || w.stored().Version != w.ref.GrantVersion+1 {
		t.Error("a refresh token that stays was not used")
	}
}

// A refresh token goes to the issuer and the client that it was given to.
func TestARefreshTokenIsSentNowhereElse(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	elsewhere := newScripted(t, answersWith(200, `{"access_token":"x","expires_in":3600}`))
	for name, edit := range map[string]func(*providers.OAuthApp){
		"another token URL": func(a *providers.OAuthApp) { a.TokenURL = elsewhere.URL },
		"another client":    func(a *providers.OAuthApp) { a.ClientID = "another" },
	} {
		app := w.app
		edit(&app)
		_, err := m.Source(w.ref, app).Token(t.Context())
		if fault.CodeOf(err) != fault.NeedsReauthorization {
			t.Errorf("%s: %v", name, err)
		}
		app.RevokeURL = elsewhere.URL
		if r, err := m.Revoke(t.Context(), w.ref, app); err != nil || r != connector.ForgottenOnly {
			t.Errorf("%s: revoke: %q %v", name, r, err)
		}
	}
	if elsewhere.asked.Load() != 0 || i.refreshed.Load() != 0 || w.row().Status != connector.GrantActive {
		t.Errorf("%d requests elsewhere", elsewhere.asked.Load())
	}
	w.ask(m) // for its own client it still works
}

// The issuer has taken the refresh token and its answer is lost.
func TestADroppedAnswer(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	i.grace = time.Minute
	w.age(-time.Second)
	i.after.Store(hook(func(rw http.ResponseWriter, r *http.Request) bool {
		i.after.Store(nil)
		return drop(rw, r)
	}))
	if tok := w.ask(m); !i.good(tok.Access.Reveal()) || i.refreshed.Load() != 2 || i.invalid.Load() != 0 {
		t.Errorf("%d refreshes", i.refreshed.Load())
	}
	// An issuer without a grace has ended the consent, and says so.
	w, i, m = connected(t, time.Hour, true)
	w.age(-time.Second)
	i.after.Store(hook(func(rw http.ResponseWriter, r *http.Request) bool {
		i.after.Store(nil)
		return drop(rw, r)
	}))
	w.fails(m, providers.CodeNeedsReauthorization, fault.NeedsReauthorization)
}

// Who refuses the client marks no grant, is not asked again soon, and is asked at
// once with a new secret.
func TestARefusedClient(t *testing.T) {
	t.Parallel()
	s := newScripted(t, answersWith(401, `{"error":"invalid_client"}`))
	w := newWorld(t, providers.OAuthApp{Flow: providers.FlowConsent, ClientID: "c", ClientSecret: secret.New("s"), TokenURL: s.URL, AuthStyle: "header", Rotates: true})
	w.give(w.old("r", -time.Second))
	m := w.manager(nil)
	for range 3 {
		err := w.fails(m, providers.CodeOAuthClientInvalid, fault.Unavailable)
		if d := fault.RetryAfter(err); d < 20*time.Second || d > time.Minute {
			t.Errorf("come back in %v", d)
		}
	}
	if s.asked.Load() != 1 || w.row().Status != connector.GrantActive {
		t.Errorf("asked %d times, %+v", s.asked.Load(), w.row())
	}
	w.ref.Pin = vault.NewPin()
	w.fails(m, providers.CodeOAuthClientInvalid, fault.Unavailable)
	if s.asked.Load() != 2 {
		t.Error("a new secret was not tried")
	}
}

func TestAGrantThatIsGone(t *testing.T) {
	t.Parallel()
	s := newScripted(t, answersWith(200, `{}`))
	w := newWorld(t, providers.OAuthApp{Flow: providers.FlowConsent, ClientID: "c", TokenURL: s.URL, Rotates: true})
	m := w.manager(nil)
	w.ref.GrantVersion = 1 // a reading of before the disconnection
	w.fails(m, providers.CodeConsentMissing, fault.NeedsReauthorization)
	// A grant of a deleted connector has a row that nobody gets.
	w.give(w.old("r", -time.Second))
	w.change(connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.Update(ctx, w.id, 1, func(c *connector.Connector) error {
			c.DeletedAt, c.Active = time.Now(), false
			return nil
		})
	})
	w.fails(m, providers.CodeConsentMissing, fault.NeedsReauthorization)
	if s.asked.Load() != 0 {
		t.Error("the issuer was asked")
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.ask(m)
	for range 2 { // twice is no error
		if r, err := m.Revoke(t.Context(), w.ref, w.app); err != nil || r != connector.Revoked {
			t.Fatal(r, err)
		}
	}
	if i.revoked.Load() != 2 || w.row().Owner != "" {
		t.Errorf("%d revocations, %+v", i.revoked.Load(), w.row())
	}
	m.mu.Lock()
	if len(m.entries) != 0 {
		t.Error("its tokens are still held")
	}
	m.mu.Unlock()
	w.age(-time.Second)
	w.fails(m, providers.CodeNeedsReauthorization, fault.NeedsReauthorization) // it is over at the issuer
	for name, tc := range map[string]struct {
		status int
		body   string
		fails  bool
	}{
		"Google, of a token that was revoked": {400, `{"error":"invalid_token","error_description":"Token expired or revoked"}`, false},
		"an outage":                           {503, `down`, true},
		"another refusal":                     {400, `{"error":"unsupported_token_type"}`, true},
	} {
		s := newScripted(t, answersWith(tc.status, tc.body))
		app := w.app
		app.RevokeURL = s.URL
		r, err := m.Revoke(t.Context(), w.ref, app)
		if tc.fails != (fault.CodeOf(err) == fault.Unavailable) || tc.fails != (r == connector.RevocationFailed) || !tc.fails && r != connector.Revoked || s.asked.Load() != 1 {
			t.Errorf("%s: %q %v", name, r, err)
		}
	}
	w.lease.down.Store(true)
	if r, err := m.Revoke(t.Context(), w.ref, w.app); fault.CodeOf(err) != fault.Unavailable || r != connector.RevocationFailed {
		t.Errorf("without the lease: %q %v", r, err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, providers.OAuthApp{Flow: providers.FlowConsent})
	m := w.manager(func(o *Options) { o.MaxTokens = 100 })
	for range 1000 {
		m.entry(key{tenant: acme, connector: connector.NewID()})
	}
	if len(m.entries) > 100 {
		t.Errorf("%d entries", len(m.entries))
	}
}

func TestAPanicFailsItsFlightOnly(t *testing.T) {
	t.Parallel()
	w, _, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	stepping(m, "leased", func() { panic("canary") })
	err := w.fails(m, providers.CodeInternal, fault.Internal)
	if strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
	eventually(t, "the next one works", 10*time.Second, func() bool { _, err := w.source(m).Token(t.Context()); return err == nil })
}

// Not parallel: it counts goroutines.
func TestCloseLeavesNothing(t *testing.T) {
	before := goleak.IgnoreCurrent()
	i := newIssuer(t, time.Hour, true)
	w := newWorld(t, i.app())
	m := w.manager(nil)
	w.consent(m, i)
	w.age(-time.Second)
	started := make(chan struct{})
	stepping(m, "asking", func() { close(started) })
	release := make(chan struct{})
	i.before.Store(hook(func(http.ResponseWriter, *http.Request) bool { <-release; return false }))
	go func() { _, _ = w.source(m).Token(context.Background()) }()
	<-started
	if err := m.Close(within(t, 20*time.Millisecond)); err == nil {
		t.Error("what was broken off is not told")
	}
	close(release)
	faults := m.Stats.LeaseFaults.Load()
	m.forget(func(key) bool { return true })
	w.fails(m, providers.CodeStorageDown, fault.Unavailable)
	if m.Stats.LeaseFaults.Load() != faults {
		t.Error("a closed Manager began another refresh")
	}
	m.o.Client.CloseIdleConnections()
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http/httptest.(*Server).goServe.func1"),
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}
