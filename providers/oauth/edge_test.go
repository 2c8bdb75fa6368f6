package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/vault"
)

// Who deletes the grant in Vault has ended it: its metadata is a clear answer.
func TestAGrantDeletedInVault(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, time.Hour, true)
	v := testenv.Vault(t)
	w, p := newRealWorld(t, testenv.Postgres(t), v, i.app())
	m := w.manager(nil)
	w.consent(m, i)
	v.Do(t, "DELETE", p.Mount+"/data/patchbay/acme/"+w.id.String()+"/grant", nil)
	w.fails(m, providers.CodeNeedsReauthorization, fault.NeedsReauthorization)
	if row := w.row(); row.Status != connector.GrantNeedsReauthorization || i.refreshed.Load() != 0 {
		t.Errorf("%+v", row)
	}
	w.consent(m, i) // over what was deleted, with a greater version
	if tok := w.ask(m); !i.good(tok.Access.Reveal()) || w.ref.GrantVersion != 2 {
		t.Errorf("version %d", w.ref.GrantVersion)
	}
}

// A grant without a refresh token serves to its end, and then needs its user.
func TestAGrantWithoutARefreshToken(t *testing.T) {
	t.Parallel()
	s := newScripted(t, answersWith(200, `{}`))
	w := newWorld(t, providers.OAuthApp{Flow: providers.FlowConsent, ClientID: "c", TokenURL: s.URL, Rotates: true})
	m := w.manager(nil)
	v := w.old("", 500*time.Millisecond) // its moment of renewal is long past
	w.give(v)
	if tok := w.ask(m); tok.Access.Reveal() != "held-canary" || !tok.RefreshAt.Equal(tok.ExpiresAt) {
		t.Errorf("%+v", tok)
	}
	eventually(t, "it has ended", 10*time.Second, func() bool {
		_, err := w.source(m).Token(t.Context())
		return fault.CodeOf(err) == fault.NeedsReauthorization
	})
	if w.row().Status != connector.GrantNeedsReauthorization || s.asked.Load() != 0 {
		t.Errorf("%+v", w.row())
	}
}

// A consent that comes while an answer can't be stored wins over it.
func TestAConsentOvertakesWhatIsUnstored(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	stepping(m, "answered", func() { w.grants.down.Store(true) })
	w.fails(m, providers.CodeStorageDown, fault.Unavailable)
	fresh := w.old("the new consent's", time.Hour)
	fresh[grantIssued] = secret.New(time.Now().Format(time.RFC3339Nano))
	w.give(fresh)
	w.grants.down.Store(false)
	eventually(t, "the new consent's token", 15*time.Second, func() bool {
		tok, err := w.source(m).Token(t.Context())
		return err == nil && tok.Access.Reveal() == "held-canary"
	})
	if m.Stats.LostWrites.Load() != 1 || m.Stats.Unstored.Load() != 0 || i.refreshed.Load() != 1 {
		t.Errorf("%d lost, %d unstored", m.Stats.LostWrites.Load(), m.Stats.Unstored.Load())
	}
	if w.stored().Values[grantRefresh].Reveal() != "the new consent's" {
		t.Error("the consent was overwritten")
	}
}

func TestRevocationWaitsForARefresh(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	there, resume := w.pause(m, "answered", func() {})
	go func() { _, _ = w.source(m).Token(within(t, 20*time.Second)) }()
	<-there
	if _, err := m.Revoke(within(t, 100*time.Millisecond), w.ref, w.app); fault.CodeOf(err) != fault.Unavailable || i.revoked.Load() != 0 {
		t.Fatalf("what is about to be replaced was revoked: %v", err)
	}
	resume()
	if _, err := m.Revoke(within(t, 20*time.Second), w.ref, w.app); err != nil || i.revoked.Load() != 1 {
		t.Fatal(err)
	}
	w.ref.GrantVersion = w.stored().Version
	w.age(-time.Second)
	w.fails(m, providers.CodeNeedsReauthorization, fault.NeedsReauthorization) // the refresh token of after was revoked
}

