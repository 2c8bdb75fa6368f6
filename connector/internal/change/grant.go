package change

import (
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// The audit's names for what becomes of a grant. An entry of a grant names the
// field GrantField, beside what else changed with it.
const (
	ActionGrant       = "connector.grant"
	ActionGrantDelete = "connector.grant_delete"
	GrantField        = "grant"
)

// CheckLease tells whether a lease can be taken or extended.
// Errors: fault.InvalidArgument.
func CheckLease(owner string, d time.Duration) error {
	if d < time.Microsecond {
		return fault.New(fault.InvalidArgument, "a lease lasts at least a microsecond")
	}
	if owner == "" {
		return fault.New(fault.InvalidArgument, "a lease needs an owner")
	}
	return Text(owner)
}

// CheckGrant tells whether something can be said of a version of a grant.
// Errors: fault.InvalidArgument.
func CheckGrant(version int64, status connector.GrantStatus) error {
	if version < 1 {
		return fault.New(fault.InvalidArgument, "a grant's version is at least 1")
	}
	if status != connector.GrantActive && status != connector.GrantNeedsReauthorization {
		return fault.New(fault.InvalidArgument, "a grant is active or needs to be authorized again")
	}
	return nil
}
