package google

import (
	"maps"
	"strings"

	"github.com/patchbay-dev/patchbay/providers"
)

// Google's endpoints, as its discovery document states them
// (https://accounts.google.com/.well-known/openid-configuration).
const (
	accountsHost = "https://accounts.google.com"
	oauthHost    = "https://oauth2.googleapis.com"
	authPath     = "/o/oauth2/v2/auth"
	tokenPath    = "/token"
	revokePath   = "/revoke"
)

// endpoint returns the URL for a purpose. What the operator sets for the purpose
// is the whole URL, because other issuers have other paths; what is set for the
// whole kind is a base, to which Google's path is added.
func endpoint(rt providers.Runtime, kind providers.Kind, purpose, host, path string) string {
	if u := rt.Endpoints[string(kind)+"."+purpose]; u != "" {
		return strings.TrimRight(u, "/")
	}
	return rt.Endpoint(kind, purpose, host) + path
}

// TokenURL is where tokens are minted. It is Google's or the operator's: never
// what a credentials file calls its token_uri, which would let whoever uploads
// the file collect signed assertions and client secrets.
func TokenURL(rt providers.Runtime, kind providers.Kind) string {
	return endpoint(rt, kind, "token", oauthHost, tokenPath)
}

// ConsentApp describes the OAuth2 client of c (params client_id, secret
// client_secret) that asks a user for scopes.
//
// Google gives a refresh token only with access_type=offline, and after the
// first consent only with prompt=consent; it does not rotate refresh tokens
// (https://developers.google.com/identity/protocols/oauth2/web-server).
func ConsentApp(rt providers.Runtime, c providers.Config, scopes []string, params map[string]string) providers.OAuthApp {
	auth := map[string]string{"access_type": "offline", "prompt": "consent"}
	maps.Copy(auth, params)
	return providers.OAuthApp{
		Flow:         providers.FlowConsent,
		ClientID:     c.Text("client_id"),
		ClientSecret: c.Secrets["client_secret"],
		AuthURL:      endpoint(rt, c.Kind, "auth", accountsHost, authPath),
		TokenURL:     TokenURL(rt, c.Kind),
		RevokeURL:    endpoint(rt, c.Kind, "revoke", oauthHost, revokePath),
		AuthStyle:    "params",
		Scopes:       scopes,
		AuthParams:   auth,
	}
}
