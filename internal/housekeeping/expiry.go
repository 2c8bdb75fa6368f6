package housekeeping

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// AuditRetention is how long audit entries are kept unless it is said otherwise.
const AuditRetention = 400 * 24 * time.Hour

// expiryBatch bounds what one statement deletes, so that it holds no lock for long.
const expiryBatch = 1000

// Expiring is what an Expiry needs of a store.
type Expiring interface {
	SweepRequests(ctx context.Context) (int64, error)
	SweepConsents(ctx context.Context) (int64, error)
	SweepAudit(ctx context.Context, age time.Duration, n int) (int64, error)
}

// Expiry deletes what has come to its end: idempotency keys, consents that nobody
// completed, and audit entries past their retention.
type Expiry struct {
	store  Expiring
	log    *slog.Logger
	retain time.Duration
	every  time.Duration

	// Counters for metrics.
	Requests, Consents, Audit atomic.Int64
	Failures                  atomic.Int64 // passes that did not reach their end
}

// ExpiryOptions are an Expiry's parts. Store is needed.
type ExpiryOptions struct {
	Store  Expiring
	Log    *slog.Logger  // nil discards
	Retain time.Duration // of audit entries; default AuditRetention, at least 30 days
	Every  time.Duration // between passes, jittered; default 10 min
}

// NewExpiry returns an Expiry. Run does the work.
func NewExpiry(o ExpiryOptions) *Expiry {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Retain <= 0 {
		o.Retain = AuditRetention
	}
	if o.Every <= 0 {
		o.Every = 10 * time.Minute
	}
	return &Expiry{store: o.Store, log: o.Log, retain: o.Retain, every: o.Every}
}

// Run sweeps at once and then about every 10 min, until ctx ends. Several may run
// side by side.
func (e *Expiry) Run(ctx context.Context) error {
	return passes{first: 0, every: e.every, failures: &e.Failures, log: e.log,
		job: "delete what has ended"}.repeat(ctx, e.Sweep)
}

// Sweep makes one pass. It stops at the first error.
func (e *Expiry) Sweep(ctx context.Context) error {
	n, err := e.store.SweepRequests(ctx)
	e.Requests.Add(n)
	if err != nil {
		return err
	}
	n, err = e.store.SweepConsents(ctx)
	e.Consents.Add(n)
	if err != nil {
		return err
	}
	for {
		n, err := e.store.SweepAudit(ctx, e.retain, expiryBatch)
		e.Audit.Add(n)
		if err != nil || n < expiryBatch {
			return err
		}
	}
}
