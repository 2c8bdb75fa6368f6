package importer

import (
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// Importer plans, applies and exports. It holds no state of its own and is safe
// for concurrent use as far as its parts are.
type Importer struct {
	Store   connector.Store
	Secrets vault.Store
	Kinds   *providers.Registry
	// Env looks a variable up for "$ENV:NAME"; nil refuses such values: only
	// the operator's own command line may read its environment.
	Env func(name string) (string, bool)
	// ReadFile reads a file for "$FILE:path"; nil refuses such values. It bounds
	// what it reads; the public message of its error is shown to the operator.
	ReadFile func(path string) ([]byte, error)
	Now      func() time.Time
	NewID    func() connector.ID
	NewPin   func() connector.Pin
}

// Options says how a file is to be read.
type Options struct {
	// Tenant is the tenant of records that name none; one that names another
	// is an error. Zero: none given.
	Tenant tenant.ID
	// DefaultTenant is where records without any tenant end up. Where it is
	// set (the embedded defaults), missing tenants are created.
	DefaultTenant tenant.ID
	// CreateOrganizations creates organizations that are only referred to.
	CreateOrganizations bool
	// Force lets the file win where file and store both changed.
	Force bool
	// Restore revives deleted connectors of the same external id.
	Restore bool
	// FixedTenant leaves the tenant's own record alone, for those who may not change
	// it: a record of the file that would is an error, and so is a tenant that does
	// not exist.
	FixedTenant bool
	// Actor is written to audit and history; default "cli:import".
	Actor string
	// Request is the request id for the audit; "" from the command line.
	Request string
}

// Result counts what Apply did.
type Result struct {
	Created, Updated, Unchanged, Skipped int
	// Revisions holds the new revision of each tenant that changed.
	Revisions map[tenant.ID]int64
}