func TestRevocationOfLess(t *testing.T) {
	t.Parallel()
	s := newScripted(t, answersWith(200, ``))
	app := providers.OAuthApp{Flow: providers.FlowConsent, ClientID: "c", ClientSecret: secret.New("s"), TokenURL: s.URL, RevokeURL: s.URL, AuthStyle: "params"}
	w := newWorld(t, app)
	m := w.manager(nil)
	// Without a row, and without a grant in it, there is nothing to revoke.
	if r, err := m.Revoke(t.Context(), w.ref, app); err != nil || r != "" || s.asked.Load() != 0 {
		t.Fatal(r, err)
	}
	nowhere := app
	nowhere.RevokeURL = ""
	if r, err := m.Revoke(t.Context(), w.ref, nowhere); err != nil || r != "" {
		t.Fatal(r, err)
	}
	w.give(w.old("", time.Hour)) // an access token alone
	if _, err := m.Revoke(t.Context(), w.ref, app); err != nil {
		t.Fatal(err)
	}
	forms, _ := s.sent()
	if len(forms) != 1 || forms[0].Get("token") != "held-canary" || forms[0].Get("token_type_hint") != "access_token" || forms[0].Get("client_secret") != "s" {
		t.Errorf("sent %v", forms)
	}
	for name, row := range map[string]struct {
		edit func(*providers.OAuthApp)
		want connector.Revocation
	}{
		"no address":  {func(a *providers.OAuthApp) { a.RevokeURL = "" }, connector.ForgottenOnly},
		"no consent":  {func(a *providers.OAuthApp) { a.Flow = providers.FlowClientCredentials }, ""},
		"another app": {func(a *providers.OAuthApp) { a.ClientID = "d" }, connector.ForgottenOnly},
	} {
		other := app
		row.edit(&other)
		if r, err := m.Revoke(t.Context(), w.ref, other); err != nil || r != row.want || s.asked.Load() != 1 {
			t.Errorf("%s: %q %v", name, r, err)
		}
	}
	bad := app
	bad.RevokeURL = "::"
	if _, err := m.Revoke(t.Context(), w.ref, bad); fault.CodeOf(err) != fault.Unavailable {
		t.Error(err)
	}
	w.grants.down.Store(true)
	if _, err := m.Revoke(t.Context(), w.ref, app); fault.CodeOf(err) != fault.Unavailable {
		t.Error(err)
	}
	w.grants.down.Store(false)
	s.CloseClientConnections()
	s.Close()
	if _, err := m.Revoke(t.Context(), w.ref, app); fault.CodeOf(err) != fault.Unavailable {
		t.Error(err)
	}
}

// Redis away while tokens are minted: each process makes its own.
func TestMintingWithoutRedis(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, time.Hour, false)
	w := newWorld(t, machine(i))
	server := testenv.NewRedis(t)
	cache := shared(t, server)
	a := w.manager(func(o *Options) { o.Cache, o.CacheKey = cache(), fixedKey("k", 1) })
	b := w.manager(func(o *Options) { o.Cache, o.CacheKey = cache(), fixedKey("k", 1) })
	server.Kill()
	if x, y := w.ask(a), w.ask(b); x.Access.Equal(y.Access) || i.minted.Load() != 2 || a.Stats.SharedErrors.Load() == 0 {
		t.Errorf("%d minted", i.minted.Load())
	}
}

