package connector

import (
	"context"
	"fmt"
	"slices"
	"sync"
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

// NeedsConsent tells whether a config, with its secrets, needs a user's consent.
func NeedsConsent(p providers.Provider, cfg providers.Config) bool {
	return clientOf(p, cfg) != client{}
}

// Unbinds tells whether the grant of a connector has to go when its config becomes
// another one; both have their secrets. A refresh token works with the client that
// it was given to, and must not be sent to the token endpoint of another; nor may
// its access tokens be sent to another place than the one that was consented to.
func Unbinds(p providers.Provider, was, is providers.Config) bool {
	before := clientOf(p, was)
	if before == (client{}) {
		return false
	}
	schema := p.Schema()
	return before != clientOf(p, is) || slices.ContainsFunc(changedParams(schema, was, is), func(name string) bool {
		return len(schema.BoundSecrets(name)) > 0 || slices.Contains(schema.Egress.FromParams, name)
	})
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
func (s *Service) tokens(p providers.Provider, cfg *providers.Config, ref *GrantRef, stored bool) {
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
		// pass its test.
		cfg.Tokens = s.o.Tokens.Draft(app)
	}
}

// proveClient has a test fail where the grant can't be refreshed with the client
// secret of cfg: a token that was got with the one before is good for a while yet,
// and says nothing about what happens then. The proof is part of the test, within
// its limits and its time, in the step that asks for a token.
func (s *Service) proveClient(p providers.Provider, cfg *providers.Config, ref GrantRef) {
	app, mints, err := appOf(p, *cfg)
	if err != nil || !mints || s.o.Tokens == nil || app.Flow != providers.FlowConsent {
		return
	}
	cfg.Tokens = &provenTokens{source: cfg.Tokens, prove: func(ctx context.Context) error { return s.o.Tokens.Prove(ctx, ref, app) }}
}

// provenTokens gives tokens once something is proven. A refusal is a test's answer,
// however often it asks.
type provenTokens struct {
	source providers.TokenSource
	prove  func(ctx context.Context) error

	mu   sync.Mutex
	done bool
	err  error
}

func (t *provenTokens) Token(ctx context.Context) (providers.Token, error) {
	t.mu.Lock()
	if !t.done {
		t.err = t.prove(ctx)
		t.done = ctx.Err() == nil // who had no time is to be asked again
	}
	err := t.err
	t.mu.Unlock()
	if err != nil {
		return providers.Token{}, err
	}
	return t.source.Token(ctx)
}

// proving has the test before an activation prove the client secret, too. One that
// is not stored yet can't be: see anotherSecret.
func (w *work) proving(cfg *providers.Config, ref *GrantRef) {
	switch {
	case ref == nil:
	case w.edited && w.anotherSecret(*cfg):
		cfg.Tokens = saveFirst()
	default:
		w.s.proveClient(w.provider, cfg, *ref)
	}
}

func saveFirst() noTokens {
	return noTokens{providers.CodeSaveFirst, fault.New(fault.Conflict, "the changed OAuth2 client is tested once it is saved")}
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
//
// What the issuer did, or could not be brought to do, is on record at once: it is so
// whatever becomes of the transaction. beside are other connectors whose grants may
// have ended with this one.
// Errors: fault.Unavailable.
func (s *Service) revoke(ctx context.Context, sc Scope, c *Connector, p providers.Provider, cfg providers.Config) (r Revocation, beside []ID, err error) {
	app, mints, err := appOf(p, cfg)
	if err != nil || !mints {
		return "", nil, nil // there is nothing to revoke with
	}
	if s.o.Tokens == nil {
		return "", nil, fault.New(fault.Unavailable, "grants can't be revoked in this process; do it without revoking")
	}
	ref, err := s.grantRef(ctx, sc, c)
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, hookTimeout)
	defer cancel()
	r, err = s.o.Tokens.Revoke(ctx, ref, app)
	entry := AuditEntry{Action: actionRevoke, Target: c.ID.String(), Outcome: string(r), Fields: []string{"grant"}}
	switch {
	case err != nil:
		entry.Outcome = string(RevocationFailed)
		err = fault.New(fault.Unavailable, "the issuer could not be asked to revoke the grant; try again, or do it without revoking").
			WithCause(err).WithRetryAfter(30 * time.Second)
	case r == Revoked:
		if beside, entry.Note, err = s.grantsBeside(ctx, sc, c.ID, client{app.ClientID, app.AuthURL, app.TokenURL}); err != nil {
			s.o.Log.Warn("which grants may have ended with one that was revoked could not be found out",
				"tenant", sc.Tenant.String(), "connector", c.ID.String(), "error", err)
			err = nil
		}
	default:
		return r, nil, nil // nothing was done yet
	}
	// The caller's end must not hide what was done.
	ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if e := s.o.Store.RecordAudit(ctx, sc.Tenant, sc.Actor, sc.Request, entry); e != nil {
		s.o.Log.Error("a revocation could not be audited", "tenant", sc.Tenant.String(), "connector", c.ID.String(), "error", e)
	}
	return r, beside, err
}

// grantsBeside finds the other connectors of the tenant with a grant of the same
// OAuth2 client. Whose account each was given by is not known here, and some issuers
// (Google, Auth0) end all grants of an account and client with the first that is
// revoked. It returns those within the scope, and what there is to say of all.
func (s *Service) grantsBeside(ctx context.Context, sc Scope, id ID, of client) (ids []ID, note string, err error) {
	all := 0
	for _, p := range s.o.Kinds.Kinds() {
		if _, ok := p.(providers.Authorizer); !ok {
			continue
		}
		schema, after := p.Schema(), ID{}
		for {
			list, err := s.o.Store.Tenant(sc.Tenant).List(ctx, Filter{Kind: schema.Kind, After: after, Limit: MaxPage})
			if err != nil {
				return nil, "", err
			}
			for _, c := range list {
				after = c.ID
				cfg, err := schema.Decode(providers.Input{Params: valuesOf(c.Params)},
					providers.DecodeOptions{Version: c.SchemaVersion, Configured: names(c.Secrets), Partial: true})
				if c.ID == id || err != nil || clientOf(p, cfg) != of {
					continue
				}
				row, err := s.o.Store.Grant(ctx, sc.Tenant, c.ID)
				if err != nil {
					return nil, "", err
				}
				if row.Status != GrantActive {
					continue
				}
				if all++; sc.reaches(c.Organization) {
					ids = append(ids, c.ID)
				}
			}
			if len(list) < MaxPage {
				break
			}
		}
	}
	if all > 0 {
		note = fmt.Sprintf("%d other connectors have a grant of the same OAuth2 client, which may have ended too", all)
	}
	return ids, note, nil
}

// forgetTimeout bounds how long a write that is committed waits for the secret
// store.
const forgetTimeout = 5 * time.Second

// forgetGrant removes a grant that the database has just forgotten from the secret
// store. What can't be done now is left to the sweeper, which looks for grants that
// no row stands for. version is the row's as it was.
func (s *Service) forgetGrant(ctx context.Context, sc Scope, c *Connector, version int64) {
	if s.o.Tokens == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTimeout)
	defer cancel()
	if err := s.o.Tokens.Forget(ctx, GrantRef{Tenant: sc.Tenant, Connector: c.ID, Pin: c.Pin, GrantVersion: version}); err != nil {
		s.o.Log.Warn("a forgotten grant is still in the secret store; the sweeper will remove it",
			"tenant", sc.Tenant.String(), "connector", c.ID.String(), "error", err)
	}
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
