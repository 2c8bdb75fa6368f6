package connector

import (
	"context"

	"github.com/patchbay-dev/patchbay/tenant"
)

// Purges deletes tenants for good: BeginPurge, then what is kept elsewhere is
// removed, then PurgeRecords until nothing is left, then EndPurge. Each step can be
// taken again, by another process too, so that one that died is gone on with.
//
// The audit of a tenant outlives it until its entries are as old as all others are
// swept at: who deleted a customer must not be forgotten with the customer. So does
// its id, which is no other tenant's ever.
type Purges interface {
	// DuePurges lists the tenants whose PurgeAt has come, those whose purge has begun
	// included, by id, after the given one, at most n.
	DuePurges(ctx context.Context, after tenant.ID, n int) ([]tenant.ID, error)
	// BeginPurge ends the time in which a deleted tenant can be resumed. Changes that
	// began before have ended when it returns, and from then on there are none.
	// One that has begun is no error.
	// Errors: fault.NotFound; fault.Conflict for a tenant that is not deleted, or whose
	// date has not come.
	BeginPurge(ctx context.Context, t tenant.ID) error
	// PurgeRecords deletes at most n connectors, with all that belongs to them, or
	// where there are none at most n organizations, of a tenant whose purge has begun,
	// and returns how many. 0: nothing is left, or it has not begun.
	PurgeRecords(ctx context.Context, t tenant.ID, n int) (int64, error)
	// EndPurge deletes the tenant, by whom is noted in its audit. One that is purged
	// is no error.
	// Errors: fault.NotFound; fault.Conflict while there are records, when the purge has
	// not begun, and for an hour while a change is not announced to the sidecars.
	EndPurge(ctx context.Context, t tenant.ID, actor string) error
	// Purged tells whether a tenant of that id has been purged.
	Purged(ctx context.Context, t tenant.ID) (bool, error)
}
