package change

import (
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// CheckTenant tells whether a tenant can be written.
// Errors: fault.InvalidArgument.
func CheckTenant(t *connector.Tenant) error { return Text(t.ExternalID, t.Name) }

// CheckTenantUpdate is CheckTenant for one that replaces another state of itself.
func CheckTenantUpdate(old, next *connector.Tenant) error {
	if next.ID != old.ID {
		return fault.New(fault.InvalidArgument, "a tenant's id never changes")
	}
	if !next.PurgeAt.IsZero() && next.Status != connector.StatusSuspended {
		return fault.New(fault.InvalidArgument, "a deleted tenant is suspended: resume it first")
	}
	return CheckTenant(next)
}

// TenantFields names what differs, never a value.
func TenantFields(old, next *connector.Tenant) []string {
	f := fieldNames{}
	f.add("external_id", next.ExternalID != old.ExternalID)
	f.add("name", next.Name != old.Name)
	f.add("status", next.Status != old.Status)
	f.add("noupdate", next.NoUpdate != old.NoUpdate)
	f.add("purge_at", !next.PurgeAt.Equal(old.PurgeAt))
	return f
}

// CheckOrganization tells whether an organization can be written.
// Errors: fault.InvalidArgument.
func CheckOrganization(o *connector.Organization) error {
	if o.ID.IsZero() {
		return fault.New(fault.InvalidArgument, "an organization needs an id")
	}
	return Text(o.ExternalID, o.Name)
}

// OrganizationFields names what differs, never a value; all when old is nil.
func OrganizationFields(old, o *connector.Organization) []string {
	f := fieldNames{}
	f.add("external_id", old == nil || o.ExternalID != old.ExternalID)
	f.add("name", old == nil || o.Name != old.Name)
	f.add("active", old == nil || o.Active != old.Active)
	f.add("noupdate", old == nil || o.NoUpdate != old.NoUpdate)
	return f
}

// IDs spells organizations for a statement.
func IDs(organizations []tenant.OrganizationID) []string {
	out := make([]string, len(organizations))
	for i, o := range organizations {
		out[i] = o.String()
	}
	return out
}

// Purging is the refusal of a change of a tenant that is on its way out.
func Purging() error {
	return fault.New(fault.Conflict, "the tenant is being deleted for good: it can't be changed or resumed any more")
}

// PurgedBefore is the refusal of a tenant under an id that was another one's.
func PurgedBefore() error {
	return fault.New(fault.AlreadyExists, "the id was a tenant's that is deleted for good; take another one")
}

// NotDue is the refusal of a purge.
func NotDue() error {
	return fault.New(fault.Conflict, "the tenant is not deleted, or can still be resumed")
}

// NotEmpty is the refusal to end a purge.
func NotEmpty() error {
	return fault.New(fault.Conflict, "records of the tenant are left, or a change that the sidecars have not heard of")
}

// ActionPurge is the audit's name for a tenant's end.
const ActionPurge = "tenant.purge"

// UnsentPurge is how long a change that nobody announced keeps a tenant from going:
// what is older no sidecar waits for, since its answers have come to their TTL.
const UnsentPurge = time.Hour
