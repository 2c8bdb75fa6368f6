package connector

import (
	"context"
	"errors"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// client identifies the OAuth2 client that a consent is given to, and where its
// refresh token is sent. The zero client: the config needs no consent.
type client struct{ id, authURL, tokenURL string }

// clientOf is the client of a config with its secrets.
func clientOf(p providers.Provider, cfg providers.Config) (c client) {
	app, mints, err := appOf(p, cfg)
	if err != nil || !mints || app.Flow != providers.FlowConsent {
		return client{}
	}
	return client{app.ClientID, app.AuthURL, app.TokenURL}
}

// appOf describes the OAuth2 client of a config; false: it mints no tokens.
func appOf(p providers.Provider, cfg providers.Config) (app providers.OAuthApp, mints bool, err error) {
	a, ok := p.(providers.Authorizer)
	if !ok {
		return app, false, nil
	}
	defer func() {
		if recover() != nil {
			app, mints, err = providers.OAuthApp{}, false, fault.New(fault.Internal, "the kind failed")
		}
	}()
	return a.OAuth(cfg)
}

// tokens gives cfg its tokens, where its kind mints any. ref addresses the stored
// connector; nil: there is none that they could come from. stored tells that cfg is
// what is stored under ref's pin.
func (s *Service) tokens(sc Scope, p providers.Provider, cfg *providers.Config, ref *GrantRef, stored bool) {
	app, mints, err := appOf(p, *cfg)
	switch {
	case err != nil:
		cfg.Tokens = noTokens{providers.CodeConfigIncomplete, err}
	case !mints:
	case s.o.Tokens == nil:
		cfg.Tokens = noTokens{providers.CodeNoNetwork, fault.New(fault.Unavailable, "access tokens are not available in this process")}
	case ref != nil && (stored || app.Flow == providers.FlowConsent):
		cfg.Tokens = s.o.Tokens.Source(*ref, app)
	case app.Flow != providers.FlowConsent:
		// What is minted with secrets that are not stored may not be kept where the
		// connector's tokens are, nor be answered from there, or a wrong secret would
		// pass its test: the reference is one that nobody else has.
		cfg.Tokens = s.o.Tokens.Source(GrantRef{Tenant: sc.Tenant, Connector: NewID(), Pin: s.o.NewPin()}, app)
	}
}

// proveTimeout is for one refresh before a test.
const proveTimeout = 12 * time.Second

// proveClient has a test fail where the grant can't be refreshed with the client
// secret of cfg: a token that was got with the one before is good for a while yet,
// and says nothing about what happens then.
func (s *Service) proveClient(ctx context.Context, p providers.Provider, cfg *providers.Config, ref GrantRef) {
	app, mints, err := appOf(p, *cfg)
	if err != nil || !mints || s.o.Tokens == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	err = s.o.Tokens.Prove(ctx, ref, app)
	var t *providers.TokenError
	if errors.As(err, &t) {
		cfg.Tokens = noTokens{t.Code, t.Err}
	}
}

// anotherSecret tells whether an edit changes the secret of the OAuth2 client that
// the stored grant was given to. To prove it takes a refresh, which is the stored
// connector's to make: a draft with a wrong secret would have the issuer's refusal
// recorded against a consent that is fine, and one that found a token at hand
// would prove nothing.
func (w *work) anotherSecret(cfg providers.Config) bool {
	if !w.rewrite || !w.read {
		return false
	}
	was := w.was
	was.Secrets = w.bundle.Values
	before, mints, err := appOf(w.provider, was)
	after, _, _ := appOf(w.provider, cfg)
	return err == nil && mints && after.Flow == providers.FlowConsent && !before.ClientSecret.Equal(after.ClientSecret)
}

// noTokens is the source of a config that can have none.
type noTokens struct {
	code providers.TestCode
	err  error
}

func (n noTokens) Token(context.Context) (providers.Token, error) {
	return providers.Token{}, &providers.TokenError{Code: n.code, Err: n.err}
}

// grantRef addresses the stored grant of a connector.
func (s *Service) grantRef(ctx context.Context, sc Scope, c *Connector) (GrantRef, error) {
	row, err := s.o.Store.Grant(ctx, sc.Tenant, c.ID)
	return GrantRef{Tenant: sc.Tenant, Connector: c.ID, Pin: c.Pin, GrantVersion: row.Version}, err
}

// revoke ends a connector's grant at its issuer, as far as that is possible. It
// comes before the transaction that forgets the grant: afterwards there would be
// nothing left to revoke with, and a consent that nobody can end.
// Errors: fault.Unavailable.
func (s *Service) revoke(ctx context.Context, sc Scope, c *Connector, p providers.Provider, cfg providers.Config) error {
	app, mints, err := appOf(p, cfg)
	if err != nil || !mints {
		return nil // there is nothing to revoke with
	}
	if s.o.Tokens == nil {
		return fault.New(fault.Unavailable, "grants can't be revoked in this process; do it without revoking")
	}
	ref, err := s.grantRef(ctx, sc, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	if err := s.o.Tokens.Revoke(ctx, ref, app); err != nil {
		return fault.New(fault.Unavailable, "the issuer could not be asked to revoke the grant; try again, or do it without revoking").
			WithCause(err).WithRetryAfter(30 * time.Second)
	}
	return nil
}

// AlignGrant turns what was found out about a grant into its connector's state,
// and tells whether that changed anything. It looks at both again under the
// tenant's lock: a user may have consented since d was read.
func (s *Service) AlignGrant(ctx context.Context, d GrantDrift) (bool, error) {
	sc := System(d.Tenant)
	aligned := false
	// Before the change, because a transaction that asks the store for another
	// connection waits for those who wait for its lock.
	found, err := Find(ctx, s.o.Store.Tenant(d.Tenant), d.Connector)
	if fault.CodeOf(err) == fault.NotFound || err == nil && !found.DeletedAt.IsZero() {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = s.change(ctx, sc, time.Time{}, func(ctx context.Context, tx TenantTx) error {
		aligned = false
		row, err := tx.Grant(ctx, d.Connector)
		if err != nil {
			return err
		}
		return tx.Update(ctx, found.ID, found.Version, func(c *Connector) error {
			next := c.State
			switch {
			case row.Status == GrantNeedsReauthorization:
				next = StateNeedsReauthorization
			case row.Status == GrantActive && c.State == StateNeedsReauthorization:
				next = StateUntested
			}
			if next == c.State {
				return ErrNoChange
			}
			c.State, aligned = next, true
			return nil
		})
	})
	switch fault.CodeOf(err) {
	case fault.NotFound, fault.StaleVersion, fault.Conflict:
		return false, nil // gone, going or changed meanwhile: the next look finds what is left
	}
	return aligned && err == nil, err
}
