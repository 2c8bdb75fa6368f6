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
	// minAge is far above connector.MaxSecretAge: a bundle whose transaction is
	// still to come is never that old, however far the clocks are apart.
	minAge = time.Hour
	// keepDeleted is how long a soft-deleted bundle can still be brought back by
	// hand, with Vault's own means.
	keepDeleted = 7 * 24 * time.Hour
	// lockFor bounds one connector's turn: its tenant's writers wait meanwhile.
	lockFor = 10 * time.Second
	every   = time.Hour
)

// Sweeper soft-deletes secret bundles that are older than an hour and that
// neither a connector nor a revision pins, and destroys them seven days later. What
// turns up of a tenant that was purged, from a write that was under way, it destroys
// at once.
//
// It also takes OAuth2 grants out of the secret store that nothing may use any more:
// those that the database does not know, an hour after they were written, and those
// of connectors that have been deleted for seven days, which need a new consent when
// they are restored. Of a connector that still exists the count of versions is kept.
//
// What it does not guarantee: bundles of a tenant that the store does not know,
// and has not purged, are left alone, for good. A Postgres that was set up anew, or
// that lost its last commits, must not cost the secrets of every tenant that it
// forgot.
type Sweeper struct {
	store   connector.Store
	secrets vault.Store
	log     *slog.Logger
	now     func() time.Time

	// Counters for metrics.
	Deleted   atomic.Int64
	Destroyed atomic.Int64
	Forgotten atomic.Int64 // grants
	Failures  atomic.Int64 // passes that did not reach their end
}

// Options are a Sweeper's parts. Store and Secrets are needed.
type Options struct {
	Store   connector.Store
	Secrets vault.Store
	Log     *slog.Logger     // nil discards
	Now     func() time.Time // nil is time.Now
}

// New returns a sweeper. Run does the work.
func New(o Options) *Sweeper {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Sweeper{store: o.Store, secrets: o.Secrets, log: o.Log, now: o.Now}
}

// Run sweeps about once an hour until ctx ends. Several may run side by side:
// everything they do can be done twice. The first pass is an hour after the
// start at most, at a moment of chance, so that replicas that start together
// spread over the hour.
func (s *Sweeper) Run(ctx context.Context) error {
	return passes{first: rand.N(every), every: every, failures: &s.Failures, log: s.log,
		job: "sweep secrets that nothing refers to"}.repeat(ctx, s.Sweep)
}

