package connector

import (
	"context"
	"time"

	"github.com/patchbay-dev/patchbay/tenant"
)

// RequestKey makes a request one that is carried out once (an Idempotency-Key).
type RequestKey struct {
	// Key is as the client sent it: 16 to 255 visible ASCII characters. It is kept
	// only as a hash.
	Key string
	// Digest tells whether the same is asked under the key again. It is keyed by
	// whoever made it, because a request holds secrets.
	Digest [32]byte
}

// Requests keeps what was asked under a RequestKey, so that it is carried out once.
type Requests interface {
	// ClaimRequest says that the request is about to be carried out, until d has
	// passed, unless somebody else says so or has done it. What has ended, a claim as
	// well as an outcome, is no more.
	//
	//   - claimed: it is the caller's; SettleRequest or FreeRequest ends it;
	//   - else done is the outcome of the same request, nil while it is under way.
	//
	// Errors: fault.InvalidArgument when something else was asked under the key;
	// fault.NotFound when the claim names a tenant that there is not.
	ClaimRequest(ctx context.Context, c Claim, d time.Duration) (claimed bool, done *RequestOutcome, err error)
	// FreeRequest ends a claim of a request that had no effect. One that is not held
	// any more is no error.
	FreeRequest(ctx context.Context, c Claim) error
	// SweepRequests deletes what has ended and returns how many.
	SweepRequests(ctx context.Context) (int64, error)
}

// Claim is one process's claim on a request.
type Claim struct {
	Tenant  tenant.ID // zero: the platform's, such as for a tenant that there is to be
	Actor   string
	Key     [32]byte // a hash of actor and key
	Request [32]byte // the digest of what is asked
	Token   string   // tells this claim from another one of the same request; not empty
}

// RequestOutcome is what a request did.
type RequestOutcome struct {
	Target   string `json:"target"` // the id of what was made
	Revision int64  `json:"revision"`
}

// Consents keeps the OAuth2 consents under way: hashes, and bytes that are sealed
// with what the hashes are of, so that nothing in it can be replayed.
type Consents interface {
	// PutConsent stores one that begins. Errors: fault.NotFound for a connector that
	// is unknown.
	PutConsent(ctx context.Context, c Consent) error
	// Consent reads the one of a state that has not come back and not ended.
	// Errors: fault.NotFound.
	Consent(ctx context.Context, state [32]byte) (Consent, error)
	// AnswerConsent records that the state came back: from then on there is the
	// handle, for d, with what is sealed for it. It works once.
	// Errors: fault.NotFound for one that has ended, or came back before.
	AnswerConsent(ctx context.Context, state, handle [32]byte, verifier, code []byte, d time.Duration) error
	// TakeConsent removes and returns the one of a handle, when it is of that tenant,
	// connector, issuer and subject, and has not ended; else fault.NotFound, and it
	// stays.
	TakeConsent(ctx context.Context, t tenant.ID, id ID, handle [32]byte, issuer, subject string) (Consent, error)
	// SweepConsents deletes what has ended and returns how many.
	SweepConsents(ctx context.Context) (int64, error)
}

// Consent is an OAuth2 consent under way.
type Consent struct {
	State       [32]byte
	Tenant      tenant.ID
	Connector   ID
	Issuer      string // of the JWT of who began it
	Subject     string
	RedirectURI string
	Verifier    []byte // sealed
	Code        []byte // sealed; nil before it came back
	ExpiresAt   time.Time
}
