package resolver

import "context"

// Resolver answers slots. Its methods are safe for concurrent use.
type Resolver struct{}

// Resolve answers a slot with nothing older than revision minimum (0: any).
// Errors: fault.NotFound (unknown tenant), fault.NoDefaultConnector,
// fault.TenantSuspended, fault.PermissionDenied (inactive organization),
// fault.NeedsReauthorization, fault.Conflict (minimum above the database's
// revision), fault.Unavailable, fault.DeadlineExceeded.
func (r *Resolver) Resolve(ctx context.Context, s Slot, minimum int64) (Answer, error) {
	panic("contract")
}

// Connector answers for one connector by id; an inactive one too. Errors as
// Resolve's, and fault.NotFound, fault.Inactive.
func (r *Resolver) Connector(ctx context.Context, q ByID, minimum int64) (Answer, error) {
	panic("contract")
}

// ResolveAll answers every category that has a default for the slot's
// organization (its Category is ignored). One broken category doesn't fail the
// rest: it is in Errors.
func (r *Resolver) ResolveAll(ctx context.Context, s Slot, minimum int64) (Set, error) {
	panic("contract")
}