// Sweep makes one pass, one request after the other: nobody waits for it, and
// it must not take the secret store from those who resolve. It stops at the
// first outage; other errors cost one connector and are returned at the end.
func (s *Sweeper) Sweep(ctx context.Context) error {
	tenants, err := s.secrets.Tenants(ctx)
	if err != nil {
		return err
	}
	var failed []error
	for _, t := range tenants {
		switch err := s.tenant(ctx, t); {
		case err == nil:
		case stops(ctx, err):
			return errors.Join(append(failed, err)...)
		default:
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func stops(ctx context.Context, err error) bool { return ctx.Err() != nil || fault.Outage(err) }

// pinned is where a connector's present bundle is.
type pinned map[connector.ID]connector.Pin

func (s *Sweeper) tenant(ctx context.Context, t tenant.ID) error {
	reader := s.store.Tenant(t)
	_, err := reader.Get(ctx)
	if fault.CodeOf(err) == fault.NotFound {
		return s.unknown(ctx, t)
	}
	if err != nil {
		return err
	}
	// Most bundles are a connector's present one: those are known without a
	// question for each. This list decides nothing else.
	list, err := reader.List(ctx, connector.Filter{IncludeDeleted: true})
	if err != nil {
		return err
	}
	present := make(pinned, len(list))
	for _, c := range list {
		present[c.ID] = c.Pin
	}
	ids, err := s.secrets.Connectors(ctx, t)
	if err != nil {
		return err
	}
	var failed []error
	for _, id := range ids {
		pin, known := present[id]
		err := s.connector(ctx, t, id, pin)
		if err == nil {
			if err = s.grant(ctx, t, id, known); err != nil && ctx.Err() == nil {
				// Whether it is an outage the next look tells. A policy that grants no right
				// to destroy versions must not keep all bundles from being swept.
				failed = append(failed, err)
				continue
			}
		}
		switch {
		case err == nil:
		case stops(ctx, err):
			return errors.Join(append(failed, err)...)
		default:
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// unknown is for a tenant that the store does not have: only one that it says it
// has purged is touched.
func (s *Sweeper) unknown(ctx context.Context, t tenant.ID) error {
	purged, err := s.store.Purged(ctx, t)
	if err != nil {
		return err
	}
	if !purged {
		s.log.Warn("secrets of a tenant that the store does not know are left alone", "tenant", t.String())
		return nil
	}
	n, err := destroyAll(ctx, s.secrets, t)
	s.Destroyed.Add(n)
	return err
}

func (s *Sweeper) connector(ctx context.Context, t tenant.ID, id connector.ID, present connector.Pin) error {
	stored, err := s.secrets.Refs(ctx, t, id)
	if err != nil {
		return err
	}
	var due []vault.Stored
	for _, b := range stored {
		if b.Ref.Pin == present || !s.due(b) {
			continue
		}
		is, err := s.store.Tenant(t).Pinned(ctx, id, b.Ref.Pin)
		if err != nil {
			return err
		}
		if !is {
			due = append(due, b)
		}
	}
	if len(due) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lockFor)
	defer cancel()
	// The transaction is there for its locks and changes nothing, so it is rolled
	// back: no revision moves, and no sidecar reads anything again.
	_, err = s.store.Change(ctx, connector.Change{Tenants: []tenant.ID{t}, Actor: "admin:sweeper"},
		func(ctx context.Context, tx connector.Tx) error {
			// A connector that was never inserted has no row to lock. Its tenant is
			// locked as every writer locks it, so none is being inserted either.
			if err := tx.Tenant(t).LockConnector(ctx, id); err != nil && fault.CodeOf(err) != fault.NotFound {
				return err
			}
			for _, b := range due {
				if err := s.remove(ctx, b); err != nil {
					return err
				}
			}
			return connector.ErrNoChange
		})
	return err
}

// grant takes what is left of a grant out of the secret store. Usually there is
// nothing to do: who ends a grant forgets it at once. What is left is of those who
// could not, because they died or the secret store was away, and of consents whose
// transaction never came.
func (s *Sweeper) grant(ctx context.Context, t tenant.ID, id connector.ID, known bool) error {
	// The secret store is asked first: a consent writes there before it tells the
	// database, so one that comes in between has another version, and this one loses.
	g, err := s.secrets.ReadGrant(ctx, t, id)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		return err
	}
	age := s.now().Sub(g.WrittenAt)
	if g.Version == 0 || age <= minAge {
		return nil
	}
	if void, err := s.void(ctx, t, id); err != nil || !void {
		return err
	}
	if !known && len(g.Values) == 0 && age > keepDeleted {
		// There is no connector, and so nobody who would know a version.
		return s.secrets.DestroyGrant(ctx, t, id)
	}
	_, err = s.secrets.ForgetGrant(ctx, t, id, g.Version)
	switch {
	case fault.CodeOf(err) == fault.Conflict:
		return nil // it was consented to meanwhile
	case err == nil && len(g.Values) > 0:
		s.Forgotten.Add(1)
		s.log.Info("a grant that nothing may use was forgotten", "tenant", t.String(), "connector", id.String())
	}
	return err
}

// void tells whether nothing may use a connector's grant any more.
func (s *Sweeper) void(ctx context.Context, t tenant.ID, id connector.ID) (bool, error) {
	row, err := s.store.Grant(ctx, t, id)
	if err != nil || row.Status == connector.GrantNone {
		return err == nil, err
	}
	c, err := connector.Find(ctx, s.store.Tenant(t), id)
	if err != nil {
		return false, err
	}
	return !c.DeletedAt.IsZero() && s.now().Sub(c.DeletedAt) > keepDeleted, nil
}

// due tells whether a bundle is old enough for its next step.
func (s *Sweeper) due(b vault.Stored) bool {
	if b.DeletedAt.IsZero() {
		return s.now().Sub(b.WrittenAt) > minAge
	}
	return s.now().Sub(b.DeletedAt) > keepDeleted
}

// remove takes the next step for a bundle, if still nothing refers to it. The
// caller holds the connector's lock, so that the answer stays true meanwhile.
func (s *Sweeper) remove(ctx context.Context, b vault.Stored) error {
	is, err := s.store.Tenant(b.Ref.Tenant).Pinned(ctx, b.Ref.Connector, b.Ref.Pin)
	if err != nil || is {
		return err
	}
	if b.DeletedAt.IsZero() {
		if err := s.secrets.Delete(ctx, b.Ref); err != nil {
			return err
		}
		s.Deleted.Add(1)
		return nil
	}
	if err := s.secrets.Destroy(ctx, b.Ref); err != nil {
		return err
	}
	s.Destroyed.Add(1)
	return nil
}
