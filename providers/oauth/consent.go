package oauth

import (
	"context"
	"net/url"

	"golang.org/x/oauth2"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// NewVerifier returns a PKCE code verifier (RFC 7636 section 4.1): 32 random bytes.
// It is kept, secret, until the code comes back.
func NewVerifier() secret.Value { return secret.New(oauth2.GenerateVerifier()) }

// AuthCodeURL is where a user consents to app (RFC 6749 section 4.1.1). state comes
// back with the code, to redirectURL; the challenge is S256 of the verifier.
func AuthCodeURL(app providers.OAuthApp, redirectURL, state string, verifier secret.Value) string {
	cfg := oauth2.Config{
		ClientID: app.ClientID, RedirectURL: redirectURL, Scopes: app.Scopes,
		Endpoint: oauth2.Endpoint{AuthURL: app.AuthURL},
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(verifier.Reveal())}
	for name, value := range app.AuthParams {
		options = append(options, oauth2.SetAuthURLParam(name, value))
	}
	return cfg.AuthCodeURL(state, options...)
}

// Exchange redeems the code of a consent, and returns the grant as it is to be
// written (vault.Store's WriteGrant) and the access token in it. It keeps nothing.
// It blocks for one request, two where the client's way to authenticate is not
// known. A code is good for one try: any failure asks for a new consent.
//
// Errors are *providers.TokenError; fault.NeedsReauthorization also where the issuer
// gave an access token that ends and no refresh token: the consent was not asked for
// offline use.
func (m *Manager) Exchange(ctx context.Context, app providers.OAuthApp, code, verifier secret.Value, redirectURL string) (secret.Map, providers.Token, error) {
	a, bad := m.request(ctx, app, url.Values{
		"grant_type": {"authorization_code"}, "code": {code.Reveal()},
		"code_verifier": {verifier.Reveal()}, "redirect_uri": {redirectURL},
	})
	if bad != nil {
		return nil, providers.Token{}, bad.error(bad.after)
	}
	if !a.refresh.IsSet() && a.life > 0 {
		bad := &trouble{class: refused, code: providers.CodeConsentMissing,
			err: fault.New(fault.NeedsReauthorization, "the issuer gave no refresh token; consent again, with access for offline use")}
		return nil, providers.Token{}, bad.error(0)
	}
	if a.scopes == nil {
		a.scopes = app.Scopes // RFC 6749 section 5.1: as asked for
	}
	t := m.timed(key{}, a.token(0, a.refresh.IsSet()))
	return a.values(app), t.Token, nil
}
