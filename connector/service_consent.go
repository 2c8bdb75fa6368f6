package connector

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/patchbay-dev/patchbay/connector/internal/seal"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

const (
	consentTime = 10 * time.Minute // for a user at the issuer
	handleTime  = 2 * time.Minute  // from there back to us
)

// What is sealed, and with what: while the user is away the verifier with the state,
// which they carry; then verifier and code with the handle, which goes to whoever
// opened the window. Neither is stored.
const (
	sealVerifier = "oauth verifier"
	sealCode     = "oauth code"
)

// ConsentStart is a consent that begins.
type ConsentStart struct {
	URL         string // where the user consents
	RedirectURI string // where they come back to; the issuer must know it, letter by letter
	ExpiresAt   time.Time
}

// consentApp is the OAuth2 client that a stored connector asks a consent for.
// Errors: fault.Conflict for a config that is not complete, or needs no consent.
func (s *Service) consentApp(ctx context.Context, sc Scope, c *Connector) (providers.OAuthApp, error) {
	p, ok := s.o.Kinds.Lookup(string(c.Kind))
	if !ok {
		return providers.OAuthApp{}, unknownKind(c.Kind)
	}
	if s.o.Tokens == nil {
		return providers.OAuthApp{}, fault.New(fault.Unavailable, "accounts can't be connected in this process")
	}
	cfg, err := s.configOf(ctx, sc, p, c, false)
	if fault.CodeOf(err) == fault.InvalidArgument {
		return providers.OAuthApp{}, fault.New(fault.Conflict, "the connector is not complete: the OAuth2 client comes first").
			WithViolations(fault.Violations(err)...).WithCause(err)
	}
	if err != nil {
		return providers.OAuthApp{}, err
	}
	app, mints, err := appOf(p, cfg)
	switch {
	case err != nil:
		return app, unfit(err)
	case !mints || app.Flow != providers.FlowConsent:
		return app, fault.New(fault.Conflict, "this connector needs nobody's consent")
	}
	return app, nil
}

// StartConsent begins a consent for a connector. It is bound to the scope's user and
// to redirectURI, and can come back once, within ten minutes.
// Errors: fault.Conflict for a connector that is not complete, or needs no consent.
func (s *Service) StartConsent(ctx context.Context, sc Scope, id ID, redirectURI string) (ConsentStart, error) {
	if err := s.admit(ctx, sc); err != nil {
		return ConsentStart{}, err
	}
	if sc.Subject == "" {
		// Bound to nobody it could be completed by anybody.
		return ConsentStart{}, fault.New(fault.PermissionDenied, "a consent is bound to a user, and the token names none (its sub claim)")
	}
	c, err := s.find(ctx, sc, id, false)
	if err != nil {
		return ConsentStart{}, err
	}
	app, err := s.consentApp(ctx, sc, &c)
	if err != nil {
		return ConsentStart{}, err
	}
	state, verifier := rand.Text(), s.o.Tokens.NewVerifier()
	sealed, err := seal.Seal(state, sealVerifier, verifier)
	if err != nil {
		return ConsentStart{}, fault.New(fault.Internal, "a verifier can't be sealed").WithCause(err)
	}
	at := s.o.Now().UTC().Add(consentTime)
	err = s.o.Store.PutConsent(ctx, Consent{
		State: sha256.Sum256([]byte(state)), Tenant: sc.Tenant, Connector: id, Issuer: sc.Issuer, Subject: sc.Subject,
		RedirectURI: redirectURI, Verifier: sealed, ExpiresAt: at,
	})
	if err != nil {
		return ConsentStart{}, err
	}
	// An edit from here on ends the consents that are under way. One that came in
	// between knew nothing of this, which asks for what was configured before.
	if now, err := s.find(ctx, sc, id, false); err != nil || now.Version != c.Version {
		if err := s.RefuseConsent(ctx, state, redirectURI); err != nil {
			return ConsentStart{}, err
		}
		return ConsentStart{}, fault.New(fault.Conflict, "the connector was changed meanwhile: begin again")
	}
	s.noted(ctx, sc, AuditEntry{Action: actionConsent, Target: id.String()})
	return ConsentStart{URL: s.o.Tokens.ConsentURL(app, redirectURI, state, verifier), RedirectURI: redirectURI, ExpiresAt: at}, nil
}

// AnswerConsent takes what came back to redirectURI, and returns the handle that
// completes the consent, for two minutes. Whoever comes back has no identity here:
// nothing is stored that a connector could be reached with, and the handle is of use
// to nobody but the user who began.
// Errors: fault.NotFound for a state that is unknown, ended or used.
func (s *Service) AnswerConsent(ctx context.Context, state, redirectURI string, code secret.Value) (handle string, err error) {
	hash := sha256.Sum256([]byte(state))
	c, err := s.o.Store.Consent(ctx, hash)
	if err != nil {
		return "", err
	}
	verifier, err := seal.Open(state, sealVerifier, c.Verifier)
	if err != nil || c.RedirectURI != redirectURI {
		return "", fault.New(fault.NotFound, "there is no such consent under way").WithCause(err)
	}
	handle = rand.Text()
	sealedVerifier, err := seal.Seal(handle, sealVerifier, verifier)
	if err != nil {
		return "", fault.New(fault.Internal, "a verifier can't be sealed").WithCause(err)
	}
	sealedCode, err := seal.Seal(handle, sealCode, code)
	if err != nil {
		return "", fault.New(fault.Internal, "a code can't be sealed").WithCause(err)
	}
	return handle, s.o.Store.AnswerConsent(ctx, hash, sha256.Sum256([]byte(handle)), sealedVerifier, sealedCode, handleTime)
}

