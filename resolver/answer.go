package resolver

import (
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Slot is what resolution looks up. It is comparable. A zero Organization sees
// tenant-wide defaults only.
type Slot struct {
	Tenant       tenant.ID
	Organization tenant.OrganizationID
	Category     providers.Category
	Session      Session // nil: secrets are read with the process's own right
}

// ByID asks for one connector, as seen from an organization.
type ByID struct {
	Tenant       tenant.ID
	Organization tenant.OrganizationID
	Connector    connector.ID
	Session      Session // as Slot's
}

// Source says where an answer came from.
type Source string

// The sources, as the X-Patchbay-Source header writes them.
const (
	FromMemory   Source = "memory"
	FromRedis    Source = "redis"
	FromDatabase Source = "database"
)

// Answer is a resolved backend, serialised. It is a value: copying it allocates
// nothing.
type Answer struct {
	Body      secret.Body // the JSON object of DESIGN 3.2, "stale" included
	ETag      string      // quoted, over connector, config and expires_at; no secret goes into it
	Source    Source
	Revision  int64 // the tenant's, at which the answer was last known true
	Age       time.Duration
	Stale     bool
	ExpiresAt time.Time // zero when nothing expires
}

// Set is the answer for all categories of an organization.
type Set struct {
	Answers map[providers.Category]Answer
	Errors  map[providers.Category]error
	// Negative is what the negative answers among the parts tell of themselves:
	// that nothing answers for a category may be old or stale too. Beside an error
	// it is that error's, empty when it is no answer.
	Negative []Answer
	Revision int64
}
