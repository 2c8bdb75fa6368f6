package oauth

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// disconnect has the database forget the grant.
func (w *world) disconnect() {
	w.Helper()
	w.change(connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.DeleteGrant(ctx, w.id)
	})
}

// A refresh that had the refresh token when its grant was forgotten brings nothing
// back: its write meets a version that it doesn't know.
func TestASlowRefreshBringsNothingBack(t *testing.T) {
	t.Parallel()
	for _, rotates := range []bool{true, false} {
		w, i, m := connected(t, time.Hour, rotates)
		w.age(-time.Second)
		slow, other := w.manager(nil), m
		there, resume := w.pause(slow, "answered", func() {})
		failed := make(chan error, 1)
		go func() {
			_, err := w.source(slow).Token(within(t, 30*time.Second))
			failed <- err
		}()
		<-there
		w.disconnect()
		ref := w.ref
		if err := other.Forget(within(t, 20*time.Second), ref); err != nil {
			t.Fatal(err)
		}
		resume()
		if err := <-failed; fault.CodeOf(err) != fault.NeedsReauthorization {
			t.Errorf("rotates %v: the refresh ends with %v", rotates, err)
		}
		g := w.stored()
		if i.refreshed.Load() == 0 || len(g.Values) != 0 || g.Version != ref.GrantVersion+1 {
			t.Errorf("rotates %v: %d refreshes, version %d holds %v", rotates, i.refreshed.Load(), g.Version, g.Values.Names())
		}
		if err := other.Forget(within(t, 20*time.Second), ref); err != nil || w.stored().Version != g.Version {
			t.Errorf("again: %v", err)
		}
	}
}

// What is newer than the grant that was forgotten may be the next consent's.
func TestForgetLeavesTheNextConsent(t *testing.T) {
	t.Parallel()
	w, _, m := connected(t, time.Hour, true)
	old := w.ref
	w.disconnect()
	w.give(w.old("the next", time.Hour))
	if err := m.Forget(within(t, 20*time.Second), old); fault.CodeOf(err) != fault.Conflict {
		t.Error(err)
	}
	if w.stored().Values[grantRefresh].Reveal() != "the next" {
		t.Error("the next consent was forgotten")
	}
	w.grants.down.Store(true)
	if err := m.Forget(within(t, 20*time.Second), w.ref); fault.CodeOf(err) != fault.Unavailable {
		t.Error(err)
	}
}

// A connector that lives again after its grant was forgotten says what it needs, and
// a new consent is written over what is there.
func TestAForgottenGrantAsksForConsent(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(-time.Second)
	v, err := w.vault.ForgetGrant(within(t, 10*time.Second), acme, w.id, w.stored().Version)
	if err != nil {
		t.Fatal(err)
	}
	w.fails(m, providers.CodeNeedsReauthorization, fault.NeedsReauthorization)
	if row := w.row(); row.Status != connector.GrantNeedsReauthorization || row.Version != v || i.refreshed.Load() != 0 {
		t.Errorf("%+v after version %d", row, v)
	}
	verifier := NewVerifier()
	code := i.agree(t, AuthCodeURL(w.app, redirectURL, "a state", verifier))
	version, err := m.Connect(within(t, 30*time.Second), w.ref, w.app, code, verifier, redirectURL)
	if err != nil || version != v+1 {
		t.Fatalf("version %d, %v", version, err)
	}
	w.change(connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.PutGrant(ctx, w.id, version)
	})
	w.ref.GrantVersion = version
	w.ask(m)
}

// deleted is a grant store whose latest version somebody deleted with Vault's own
// means.
type deleted struct{ GrantStore }

func (d deleted) ReadGrant(ctx context.Context, t tenant.ID, id connector.ID) (vault.Grant, error) {
	g, err := d.GrantStore.ReadGrant(ctx, t, id)
	if err == nil && g.Version > 0 {
		return vault.Grant{Version: g.Version}, fault.New(fault.NotFound, "these secrets were deleted")
	}
	return g, err
}

// A grant that somebody deleted in Vault is written over by the next consent.
func TestAConsentOverADeletedGrant(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	before := w.ref.GrantVersion
	w.grants.GrantStore = deleted{w.vault}
	verifier := NewVerifier()
	code := i.agree(t, AuthCodeURL(w.app, redirectURL, "a state", verifier))
	version, err := m.Connect(within(t, 30*time.Second), w.ref, w.app, code, verifier, redirectURL)
	if err != nil || version != before+1 {
		t.Errorf("version %d after %d, %v", version, before, err)
	}
}

// A token of more than 64 KiB is refused whole, wherever it stands, and one of just
// that is stored as it came.
func TestTheLongestToken(t *testing.T) {
	t.Parallel()
	fits, long := strings.Repeat("t", 64<<10), strings.Repeat("t", 64<<10+1)
	const answer = `{"access_token":%q,"refresh_token":%q,"id_token":%q,"token_type":"Bearer","expires_in":3600}`
	for name, row := range map[string]struct {
		access, refresh, id string
		ok                  bool
	}{
		"all that fit":    {fits, fits, fits, true},
		"a long access":   {long, "r", "i", false},
		"a long refresh":  {"a", long, "i", false},
		"a long id token": {"a", "r", long, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, answersWith(http.StatusOK, fmt.Sprintf(answer, row.access, row.refresh, row.id)))
			w := newWorld(t, providers.OAuthApp{Flow: providers.FlowConsent, ClientID: "c", TokenURL: s.URL, AuthStyle: "params", Rotates: true})
			w.give(w.old("first", -time.Second))
			m := w.manager(nil)
			if row.ok {
				got := w.ask(m)
				v := w.stored().Values
				if got.Access.Reveal() != fits || v[grantAccess].Reveal() != fits || v[grantRefresh].Reveal() != fits {
					t.Errorf("%d bytes served, %d and %d stored", got.Access.Len(), v[grantAccess].Len(), v[grantRefresh].Len())
				}
				return
			}
			err := w.fails(m, providers.CodeTooLarge, fault.Unavailable)
			if !strings.Contains(fault.Message(err), "64 KiB") {
				t.Errorf("it says %q", fault.Message(err))
			}
			if v := w.stored(); v.Version != w.ref.GrantVersion || v.Values[grantRefresh].Reveal() != "first" || w.row().Status != connector.GrantActive {
				t.Errorf("version %d, %+v", v.Version, w.row())
			}
			// The same of a consent, and of what is minted.
			if _, _, err := m.Exchange(t.Context(), w.app, NewVerifier(), NewVerifier(), redirectURL); fault.CodeOf(err) != fault.Unavailable {
				t.Errorf("of a consent: %v", err)
			}
		})
	}
}
