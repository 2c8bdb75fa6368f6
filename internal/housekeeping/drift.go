package housekeeping

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
)

// driftBatch bounds one pass: what is left is found by the next.
const driftBatch = 500

// Drift brings the states of connectors in line with their OAuth2 grants, which
// sidecars settle: an issuer that refuses a grant shows as a connector that needs
// to be authorized again, and a grant that lives again as one that is untested.
type Drift struct {
	grants connector.Grants
	align  Aligner
	log    *slog.Logger
	every  time.Duration

	// Counters for metrics.
	Aligned  atomic.Int64
	Failures atomic.Int64 // passes that did not reach their end
}

// Aligner is what a Drift needs of connector.Service.
type Aligner interface {
	// AlignGrant turns a grant's status into its connector's state, and tells
	// whether that changed anything.
	AlignGrant(ctx context.Context, d connector.GrantDrift) (bool, error)
}

// DriftOptions are a Drift's parts. Grants and Service are needed.
type DriftOptions struct {
	Grants  connector.Grants // the store
	Service Aligner
	Log     *slog.Logger  // nil discards
	Every   time.Duration // between passes, jittered; default 30 s
}

// NewDrift returns a Drift. Run does the work.
func NewDrift(o DriftOptions) *Drift {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Every <= 0 {
		o.Every = 30 * time.Second
	}
	return &Drift{grants: o.Grants, align: o.Service, log: o.Log, every: o.Every}
}

// Run aligns at once and then about every 30 s, until ctx ends. Several may run
// side by side: the second finds nothing to do.
func (d *Drift) Run(ctx context.Context) error {
	return passes{first: 0, every: d.every, failures: &d.Failures, log: d.log,
		job: "bring connectors in line with their grants"}.repeat(ctx, d.Align)
}

// Align makes one pass. It stops at the first outage; another error costs one
// connector and is returned at the end.
func (d *Drift) Align(ctx context.Context) error {
	list, err := d.grants.DriftedGrants(ctx, driftBatch)
	if err != nil {
		return err
	}
	var failed error
	for _, g := range list {
		moved, err := d.align.AlignGrant(ctx, g)
		switch {
		case err == nil:
		case stops(ctx, err):
			return err
		default:
			failed = err
		}
		if moved {
			d.Aligned.Add(1)
			d.log.Info("a connector's state follows its grant", "tenant", g.Tenant.String(), "connector", g.Connector.String(), "code", string(g.Status))
		}
	}
	return failed
}