// RefuseConsent ends a consent that came back to redirectURI without a code. One that
// is unknown, ended, used or of another address is no error.
func (s *Service) RefuseConsent(ctx context.Context, state, redirectURI string) error {
	c, err := s.o.Store.Consent(ctx, sha256.Sum256([]byte(state)))
	switch {
	case fault.CodeOf(err) == fault.NotFound, err == nil && c.RedirectURI != redirectURI:
		return nil
	case err != nil:
		return err
	}
	// A handle that nobody has: the state is used up, and what it left is swept.
	err = s.o.Store.AnswerConsent(ctx, sha256.Sum256([]byte(state)), sha256.Sum256([]byte(rand.Text())), []byte{0}, []byte{0}, 0)
	if fault.CodeOf(err) == fault.NotFound {
		return nil
	}
	return err
}

// CompleteConsent redeems the code behind a handle, for the user who began, and
// tests the connector. The outcome of the test is nil where it could not run.
// Errors: fault.InvalidArgument for a handle that is unknown, ended, used, or of
// another user or connector; fault.NeedsReauthorization, fault.Conflict and
// fault.Unavailable for what the issuer said.
func (s *Service) CompleteConsent(ctx context.Context, sc Scope, id ID, handle string) (Written, *TestResult, error) {
	if err := s.admit(ctx, sc); err != nil {
		return Written{}, nil, err
	}
	c, err := s.find(ctx, sc, id, false)
	if err != nil {
		return Written{}, nil, err
	}
	app, err := s.consentApp(ctx, sc, &c)
	if err != nil {
		return Written{}, nil, err
	}
	taken, err := s.o.Store.TakeConsent(ctx, sc.Tenant, id, sha256.Sum256([]byte(handle)), sc.Issuer, sc.Subject)
	if fault.CodeOf(err) == fault.NotFound {
		return Written{}, nil, invalid("the consent can't be completed", []fault.Violation{{
			Pointer: "/handle", Code: "unknown", Message: "is not known: it was used, has ended, or belongs to another user or connector",
		}})
	}
	if err != nil {
		return Written{}, nil, err
	}
	verifier, err := seal.Open(handle, sealVerifier, taken.Verifier)
	if err != nil {
		return Written{}, nil, fault.New(fault.Internal, "a stored consent is not readable").WithCause(err)
	}
	code, err := seal.Open(handle, sealCode, taken.Code)
	if err != nil {
		return Written{}, nil, fault.New(fault.Internal, "a stored consent is not readable").WithCause(err)
	}
	version, err := s.o.Tokens.Connect(ctx, GrantRef{Tenant: sc.Tenant, Connector: id, Pin: c.Pin}, app, code, verifier, taken.RedirectURI)
	if err != nil {
		return Written{}, nil, s.refused(ctx, sc, actionConnect, id.String(), nil, consentError(err))
	}
	// From here on the grant exists, so its row has to: the caller's end must not
	// leave a refresh token that nobody knows of.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), detachedTimeout)
	defer cancel()
	revision, err := s.connect(ctx, sc, c, app, version)
	if err != nil {
		s.forgetGrant(ctx, sc, &c, version)
		return Written{}, nil, s.refused(ctx, sc, actionConnect, id.String(), nil, err)
	}
	var test *TestResult
	if r, err := s.TestConnection(ctx, sc, id, TestOptions{Level: providers.LevelReach}); err == nil {
		test = &r
	} else {
		s.o.Log.Info("an account was connected, and its connector's test did not run", "tenant", sc.Tenant.String(), "connector", id.String(), "error", err)
	}
	return s.written(ctx, sc, c, revision), test, nil
}

// connect records a grant that was given to app, for as long as that is what the
// connector's config describes: a code is redeemed while nobody holds a lock, and a
// grant must not reach a client or an address that somebody has set meanwhile.
// Errors: fault.Conflict when it is not.
func (s *Service) connect(ctx context.Context, sc Scope, c Connector, app providers.OAuthApp, version int64) (int64, error) {
	for n := 1; ; n++ {
		revision, err := s.change(ctx, sc, time.Time{}, func(ctx context.Context, tx TenantTx) error {
			err := tx.Update(ctx, c.ID, c.Version, func(now *Connector) error {
				if now.State == StateNeedsReauthorization {
					now.State = StateUntested
				}
				return nil
			})
			if err != nil {
				return err
			}
			if err := tx.PutGrant(ctx, c.ID, version); err != nil {
				return err
			}
			return tx.Audit(ctx, AuditEntry{Action: actionConnect, Target: c.ID.String(), Outcome: outcomeOK, Fields: []string{"grant"}})
		})
		if fault.CodeOf(err) != fault.StaleVersion || n == maxAttempts {
			return revision, err
		}
		if c, err = s.find(ctx, sc, c.ID, false); err != nil {
			return 0, err
		}
		now, err := s.consentApp(ctx, sc, &c)
		if err != nil || now.ClientID != app.ClientID || now.AuthURL != app.AuthURL || now.TokenURL != app.TokenURL || !now.ClientSecret.Equal(app.ClientSecret) {
			return 0, fault.New(fault.Conflict, "the OAuth2 client was changed while the account was connected: begin again")
		}
	}
}

// consentError is what an issuer's answer means for who completes a consent.
func consentError(err error) error {
	var t *providers.TokenError
	if !errors.As(err, &t) {
		return err
	}
	message := fault.Message(t.Err)
	if hint := t.Code.Info().Hint; hint != "" {
		message += ". " + hint
	}
	code := fault.CodeOf(t.Err)
	if code == fault.Unavailable {
		message += " The consent is used up: begin again."
	}
	if code == fault.InvalidArgument || code == fault.Internal {
		code = fault.Conflict
	}
	return fault.New(code, message).WithCause(err).WithRetryAfter(fault.RetryAfter(t.Err))
}
