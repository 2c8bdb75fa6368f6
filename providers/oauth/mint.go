package oauth

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/url"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// mint makes a token of the client's own credentials or of an assertion. Nothing is
// stored and nothing can be lost, so there is no lease: a claim in the shared cache
// keeps a fleet from making one each.
func (m *Manager) mint(f *flight) (token, *trouble) {
	ctx := m.ctx
	if t, ok := m.load(ctx, f, 0); ok {
		return t, nil
	}
	if t, ok := m.claim(ctx, f, 0); ok {
		return t, nil
	}
	if bad := m.pausedBy(ctx, f); bad != nil {
		return token{}, bad
	}
	a, bad := m.minted(ctx, f.app)
	if bad != nil && ctx.Err() != nil {
		return token{}, ending()
	}
	if bad != nil {
		m.counted(ctx, f, bad)
		return token{}, bad
	}
	t := m.timed(f.key, a.token(0, true))
	m.publish(ctx, f, t)
	return t, nil
}

// minted is one token's minting, that nothing is known of afterwards.
func (m *Manager) minted(ctx context.Context, app providers.OAuthApp) (answer, *trouble) {
	app, params, bad := m.params(app)
	if bad != nil {
		return answer{}, bad
	}
	a, bad := m.request(ctx, app, params)
	if bad != nil && bad.class == refused {
		// There is no consent that could be given again: it is the key, the account or
		// its delegation.
		bad = &trouble{class: client, code: providers.CodeAuthFailed, err: fault.New(fault.Unavailable, "the issuer refuses the account's credentials")}
	}
	if bad == nil {
		m.Stats.Mints.Add(1)
	}
	return a, bad
}

// Draft implements connector.Grantor. What is not stored has no place in the memory
// of what is, nor in the fleet's: a test would push stored connectors' tokens out,
// and leave records that nobody ever asks for.
func (m *Manager) Draft(app providers.OAuthApp) providers.TokenSource {
	return &draft{m: m, app: app, turn: make(chan struct{}, 1)}
}

// draft is the source of a client that is not stored. It holds its own token.
type draft struct {
	m    *Manager
	app  providers.OAuthApp
	turn chan struct{} // one request at a time, waiting honours contexts
	held token
}

// Token implements providers.TokenSource.
func (d *draft) Token(ctx context.Context) (providers.Token, error) {
	if d.app.Flow == providers.FlowConsent {
		return providers.Token{}, noConsent().error(0)
	}
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return providers.Token{}, late(ctx)
	}
	if d.held.serves(0, d.m.now()) {
		return d.held.Token, nil
	}
	a, bad := d.m.minted(ctx, d.app)
	switch {
	case bad != nil && ctx.Err() != nil:
		return providers.Token{}, late(ctx)
	case bad != nil:
		d.m.count(bad)
		return providers.Token{}, bad.error(bad.after)
	}
	d.held = a.token(0, true)
	return d.held.Token, nil
}

// claim takes the turn to ask the issuer, in the fleet's shared cache. ok: another
// had it, and here is what it brought. Without a cache, and when who has the turn
// brings nothing in time, everybody asks. versions are those that the token may have.
func (m *Manager) claim(ctx context.Context, f *flight, versions ...int64) (token, bool) {
	if _, ok := m.cacheKey(ctx); !ok {
		return token{}, false
	}
	// One claim per token that is to be replaced: the claims of its successors are
	// not in each other's way.
	name, live := nameOf(f, shareClaim, max(versions[0], f.old.issued.UnixMilli())), m.o.HTTPTimeout+time.Second
	if f.old.issued.IsZero() {
		name = nameOf(f, shareClaim, versions[0])
	}
	mine, err := m.o.Cache.ClaimToken(ctx, f.key.tenant, name, live)
	if err != nil {
		m.Stats.SharedErrors.Add(1)
		return token{}, false
	}
	for end := m.now().Add(live); !mine && m.now().Before(end); {
		if !sleep(ctx, 50*time.Millisecond+jittered(150*time.Millisecond)) {
			break
		}
		for _, version := range versions {
			if t, ok := m.load(ctx, f, version); ok {
				return t, true
			}
		}
		if m.pausedBy(ctx, f) != nil {
			break
		}
	}
	return token{}, false
}

// params are those of a minting request, and the client that sends it.
func (m *Manager) params(app providers.OAuthApp) (providers.OAuthApp, url.Values, *trouble) {
	v := url.Values{"grant_type": {"client_credentials"}}
	if app.Flow == providers.FlowJWTBearer {
		signed, err := m.assertion(app)
		if err != nil {
			return app, nil, &trouble{class: client, code: providers.CodeConfigIncomplete,
				err: fault.New(fault.Unavailable, "the service account's key can't sign; test the connector")}
		}
		v = url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {signed.Reveal()}}
		if !app.ClientSecret.IsSet() {
			app.ClientID = "" // RFC 7521 section 4.1: the assertion is enough
		}
		return app, v, nil
	}
	if len(app.Scopes) > 0 {
		v.Set("scope", strings.Join(app.Scopes, " "))
	}
	return app, v, nil
}

// assertion signs who asks, for whom and for what (RFC 7523 section 3), RS256. The
// scopes are a claim as Google has it
// (https://developers.google.com/identity/protocols/oauth2/service-account). x/oauth2's
// own, of package jwt, keeps no error code of the answer and takes no params.
func (m *Manager) assertion(app providers.OAuthApp) (secret.Value, error) {
	a := app.Assertion
	if a == nil {
		return secret.Value{}, errNoKey
	}
	key, err := privateKey(a.Key)
	if err != nil {
		return secret.Value{}, err
	}
	audience := a.Audience
	if audience == "" {
		audience = app.TokenURL
	}
	issued := m.now().Add(-10 * time.Second) // issuers whose clock is behind refuse what is of the future
	claims := map[string]any{
		"iss": a.Issuer, "aud": audience, "iat": issued.Unix(), "exp": issued.Add(5 * time.Minute).Unix(), "jti": rand.Text(),
	}
	if a.Subject != "" {
		claims["sub"] = a.Subject
	}
	if len(app.Scopes) > 0 {
		claims["scope"] = strings.Join(app.Scopes, " ")
	}
	header := map[string]string{"alg": "RS256", "typ": "JWT"}
	if a.KeyID != "" {
		header["kid"] = a.KeyID
	}
	head, err := json.Marshal(header)
	if err != nil {
		return secret.Value{}, err
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return secret.Value{}, err
	}
	text := base64.RawURLEncoding.EncodeToString(head) + "." + base64.RawURLEncoding.EncodeToString(payload)
	digest := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		return secret.Value{}, err
	}
	return secret.New(text + "." + base64.RawURLEncoding.EncodeToString(signature)), nil
}

var errNoKey = fault.New(fault.InvalidArgument, "there is no RSA key in PEM")

func privateKey(v secret.Value) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(v.Reveal()))
	if block == nil {
		return nil, errNoKey
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errNoKey
	}
	if key, ok := key.(*rsa.PrivateKey); ok {
		return key, nil
	}
	return nil, errNoKey
}
