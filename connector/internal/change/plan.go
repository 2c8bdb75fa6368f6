package change

import (
	"slices"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Lock is one tenant of a change: to move, or to create.
type Lock struct {
	ID     tenant.ID
	Create *connector.Tenant // nil: to move
}

// Plan puts existing and new tenants in one id order, once each: two changes
// that share tenants then wait for each other and never in a circle.
// Errors: fault.InvalidArgument for a change that no store can run.
func Plan(c connector.Change) ([]Lock, error) {
	if err := CheckActor(c.Actor, c.Request); err != nil {
		return nil, err
	}
	var locks []Lock
	for _, id := range c.Tenants {
		locks = append(locks, Lock{ID: id})
	}
	for i := range c.Create {
		if err := CheckTenant(&c.Create[i]); err != nil {
			return nil, err
		}
		locks = append(locks, Lock{ID: c.Create[i].ID, Create: &c.Create[i]})
	}
	slices.SortStableFunc(locks, func(a, b Lock) int { return a.ID.Compare(b.ID) })
	for i, l := range locks {
		if l.ID.IsZero() {
			return nil, fault.New(fault.InvalidArgument, "a change names its tenants")
		}
		if i > 0 && locks[i-1].ID == l.ID && (l.Create != nil || locks[i-1].Create != nil) {
			return nil, fault.New(fault.InvalidArgument, "a change names a tenant to create once")
		}
	}
	return slices.CompactFunc(locks, func(a, b Lock) bool { return a.ID == b.ID }), nil
}
