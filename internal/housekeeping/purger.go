package housekeeping

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

const (
	// purgeBatch bounds what one transaction deletes: each connector goes with its
	// whole history.
	purgeBatch = 50
	// purgePage is how many due tenants are looked up at once.
	purgePage = 100
	// purger acts in the audit.
	purger = "admin:purger"
)

// Purger deletes tenants for good whose date has come: first all their secrets and
// grants, then their records, then themselves. What it has begun and not ended,
// because it died or something was away, the next pass goes on with.
//
// Secrets go first, because records say whose they are: the other way round, a
// crash in between would leave secrets that belong to nobody. What a write that was
// under way leaves behind nevertheless is the [Sweeper]'s.
type Purger struct {
	store   connector.Store
	secrets vault.Store
	log     *slog.Logger
	every   time.Duration

	// Counters for metrics.
	Purged   atomic.Int64
	Failures atomic.Int64 // passes that did not reach their end
}

// PurgerOptions are a Purger's parts. Store and Secrets are needed.
type PurgerOptions struct {
	Store   connector.Store
	Secrets vault.Store
	Log     *slog.Logger  // nil discards
	Every   time.Duration // between passes, jittered; default 10 min
}

// NewPurger returns a Purger. Run does the work.
func NewPurger(o PurgerOptions) *Purger {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Every <= 0 {
		o.Every = 10 * time.Minute
	}
	return &Purger{store: o.Store, secrets: o.Secrets, log: o.Log, every: o.Every}
}

// Run purges soon after its start and then about every 10 min, until ctx ends.
// Several may run side by side.
func (p *Purger) Run(ctx context.Context) error {
	return passes{first: rand.N(p.every), every: p.every, failures: &p.Failures, log: p.log,
		job: "delete tenants that are due"}.repeat(ctx, p.Purge)
}

// Purge makes one pass. It stops at the first outage; other errors cost one tenant
// and are returned at the end.
func (p *Purger) Purge(ctx context.Context) error {
	var failed []error
	for after := (tenant.ID{}); ; {
		due, err := p.store.DuePurges(ctx, after, purgePage)
		if err != nil {
			return errors.Join(append(failed, err)...)
		}
		for _, t := range due {
			switch err := p.tenant(ctx, t); {
			case err == nil:
			case stops(ctx, err):
				return errors.Join(append(failed, err)...)
			default:
				p.log.Warn("a tenant that is due was not deleted", "tenant", t.String(), "error", err)
				failed = append(failed, err)
			}
		}
		if len(due) < purgePage {
			return errors.Join(failed...)
		}
		after = due[len(due)-1]
	}
}

func (p *Purger) tenant(ctx context.Context, t tenant.ID) error {
	switch err := p.store.BeginPurge(ctx, t); fault.CodeOf(err) {
	case fault.Conflict, fault.NotFound:
		return nil // resumed since it was listed, or gone by another process
	default:
		if err != nil {
			return err
		}
	}
	if _, err := destroyAll(ctx, p.secrets, t); err != nil {
		return err
	}
	for {
		n, err := p.store.PurgeRecords(ctx, t, purgeBatch)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	switch err := p.store.EndPurge(ctx, t, purger); {
	case fault.CodeOf(err) == fault.NotFound:
		return nil
	case err != nil:
		return err
	}
	p.Purged.Add(1)
	p.log.Info("a tenant is deleted for good", "tenant", t.String())
	return nil
}

// destroyAll removes whatever the secret store has of a tenant, for good, and
// returns how many bundles that were.
func destroyAll(ctx context.Context, secrets vault.Store, t tenant.ID) (n int64, err error) {
	ids, err := secrets.Connectors(ctx, t)
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		stored, err := secrets.Refs(ctx, t, id)
		if err != nil {
			return n, err
		}
		for _, b := range stored {
			if err := secrets.Destroy(ctx, b.Ref); err != nil {
				return n, err
			}
			n++
		}
		if err := secrets.DestroyGrant(ctx, t, id); err != nil {
			return n, err
		}
	}
	return n, nil
}
