package connector

import (
	"context"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// GrantRow is what the database knows of a connector's OAuth2 grant: the lease
// of its refresh and its status. The refresh token itself is in Vault.
type GrantRow struct {
	Status GrantStatus // GrantNone: there is no row
	// Version is the grant's version in Vault as last settled. It only grows, and
	// so orders what different processes have to say about the grant.
	Version int64
	// Owner holds the lease until Until; "" and zero when nobody does.
	Owner string
	Until time.Time // of the database's clock
	// Epoch counts the leases. It tells an owner's present lease from its own
	// earlier one.
	Epoch int64
	// At is the database's clock at the reading.
	At time.Time
}

// Grants is the table oauth_grants: the lease of token refreshes and the status
// of grants, the one table that a data plane writes. Each method is one round
// trip. No method moves a tenant's revision; the control plane turns a status
// into the connector's state (and does).
type Grants interface {
	// Grant reads the row; GrantRow{} with At when there is none.
	Grant(ctx context.Context, t tenant.ID, id ID) (GrantRow, error)
	// AcquireGrant takes the lease for d, when nobody else holds a live one, and
	// tells whether it did. The row it returns is the present one either way. An
	// owner that holds the lease already gets a new epoch: whoever used the old
	// one is fenced off. Without a row, and of a deleted connector, it is not
	// acquired.
	// Errors: fault.InvalidArgument for no owner, and for a d below 1 microsecond.
	AcquireGrant(ctx context.Context, t tenant.ID, id ID, owner string, d time.Duration) (GrantRow, bool, error)
	// RenewGrant extends the lease to d from now, while owner and epoch still hold
	// it, also when it has run out and nobody took it; else false.
	RenewGrant(ctx context.Context, t tenant.ID, id ID, owner string, epoch int64, d time.Duration) (bool, error)
	// ReleaseGrant gives the lease back, if owner and epoch still hold it.
	ReleaseGrant(ctx context.Context, t tenant.ID, id ID, owner string, epoch int64) error
	// SettleGrant records what was found out about a version of the grant, unless
	// more is known already, and tells whether it did:
	//
	//   - GrantActive: the version exists in Vault, so whatever was said of lower
	//     ones is past. Recorded when version is greater than the row's.
	//   - GrantNeedsReauthorization: the issuer refuses this version. Recorded
	//     when the row knows no greater one.
	//
	// The version is the fence: a holder that lost its lease while the issuer
	// answered still heals what its successor concluded from the old version.
	SettleGrant(ctx context.Context, t tenant.ID, id ID, version int64, status GrantStatus) (bool, error)
	// DriftedGrants lists, for the control plane, grants whose connector's state
	// says something else (a refused grant with another state than
	// StateNeedsReauthorization, an active one with that state), of living
	// connectors of all tenants, at most n in no order. A sidecar's role sees none.
	DriftedGrants(ctx context.Context, n int) ([]GrantDrift, error)
}

// GrantDrift is a grant whose connector's state is to be brought in line.
type GrantDrift struct {
	Tenant    tenant.ID
	Connector ID
	Version   int64 // of the grant
	Status    GrantStatus
}

// GrantRef addresses what a connector's tokens are minted from: its grant, or
// with a flow that has none the secrets under its pin.
type GrantRef struct {
	Tenant    tenant.ID
	Connector ID
	Pin       Pin
	// GrantVersion is what the database said of the grant when the config was
	// read. A token of a lower version is of an earlier consent or refresh and is
	// not served; one of a higher version is newer than that reading.
	GrantVersion int64
}

// Tokens gives connectors their access tokens. Package providers/oauth
// implements it.
type Tokens interface {
	// Source gives the tokens of a connector with the OAuth2 client app. It does no
	// I/O; what it returns is for use now, not to be kept.
	Source(ref GrantRef, app providers.OAuthApp) providers.TokenSource
	// Revoke ends the grant at the issuer, as far as it can be ended there, and
	// drops the tokens that this process holds. The stored grant is the caller's to
	// forget. "" is for nothing to revoke.
	// Errors: fault.Unavailable, with RevocationFailed.
	Revoke(ctx context.Context, ref GrantRef, app providers.OAuthApp) (Revocation, error)
}

// Revocation is how it ended that a grant was to be revoked; "" when nobody asked,
// or when there was nothing to revoke.
type Revocation string

const (
	// Revoked: the issuer has ended the grant, or says that it had ended before. Some
	// issuers, Google among them, then end every grant of the same account and client.
	Revoked Revocation = "revoked"
	// ForgottenOnly: the issuer has no way to be told, or the grant was given to
	// another client than the present one. What is known of it here goes; at the issuer
	// it lives until its end, or until the account's owner ends it there.
	ForgottenOnly Revocation = "forgotten_only"
	// RevocationFailed: the issuer could not be asked, or refused. Nothing was done.
	RevocationFailed Revocation = "failed"
)

// Grantor is what a control plane needs beside: it makes grants of consents.
type Grantor interface {
	Tokens
	// NewVerifier returns a PKCE code verifier, which is secret.
	NewVerifier() secret.Value
	// Draft gives the tokens of an OAuth2 client that is not stored, for as long as a
	// test of it takes: they are minted for this source alone, and neither held in
	// memory beyond it nor shared with the fleet. It does no I/O.
	Draft(app providers.OAuthApp) providers.TokenSource
	// Forget removes the stored grant, in all its versions, after the database was told
	// that there is none. A grant of a higher version than ref's is left alone: it may
	// be that of the next consent. Nothing to forget is no error.
	// Errors: fault.Conflict for such a grant; fault.Unavailable.
	Forget(ctx context.Context, ref GrantRef) error
	// ConsentURL is where a user consents to app. state comes back to redirectURL.
	ConsentURL(app providers.OAuthApp, redirectURL, state string, verifier secret.Value) string
	// Prove makes sure that the grant can be refreshed with app's client secret: where
	// it was last used with another one, it is refreshed. A grant that has no refresh
	// token proves nothing and is no error. Errors: *providers.TokenError.
	Prove(ctx context.Context, ref GrantRef, app providers.OAuthApp) error
	// Connect redeems the code of a consent and stores the grant, whose new version it
	// returns. A code is good for one try. What the issuer gave is stored also when ctx
	// ends meanwhile.
	// Errors: *providers.TokenError for what the issuer said; fault.Unavailable when
	// the grant could not be stored.
	Connect(ctx context.Context, ref GrantRef, app providers.OAuthApp, code, verifier secret.Value, redirectURL string) (int64, error)
}
