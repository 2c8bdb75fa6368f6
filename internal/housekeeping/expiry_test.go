package housekeeping_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/housekeeping"
)

// old is a store with some of what has ended.
type old struct {
	audit  int64
	failed error
	ages   []time.Duration
}

func (o *old) SweepRequests(context.Context) (int64, error) { return 3, nil }
func (o *old) SweepConsents(context.Context) (int64, error) { return 2, o.failed }
func (o *old) SweepAudit(_ context.Context, age time.Duration, n int) (int64, error) {
	o.ages = append(o.ages, age)
	gone := min(o.audit, int64(n))
	o.audit -= gone
	return gone, nil
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	store := &old{audit: 2500}
	e := housekeeping.NewExpiry(housekeeping.ExpiryOptions{Store: store})
	if err := e.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e.Requests.Load() != 3 || e.Consents.Load() != 2 || e.Audit.Load() != 2500 || len(store.ages) != 3 || store.ages[0] != housekeeping.AuditRetention {
		t.Errorf("%d, %d, %d in %v", e.Requests.Load(), e.Consents.Load(), e.Audit.Load(), store.ages)
	}
	store.failed = errors.New("away")
	if err := e.Sweep(t.Context()); !errors.Is(err, store.failed) || len(store.ages) != 3 {
		t.Errorf("%v, %v", err, store.ages)
	}
}
