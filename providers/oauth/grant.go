package oauth

import (
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/vault"
)

// The values of a grant in Vault.
const (
	grantRefresh  = "refresh_token" // absent when the issuer gave none
	grantAccess   = "access_token"
	grantType     = "token_type"
	grantScope    = "scope"      // space-separated; absent when the issuer didn't say
	grantIssued   = "issued_at"  // RFC 3339
	grantExpires  = "expires_at" // RFC 3339; absent when it has no end
	grantClientID = "client_id"
	grantTokenURL = "token_url"
)

// grant is what a user consented to: a refresh token and the access token that came
// with it.
type grant struct {
	version int64
	refresh secret.Value
	token   token
	// clientID and tokenURL are whom the refresh token belongs to, and where alone it
	// is sent; "" in a grant that something else wrote.
	clientID, tokenURL string
}

// grantOf reads a stored grant; false when it is none. A grant of nothing but a
// refresh token is one.
func grantOf(g vault.Grant) (grant, bool) {
	text := func(name string) string { return g.Values[name].Reveal() }
	out := grant{version: g.Version, refresh: g.Values[grantRefresh], clientID: text(grantClientID), tokenURL: text(grantTokenURL)}
	if out.refresh.Len() == 0 {
		out.refresh = secret.Value{}
	}
	t := token{version: g.Version}
	var err, err2 error
	if access := g.Values[grantAccess]; access.Len() > 0 {
		t.Access, t.Type = access, text(grantType)
		t.issued, err = time.Parse(time.RFC3339Nano, text(grantIssued))
		if s := text(grantExpires); s != "" {
			t.ExpiresAt, err2 = time.Parse(time.RFC3339Nano, s)
		}
		if g.Values[grantScope].IsSet() {
			t.Scopes = strings.Fields(text(grantScope))
		}
	}
	if err == nil && err2 == nil {
		out.token = t
	}
	return out, out.refresh.IsSet() || out.token.Access.IsSet()
}

// values is the grant that an answer leads to, as it is stored.
func (a answer) values(app providers.OAuthApp) secret.Map {
	t := a.token(0, a.refresh.IsSet())
	v := secret.Map{
		grantAccess: t.Access, grantType: secret.New(t.Type), grantIssued: secret.New(t.issued.UTC().Format(time.RFC3339Nano)),
		grantClientID: secret.New(app.ClientID), grantTokenURL: secret.New(app.TokenURL),
	}
	if a.refresh.IsSet() {
		v[grantRefresh] = a.refresh
	}
	if t.Scopes != nil {
		v[grantScope] = secret.New(strings.Join(t.Scopes, " "))
	}
	if !t.ExpiresAt.IsZero() {
		v[grantExpires] = secret.New(t.ExpiresAt.UTC().Format(time.RFC3339Nano))
	}
	return v
}

// belongs tells whether the grant was given to app's client. Its refresh token
// goes to nobody else: who can change a config could collect it otherwise.
func (g grant) belongs(app providers.OAuthApp) bool {
	return (g.clientID == "" || g.clientID == app.ClientID) && (g.tokenURL == "" || g.tokenURL == app.TokenURL)
}
