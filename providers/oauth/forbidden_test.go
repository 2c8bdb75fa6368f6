package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/egress/egresstest"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// A token endpoint that a config leads inside, and one that sends us there:
// nobody inside is reached, by minting, by refreshing, by redeeming a code or by
// revoking, and no error tells what is there.
func TestNoTokenRequestReachesTheInside(t *testing.T) {
	t.Parallel()
	inside := egresstest.Plant(t)
	forms := inside.Forms()
	outside := newScripted(t, func(w http.ResponseWriter, r *http.Request) {
		i, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/to/"))
		if err != nil {
			t.Error(err)
			return
		}
		w.Header().Set("Location", forms[i].URL("http"))
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	base := newWorld(t, providers.OAuthApp{})
	closed := base.manager(func(o *Options) {
		d, err := egress.New(egress.Config{})
		if err != nil {
			t.Fatal(err)
		}
		o.Client = providers.Runtime{Transport: d.Transport()}.Client()
	})
	open := base.manager(nil) // may reach loopback: no redirect may make use of it
	ctx := within(t, 60*time.Second)
	// A connector of its own for each: what fails pauses its connector.
	consented := func(app providers.OAuthApp) connector.GrantRef {
		t.Helper()
		w := *base
		w.app, w.id = app, connector.NewID()
		w.ref = connector.GrantRef{Tenant: acme, Connector: w.id}
		w.change(connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(ctx context.Context, tx connector.TenantTx) error {
			return tx.Insert(ctx, connector.Connector{
				ID: w.id, Name: w.id.String(), Category: "email", Kind: "gmail_oauth2", SchemaVersion: 1, State: connector.StateUntested, Active: true,
			})
		})
		w.give(w.old("canary-of-a-refresh-token", -time.Second))
		return w.ref
	}
	refuses := func(what string, m *Manager, app providers.OAuthApp, want ...providers.TestCode) {
		t.Helper()
		machine, person := app, app
		machine.Flow, person.Flow = providers.FlowClientCredentials, providers.FlowConsent
		minting, refreshing := connector.GrantRef{Tenant: acme, Connector: connector.NewID()}, consented(person)
		check := func(how string, err error) {
			t.Helper()
			if e, ok := errors.AsType[*providers.TokenError](err); !ok || !slices.Contains(want, e.Code) {
				t.Errorf("%s, %s: %v", what, how, err)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { _, err := m.Source(minting, machine).Token(ctx); check("minting", err) })
		wg.Go(func() {
			_, err := m.Source(refreshing, person).Token(ctx)
			check("refreshing", err)
			if _, err := m.Revoke(ctx, refreshing, person); fault.CodeOf(err) != fault.Unavailable {
				t.Errorf("%s, revoking: %v", what, err)
			}
		})
		wg.Go(func() {
			if _, _, err := m.Exchange(ctx, person, secret.New("a code"), NewVerifier(), redirectURL); err == nil {
				t.Errorf("%s: a code was redeemed", what)
			}
		})
		wg.Wait()
	}
	for i, f := range forms {
		at := func(address string) providers.OAuthApp {
			return providers.OAuthApp{
				ClientID: "client", ClientSecret: secret.New("canary-of-a-client"), TokenURL: address, RevokeURL: address, AuthStyle: "params",
			}
		}
		for _, scheme := range []string{"http", "https"} {
			want := providers.CodeEgressDenied
			if _, err := url.Parse(f.URL(scheme)); err != nil {
				want = providers.CodeTokenEndpointDown // nothing to dial
			}
			refuses(f.Name+" over "+scheme, closed, at(f.URL(scheme)), want)
		}
		refuses("a redirect to "+f.Name, open, at(fmt.Sprintf("%s/to/%d", outside.URL, i)), providers.CodeRedirected, providers.CodeTokenEndpointDown)
	}
	inside.Check(t)
	if n, want := outside.asked.Load(), int64(4*len(forms)); n < want {
		t.Errorf("the redirects were asked for %d times, want %d", n, want)
	}
}
