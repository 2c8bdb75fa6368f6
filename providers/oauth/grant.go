package oauth

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
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
	grantProof    = "client_proof" // see proofOf; absent in a grant of before
)

// proofRounds makes a try at a proof cost some milliseconds, as it does a refresh.
const proofRounds = 1 << 14

// proofOf tells the client secret that a grant was last obtained or refreshed with
// from another one: hex of PBKDF2-HMAC-SHA256 (RFC 8018) of the secret, with the
// connector's id for a salt. It lies beside the refresh token and nowhere else. There
// it may be read by who can't read the secret (a sidecar with vault.auth.method
// caller_jwt), and somebody's own issuer may have weak ones: hence the rounds.
func proofOf(id connector.ID, app providers.OAuthApp) secret.Value {
	digest, err := pbkdf2.Key(sha256.New, app.ClientSecret.Reveal(), []byte("patchbay client secret\x00"+id.String()), proofRounds, sha256.Size)
	if err != nil {
		return secret.Value{} // refused by a FIPS module's rules: nothing is proven, and each test refreshes
	}
	return secret.New(hex.EncodeToString(digest))
}

// grant is what a user consented to: a refresh token and the access token that came
// with it.
type grant struct {
	version int64
	refresh secret.Value
	token   token
	// clientID and tokenURL are whom the refresh token belongs to, and where alone it
	// is sent; "" in a grant that something else wrote.
	clientID, tokenURL string
	proof              secret.Value
}

// grantOf reads a stored grant; false when it is none. A grant of nothing but a
// refresh token is one.
func grantOf(g vault.Grant) (grant, bool) {
	text := func(name string) string { return g.Values[name].Reveal() }
	out := grant{version: g.Version, refresh: g.Values[grantRefresh], clientID: text(grantClientID), tokenURL: text(grantTokenURL), proof: g.Values[grantProof]}
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

// proven tells whether the grant was last used with app's client secret.
func (g grant) proven(id connector.ID, app providers.OAuthApp) bool {
	return g.proof.IsSet() && g.proof.Equal(proofOf(id, app))
}

// values is the grant that an answer leads to, as it is stored for a connector.
func (a answer) values(id connector.ID, app providers.OAuthApp) secret.Map {
	t := a.token(0, a.refresh.IsSet())
	v := secret.Map{
		grantAccess: t.Access, grantType: secret.New(t.Type), grantIssued: secret.New(t.issued.UTC().Format(time.RFC3339Nano)),
		grantClientID: secret.New(app.ClientID), grantTokenURL: secret.New(app.TokenURL),
	}
	if !id.IsZero() {
		v[grantProof] = proofOf(id, app)
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
