package resolver

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// consented is a kind whose backend holds a token.
type consented struct {
	providers.Base
	schema *providers.Schema
}

func newConsented() *consented {
	return &consented{schema: &providers.Schema{
		Kind: "consented", Category: providers.Storage, Label: "With a consent", Version: 1,
		Params: []providers.Param{{Name: "bucket", Type: providers.String, Label: "Bucket"}},
		Secrets: []providers.Param{
			{Name: "access_key_id", Type: providers.String, Label: "Key", AffectsConnection: true},
			{Name: "secret_access_key", Type: providers.String, Label: "Secret", AffectsConnection: true},
		},
	}}
}

func (m *consented) Schema() *providers.Schema { return m.schema }
func (m *consented) OAuth(providers.Config) (providers.OAuthApp, bool, error) {
	return providers.OAuthApp{Flow: providers.FlowConsent}, true, nil
}

func (m *consented) Backend(ctx context.Context, c providers.Config) (providers.Backend, error) {
	return providers.WithToken(ctx, c)
}

// mint is the lifecycle of tokens as the resolver sees it: the present token,
// or why there is none.
type mint struct {
	mu     sync.Mutex
	token  providers.Token
	err    error
	asked  []connector.GrantRef
	number int
}

// next mints a token of the given life, due at four fifths of it.
func (m *mint) next(life time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.number++
	now := time.Now()
	m.token = providers.Token{Access: secret.New(fmt.Sprintf("token-%d", m.number)), ExpiresAt: now.Add(life), RefreshAt: now.Add(life * 4 / 5)}
}

func (m *mint) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

func (m *mint) refs() []connector.GrantRef {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked)
}

func (m *mint) Revoke(context.Context, connector.GrantRef, providers.OAuthApp) (connector.Revocation, error) {
	return "", nil
}

func (m *mint) Source(ref connector.GrantRef, _ providers.OAuthApp) providers.TokenSource {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, ref)
	return (*minted)(m)
}

type minted mint

func (m *minted) Token(context.Context) (providers.Token, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return providers.Token{}, &providers.TokenError{Code: providers.CodeTokenEndpointDown, Err: m.err}
	}
	return m.token, nil
}

func consentedWorld(t *testing.T, edit func(*Options)) (*world, *mint, *Resolver) {
	t.Helper()
	kinds, err := providers.NewRegistry(newConsented())
	if err != nil {
		t.Fatal(err)
	}
	w, m := newWorld(), &mint{}
	w.kind, w.grant, w.grantVer = "consented", connector.GrantActive, 1
	r := newResolver(t, w, func(o *Options) {
		o.Kinds, o.Tokens = kinds, m
		o.TTL = time.Hour // the token's times decide, not the record's
		if edit != nil {
			edit(o)
		}
	})
	return w, m, r
}

func wantToken(t *testing.T, a Answer, want string) {
	t.Helper()
	var body struct {
		Config    map[string]any `json:"config"`
		ExpiresAt *time.Time     `json:"expires_at"`
	}
	if err := json.Unmarshal(a.Body.Reveal(), &body); err != nil {
		t.Fatal(err)
	}
	if body.Config["access_token"] != want {
		t.Fatalf("the token is %v, want %s", body.Config["access_token"], want)
	}
	if body.ExpiresAt == nil || !body.ExpiresAt.After(time.Now().Add(-time.Second)) {
		t.Fatalf("expires_at is %v", body.ExpiresAt)
	}
}

func TestATokenIsReplacedBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, m, r := consentedWorld(t, nil)
		m.next(10 * time.Second)
		first := mustResolve(t, r, 0)
		wantToken(t, first, "token-1")
		reads := w.reads.Load()

		time.Sleep(7 * time.Second) // not due yet
		wantToken(t, mustResolve(t, r, 0), "token-1")
		m.next(10 * time.Second)
		wantToken(t, mustResolve(t, r, 0), "token-1")

		time.Sleep(1500 * time.Millisecond) // due: the old one is served once more
		asked := len(m.refs())
		wantToken(t, mustResolve(t, r, 0), "token-1") // nothing has had time to run yet
		for range 50 {
			mustResolve(t, r, 0) // by whichever is there
		}
		synctest.Wait()
		if n := len(m.refs()) - asked; n != 1 {
			t.Errorf("fifty callers made the backend anew %d times", n)
		}
		second := mustResolve(t, r, 0)
		wantToken(t, second, "token-2")
		if second.Source != FromMemory || first.ETag == second.ETag {
			t.Errorf("from %s, ETags %s and %s", second.Source, first.ETag, second.ETag)
		}
		if n := w.reads.Load() - reads; n != 0 {
			t.Errorf("a new token cost %d reads of the database", n)
		}
	})
}

