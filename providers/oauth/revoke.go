package oauth

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// Revoke implements connector.Tokens, by RFC 7009. It takes the lease first: a
// refresh under way would leave a grant that nobody has the token of.
func (m *Manager) Revoke(ctx context.Context, ref connector.GrantRef, app providers.OAuthApp) (connector.Revocation, error) {
	defer m.drop(ref)
	switch {
	case app.Flow != providers.FlowConsent:
		return "", nil
	case app.RevokeURL == "" && ref.GrantVersion == 0:
		return "", nil
	case app.RevokeURL == "":
		return connector.ForgottenOnly, nil
	}
	l, bad := m.turn(ctx, ref)
	if bad != nil {
		return connector.RevocationFailed, bad.err
	}
	defer l.release()
	bounded, cancel := context.WithTimeout(ctx, grantTimeout)
	stored, err := m.o.Grants.ReadGrant(bounded, ref.Tenant, ref.Connector)
	cancel()
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		m.Stats.GrantFaults.Add(1)
		return connector.RevocationFailed, fault.New(fault.Unavailable, "the stored consent could not be read").WithCause(err)
	}
	g, ok := grantOf(stored)
	switch {
	case stored.Version == 0:
		return "", nil
	case err != nil || !ok || !g.belongs(app):
		return connector.ForgottenOnly, nil // there is no token, or none that this client could hand in
	}
	if err := m.revoke(ctx, app, g); err != nil {
		return connector.RevocationFailed, err
	}
	return connector.Revoked, nil
}

// drop forgets the tokens that are held of a connector.
func (m *Manager) drop(ref connector.GrantRef) {
	m.forget(func(k key) bool { return k.tenant == ref.Tenant && k.connector == ref.Connector })
}

// Forget implements connector.Grantor.
func (m *Manager) Forget(ctx context.Context, ref connector.GrantRef) error {
	m.drop(ref)
	ctx, cancel := context.WithTimeout(ctx, 2*grantTimeout) // several requests to Vault
	defer cancel()
	stored, err := m.o.Grants.ReadGrant(ctx, ref.Tenant, ref.Connector)
	if err == nil || fault.CodeOf(err) == fault.NotFound {
		if stored.Version > ref.GrantVersion && len(stored.Values) > 0 {
			return fault.New(fault.Conflict, "the stored grant is a newer one")
		}
		_, err = m.o.Grants.ForgetGrant(ctx, ref.Tenant, ref.Connector, stored.Version)
	}
	if err != nil && fault.CodeOf(err) != fault.Conflict {
		m.Stats.GrantFaults.Add(1)
	}
	return err
}

// retryTurn is how often a lease that another has is asked for again.
const retryTurn = 200 * time.Millisecond

// turn takes the lease for a revocation. A grant without a row has none to take.
func (m *Manager) turn(ctx context.Context, ref connector.GrantRef) (*lease, *trouble) {
	owner := m.newOwner()
	for free := 0; ; {
		begun := m.now()
		row, got, err := m.o.Lease.AcquireGrant(ctx, ref.Tenant, ref.Connector, owner, m.lease)
		switch {
		case err != nil:
			m.Stats.LeaseFaults.Add(1)
			return nil, storage("the lease of the grant could not be taken")
		case got:
			return m.hold(ref, owner, row.Epoch, begun), nil
		case row.Status == connector.GrantNone, free >= 3:
			return nil, nil // no row, or a deleted connector's
		}
		if row.Owner == "" {
			free++
		}
		if !sleep(ctx, jittered(retryTurn)) {
			return nil, storage("the grant is being refreshed")
		}
	}
}

// revoke tells the issuer. Where there is a refresh token it ends the whole grant
// (RFC 7009 section 2.1).
func (m *Manager) revoke(ctx context.Context, app providers.OAuthApp, g grant) error {
	form := url.Values{"token": {g.refresh.Reveal()}, "token_type_hint": {"refresh_token"}}
	if !g.refresh.IsSet() {
		form = url.Values{"token": {g.token.Access.Reveal()}, "token_type_hint": {"access_token"}}
	}
	style, _ := m.style(app, string(joined(app.TokenURL, app.ClientID)))
	if style == oauth2.AuthStyleInParams {
		form.Set("client_id", app.ClientID)
		if app.ClientSecret.IsSet() {
			form.Set("client_secret", app.ClientSecret.Reveal())
		}
	}
	ctx, cancel := context.WithTimeout(ctx, m.o.HTTPTimeout)
	defer cancel()
	req, _, ok := providers.Request(ctx, http.MethodPost, app.RevokeURL, strings.NewReader(form.Encode()))
	if !ok {
		return fault.New(fault.Unavailable, "the issuer's address for revocation is not a URL")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if style == oauth2.AuthStyleInHeader {
		req.SetBasicAuth(url.QueryEscape(app.ClientID), url.QueryEscape(app.ClientSecret.Reveal()))
	}
	res, _, ok := providers.Call(providers.Runtime{Transport: m.o.Client.Transport}.Client(), req)
	if !ok {
		return fault.New(fault.Unavailable, "the issuer does not answer")
	}
	var said struct {
		Error string `json:"error"`
	}
	switch {
	case res.Status >= 200 && res.Status < 300:
		return nil
	case res.Status == http.StatusBadRequest && res.JSON(&said) == nil && (said.Error == "invalid_token" || said.Error == "invalid_grant"):
		return nil // Google says so of a token that was revoked before; RFC 7009 section 2.2 would have it 200
	default:
		return fault.New(fault.Unavailable, "the issuer does not revoke the grant")
	}
}
