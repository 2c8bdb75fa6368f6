package providers

import (
	"context"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
)

// OAuthFlow is how a kind gets its access tokens.
type OAuthFlow string

// The flows.
const (
	// FlowConsent needs a user's consent once (authorization code with PKCE) and
	// refreshes from then on. Its refresh token is the connector's grant.
	FlowConsent OAuthFlow = "authorization_code"
	// FlowClientCredentials mints with the client's own credentials.
	FlowClientCredentials OAuthFlow = "client_credentials"
	// FlowJWTBearer mints with an assertion signed by a service account's key
	// (RFC 7523), for itself or, with Subject, for a user.
	FlowJWTBearer OAuthFlow = "jwt_bearer"
)

// OAuthApp is the OAuth2 client that a config describes. It holds secrets and is
// never stored.
type OAuthApp struct {
	Flow         OAuthFlow
	ClientID     string
	ClientSecret secret.Value
	AuthURL      string // of the consent; FlowConsent only
	TokenURL     string
	RevokeURL    string // RFC 7009; "" when the issuer has none
	// AuthStyle is how the client authenticates at the token endpoint: "params"
	// (in the body), "header" (Basic), "" to find out once.
	AuthStyle   string
	Scopes      []string
	AuthParams  map[string]string // added to the consent's URL ("access_type": "offline")
	TokenParams map[string]string // added to token requests ("audience": ...)
	// Rotates says that each refresh may replace the refresh token, so that two
	// refreshes at once would lose the grant. It decides whether a token may be
	// refreshed without the lease. When in doubt, true.
	Rotates bool
	// Assertion is signed for FlowJWTBearer.
	Assertion *Assertion
}

// Assertion is what a service account signs.
type Assertion struct {
	Issuer   string
	Subject  string // whom it acts for; "" for itself
	Audience string // "" is the token URL
	KeyID    string
	Key      secret.Value // PEM, PKCS #8 or PKCS #1, RSA
}

// Authorizer is implemented by kinds that mint OAuth2 tokens.
type Authorizer interface {
	// OAuth describes the client of c. false: this config needs no token. It does
	// no I/O. Errors: fault.InvalidArgument for a secret that can't be used.
	OAuth(c Config) (OAuthApp, bool, error)
}

// Token is an access token.
type Token struct {
	Access secret.Value
	Type   string // "Bearer"
	// ExpiresAt is its end, zero when the issuer states none.
	ExpiresAt time.Time
	// RefreshAt is when a new one should be at hand, before ExpiresAt; zero with it.
	RefreshAt time.Time
	Scopes    []string // granted ones; nil when the issuer didn't say
}

// TokenSource gives a connector's token, minting one where none is fresh.
type TokenSource interface {
	// Token returns a token that is not past its end. Errors are *TokenError.
	Token(ctx context.Context) (Token, error)
}

// TokenError says why there is no token, as a fault (fault.NeedsReauthorization,
// fault.Unavailable, ...) and as a test's finding. Its text holds no secret and
// nothing that the issuer's body said but its RFC 6749 error code.
type TokenError struct {
	Code TestCode
	Err  error // a *fault.Error
}

func (e *TokenError) Error() string { return string(e.Code) + ": " + e.Err.Error() }

// Unwrap returns the fault.
func (e *TokenError) Unwrap() error { return e.Err }
