package oauth

import (
	"context"
	"net/url"
	"time"

	"golang.org/x/oauth2"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// NewVerifier returns a PKCE code verifier (RFC 7636 section 4.1): 32 random bytes.
// It is kept, secret, until the code comes back.
func NewVerifier() secret.Value { return secret.New(oauth2.GenerateVerifier()) }

// NewVerifier implements connector.Grantor.
func (m *Manager) NewVerifier() secret.Value { return NewVerifier() }

// ConsentURL implements connector.Grantor.
func (m *Manager) ConsentURL(app providers.OAuthApp, redirectURL, state string, verifier secret.Value) string {
	return AuthCodeURL(app, redirectURL, state, verifier)
}

// connectBudget is how long what an issuer gave is tried to be stored.
const connectBudget = 20 * time.Second

// Connect implements connector.Grantor. The consent of now wins over whatever a
// refresh of the grant before it stores meanwhile.
func (m *Manager) Connect(ctx context.Context, ref connector.GrantRef, app providers.OAuthApp, code, verifier secret.Value, redirectURL string) (int64, error) {
	values, _, err := m.Exchange(ctx, app, code, verifier, redirectURL)
	if err != nil {
		return 0, err
	}
	values[grantProof] = proofOf(ref.Connector, app)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectBudget)
	defer cancel()
	for {
		present, err := m.o.Grants.ReadGrant(ctx, ref.Tenant, ref.Connector)
		if err != nil && fault.CodeOf(err) != fault.NotFound { // one that was deleted in Vault is written over
			return 0, unstored(err)
		}
		version, err := m.o.Grants.WriteGrant(ctx, ref.Tenant, ref.Connector, values, present.Version)
		switch {
		case err == nil:
			m.provenAt.Store(m.o.Clock().UnixNano())
			return version, nil
		case fault.CodeOf(err) != fault.Conflict:
			return 0, unstored(err)
		}
	}
}

func unstored(err error) error {
	return fault.New(fault.Unavailable, "the account was connected, but the grant could not be stored: connect it again").WithCause(err)
}

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
	return a.values(connector.ID{}, app), t.Token, nil
}