// A refresh that is under way elsewhere is looked at again soon, and not by each
// caller.
func TestATokenThatIsDueIsAskedForWithMeasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, r := consentedWorld(t, nil)
		m.next(10 * time.Second)
		mustResolve(t, r, 0)
		time.Sleep(8100 * time.Millisecond)
		asked := len(m.refs())
		for range 100 {
			wantToken(t, mustResolve(t, r, 0), "token-1")
			synctest.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(m.refs()) - asked; n < 3 || n > 12 {
			t.Errorf("within a second the token was asked for %d times", n)
		}
		m.next(10 * time.Second)
		time.Sleep(400 * time.Millisecond)
		mustResolve(t, r, 0)
		synctest.Wait()
		wantToken(t, mustResolve(t, r, 0), "token-2")
	})
}

func TestATokenIsNeverServedPastItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, r := consentedWorld(t, nil)
		m.next(10 * time.Second)
		mustResolve(t, r, 0)
		m.fail(fault.New(fault.Unavailable, "the token endpoint is away"))
		for range 95 {
			wantToken(t, mustResolve(t, r, 0), "token-1")
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
			t.Fatalf("after the token's end: %v", err)
		}
		m.next(10 * time.Second)
		m.fail(nil)
		wantToken(t, mustResolve(t, r, 0), "token-2")
	})
}

func TestAnIssuersNoIsAnAnswerForItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, m, r := consentedWorld(t, nil)
		m.next(10 * time.Second)
		mustResolve(t, r, 0)
		m.fail(fault.New(fault.NeedsReauthorization, "the consent has ended"))
		time.Sleep(8100 * time.Millisecond)
		mustResolve(t, r, 0)
		synctest.Wait()
		asked := len(m.refs())
		for range 20 {
			if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.NeedsReauthorization {
				t.Fatal(err)
			}
		}
		if n := len(m.refs()) - asked; n != 0 {
			t.Errorf("the issuer's no was asked for %d times more", n)
		}
		m.next(10 * time.Second)
		m.fail(nil)
		time.Sleep(11 * time.Second) // negative_ttl
		m.next(10 * time.Second)
		wantToken(t, mustResolve(t, r, 0), "token-3")
	})
}

// What was known of the connector may be held while the database is away; a token
// past its end may not, and a new one needs no database.
func TestATokenIsMintedWhileTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, m, r := consentedWorld(t, func(o *Options) { o.TTL = 5 * time.Second })
		m.next(20 * time.Second)
		mustResolve(t, r, 0)
		w.with(func() { w.down = true })
		time.Sleep(21 * time.Second)
		m.next(20 * time.Second)
		a := mustResolve(t, r, 0)
		wantToken(t, a, "token-2")
		if !a.Stale || a.Age < 20*time.Second {
			t.Errorf("stale %v, age %s: making a token anew validates nothing", a.Stale, a.Age)
		}
		time.Sleep(17 * time.Second) // due, and served as stale
		m.next(20 * time.Second)
		mustResolve(t, r, 0)
		synctest.Wait()
		a = mustResolve(t, r, 0)
		wantToken(t, a, "token-3")
		if !a.Stale {
			t.Error("a new token made the answer fresh")
		}
	})
}

func TestANewConsentReplacesTheTokenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, m, r := consentedWorld(t, func(o *Options) { o.TTL = time.Second })
		m.next(time.Hour)
		wantToken(t, mustResolve(t, r, 0), "token-1")
		w.with(func() { w.grantVer, w.revision = 2, w.revision+1 })
		m.next(time.Hour)
		time.Sleep(1100 * time.Millisecond)
		wantToken(t, mustResolve(t, r, 0), "token-2")
		refs := m.refs()
		if last := refs[len(refs)-1]; last.GrantVersion != 2 || last.Connector != theID || last.Tenant != acme || last.Pin != w.pin {
			t.Errorf("the tokens were asked for as %+v", last)
		}
	})
}

func TestAGrantIsTheLaterWord(t *testing.T) {
	f := facts{Tenant: connector.StatusReady, Connector: &recordConnector{State: connector.StateNeedsReauthorization, Active: true}}
	if got := fault.CodeOf(f.verdict(false)); got != fault.NeedsReauthorization {
		t.Errorf("without a grant: %v", got)
	}
	f.Grant = connector.GrantActive
	if err := f.verdict(false); err != nil {
		t.Errorf("with an active grant: %v", err)
	}
	f.Grant, f.Connector.State = connector.GrantNeedsReauthorization, ""
	if got := fault.CodeOf(f.verdict(false)); got != fault.NeedsReauthorization {
		t.Errorf("with a refused grant: %v", got)
	}
}

func TestWithoutTokensAKindThatMintsIsUnavailable(t *testing.T) {
	_, _, r := consentedWorld(t, func(o *Options) { o.Tokens = nil })
	if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("%v", err)
	}
}