// Who waits for another's turn goes on when that one meets an outage, and when it
// brings nothing.
func TestATurnThatBringsNothing(t *testing.T) {
	t.Parallel()
	first := make(chan struct{}, 1)
	s := newScripted(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case first <- struct{}{}: // the process with the claim dies, as far as anybody can see
			<-r.Context().Done()
		default:
			answersWith(200, `{"access_token":"x","expires_in":3600}`)(w, r)
		}
	})
	w := newWorld(t, providers.OAuthApp{Flow: providers.FlowClientCredentials, ClientID: "c", TokenURL: s.URL})
	cache := shared(t, testenv.Redis(t))
	with := func(o *Options) { o.Cache, o.CacheKey, o.HTTPTimeout = cache(), fixedKey("k", 1), 500*time.Millisecond }
	dies, waits := w.manager(with), w.manager(with)
	go func() { _, _ = w.source(dies).Token(within(t, 20*time.Second)) }()
	eventually(t, "the first is at the issuer", 10*time.Second, func() bool { return s.asked.Load() == 1 })
	if tok := w.ask(waits); tok.Access.Reveal() != "x" {
		t.Error("no token")
	}
}

// A caller who goes away gets an error of its own.
func TestACallerWhoGoesAway(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	i.before.Store(hook(func(http.ResponseWriter, *http.Request) bool { <-release; return false }))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := w.source(m).Token(ctx)
	if e, ok := errors.AsType[*providers.TokenError](err); !ok || e.Code != providers.CodeCancelled || fault.CodeOf(err) != fault.DeadlineExceeded {
		t.Error(err)
	}
}

// Answers in a form, as GitHub gives them to who doesn't ask for JSON, and what a
// consent's URL holds.
func TestFormsAndURLs(t *testing.T) {
	t.Parallel()
	s := newScripted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "application/json" {
			w.WriteHeader(500)
			return
		}
		w.Header().Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		fmt.Fprint(w, url.Values{"access_token": {"x"}, "expires_in": {"600"}, "scope": {"repo,user"}, "token_type": {"bearer"}}.Encode())
	})
	w := newWorld(t, providers.OAuthApp{
		Flow: providers.FlowClientCredentials, ClientID: "c", TokenURL: s.URL, AuthURL: "https://issuer.example/auth?tenant=1",
		AuthParams: map[string]string{"access_type": "offline", "prompt": "consent"}, Scopes: []string{"a", "b"},
	})
	if tok := w.ask(w.manager(nil)); len(tok.Scopes) != 2 || time.Until(tok.ExpiresAt) > 10*time.Minute || time.Until(tok.ExpiresAt) < 9*time.Minute {
		t.Errorf("%+v", tok)
	}
	u, err := url.Parse(AuthCodeURL(w.app, redirectURL, "st ate", NewVerifier()))
	q := u.Query()
	if err != nil || q.Get("tenant") != "1" || q.Get("access_type") != "offline" || q.Get("prompt") != "consent" || q.Get("scope") != "a b" ||
		q.Get("state") != "st ate" || q.Get("redirect_uri") != redirectURL || q.Get("response_type") != "code" || len(q.Get("code_challenge")) != 43 {
		t.Errorf("%s %v", u, err)
	}
}

// The grant's shape in Vault is read by later versions of this program.
func TestWhatAGrantLooksLike(t *testing.T) {
	t.Parallel()
	begun := time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)
	a := answer{access: secret.New("a"), refresh: secret.New("r"), kind: "Bearer", scopes: []string{"x", "y"}, begun: begun, life: time.Hour}
	v := a.values(connector.ID{}, providers.OAuthApp{ClientID: "c", TokenURL: "u"})
	got := map[string]string{}
	for name, value := range v {
		got[name] = value.Reveal()
	}
	want := map[string]string{
		"refresh_token": "r", "access_token": "a", "token_type": "Bearer", "scope": "x y", "issued_at": "2030-01-02T03:04:05.000000006Z",
		"expires_at": "2030-01-02T04:03:55.000000006Z", "client_id": "c", "token_url": "u",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v", got)
	}
	g, ok := grantOf(vault.Grant{Values: v, Version: 3})
	if !ok || g.version != 3 || g.token.version != 3 || !g.token.issued.Equal(begun) || g.token.life() != time.Hour-10*time.Second || len(g.token.Scopes) != 2 {
		t.Errorf("%+v", g)
	}
}
