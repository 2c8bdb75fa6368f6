package connector

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

const (
	// requestTime is how long a request may be under way. One that died is another
	// one's after it.
	requestTime = 2 * time.Minute
	// requestKept is how long its outcome is answered again.
	requestKept = 24 * time.Hour
)

// claimOf is a claim on what is asked under a key. The key of another actor is
// another key: nobody learns what others asked.
func claimOf(sc Scope, key *RequestKey) Claim {
	return Claim{
		Tenant: sc.Tenant, Actor: sc.Actor, Request: key.Digest, Token: rand.Text(),
		Key: sha256.Sum256([]byte(sc.Actor + "\x00" + key.Key)),
	}
}

// claim claims a request; nil without a key. done is the outcome of one that has
// been carried out.
// Errors: fault.Conflict while it is under way; fault.InvalidArgument when the key
// stands for another request.
func (s *Service) claim(ctx context.Context, sc Scope, key *RequestKey) (held *Claim, done *RequestOutcome, err error) {
	if key == nil {
		return nil, nil, nil
	}
	c := claimOf(sc, key)
	claimed, done, err := s.o.Store.ClaimRequest(ctx, c, requestTime)
	switch {
	case err != nil:
		return nil, nil, err
	case claimed:
		return &c, nil, nil
	case done != nil:
		return nil, done, nil
	}
	return nil, nil, fault.New(fault.Conflict, "a request under this idempotency key is under way")
}

// release ends the claim of a request that failed. One whose outcome is unknown is
// released as well: where it was committed it was settled with it, and stays so.
func (s *Service) release(ctx context.Context, c *Claim) {
	if c == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := s.o.Store.FreeRequest(ctx, *c); err != nil {
		s.o.Log.Warn("a failed request keeps its idempotency key until its claim ends", "tenant", c.Tenant.String(), "error", err)
	}
}

// settle makes target the outcome of the request, in the transaction that makes it.
func (c *Claim) settle(ctx context.Context, tx TenantTx, target string) error {
	if c == nil {
		return nil
	}
	return tx.SettleRequest(ctx, *c, RequestOutcome{Target: target, Revision: tx.Revision()}, requestKept)
}

// once carries a request out, or answers with the connector that it made before, as
// that is now.
func (s *Service) once(ctx context.Context, sc Scope, key *RequestKey, run func(c *Claim) (Written, error)) (Written, error) {
	held, done, err := s.claim(ctx, sc, key)
	if err != nil {
		return Written{}, err
	}
	if done == nil {
		w, err := run(held)
		if err != nil {
			s.release(ctx, held)
		}
		return w, err
	}
	id, err := ParseID(done.Target)
	if err != nil {
		return Written{}, fault.New(fault.Internal, "a request's outcome is not readable").WithCause(err)
	}
	c, err := s.find(ctx, sc, id, true)
	if err != nil {
		return Written{}, err
	}
	if !c.DeletedAt.IsZero() {
		return Written{}, fault.New(fault.Conflict, "what was made under this idempotency key has been deleted since")
	}
	return Written{Connector: c, Revision: done.Revision, Replayed: true}, nil
}
