package oauth

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/egress/egresstest"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// A token endpoint that a config leads inside, and one that sends us there:
// nobody inside is reached, by minting, by redeeming a code or by revoking.
func TestNoTokenRequestReachesTheInside(t *testing.T) {
	t.Parallel()
	inside := egresstest.Plant(t)
	forms := inside.Forms()
	outside := newScripted(t, func(w http.ResponseWriter, r *http.Request) {
		for _, f := range forms {
			if f.Name == r.PostForm.Get("form") {
				w.Header().Set("Location", f.URL("http"))
			}
		}
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	w := newWorld(t, providers.OAuthApp{})
	closed := w.manager(func(o *Options) {
		d, err := egress.New(egress.Config{})
		if err != nil {
			t.Fatal(err)
		}
		o.Client = providers.Runtime{Transport: d.Transport()}.Client()
	})
	open := w.manager(nil) // may reach loopback: no redirect may make use of it
	app := func(tokenURL string) providers.OAuthApp {
		return providers.OAuthApp{
			Flow: providers.FlowClientCredentials, ClientID: "client", ClientSecret: secret.New("canary-of-a-client"),
			TokenURL: tokenURL, RevokeURL: tokenURL, AuthStyle: "params",
		}
	}
	ctx := within(t, 60*time.Second)
	var wg sync.WaitGroup
	for _, f := range forms {
		for _, scheme := range []string{"http", "https"} {
			wg.Go(func() {
				a := app(f.URL(scheme))
				ref := connector.GrantRef{Tenant: acme, Connector: connector.NewID()}
				if token, err := closed.Source(ref, a).Token(ctx); err == nil || token.Access.IsSet() {
					t.Errorf("%s: a token", f.Name)
				}
				a.Flow = providers.FlowConsent
				if _, _, err := closed.Exchange(ctx, a, secret.New("a code"), NewVerifier(), redirectURL); err == nil {
					t.Errorf("%s: a code was redeemed", f.Name)
				}
			})
		}
		wg.Go(func() {
			a := app(outside.URL)
			a.TokenParams = map[string]string{"form": f.Name}
			if token, err := open.Source(connector.GrantRef{Tenant: acme, Connector: connector.NewID()}, a).Token(ctx); err == nil || token.Access.IsSet() {
				t.Errorf("a redirect to %s: a token", f.Name)
			}
		})
	}
	wg.Wait()
	inside.Check(t)
	if n := outside.asked.Load(); n < int64(len(forms)) {
		t.Errorf("the redirects were asked for %d times", n)
	}
}
