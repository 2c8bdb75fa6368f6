package connector

import (
	"encoding/json"
	"time"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// State is what is known about a connector's connection. It never decides who
// answers (Active and Default do), but for StateNeedsReauthorization.
type State string

// The states.
const (
	StateDraft                State = "draft"
	StateUntested             State = "untested"
	StateConnected            State = "connected"
	StateError                State = "error"
	StateNeedsReauthorization State = "needs_reauthorization"
)

// States lists every state.
func States() []State {
	return []State{StateDraft, StateUntested, StateConnected, StateError, StateNeedsReauthorization}
}

// Writer says who wrote a param's present value.
type Writer string

// The writers.
const (
	WriterAPI    Writer = "api"
	WriterImport Writer = "import"
)

// Connector is a configured instance of a kind: the record ir.connector.
// Secret values are not in it; Pin says where they are.
type Connector struct {
	ID            ID
	ExternalID    string // of the data file that made it; "" when made by the API
	Name          string
	Category      providers.Category
	Kind          providers.Kind
	SchemaVersion int                   // of the kind when the params were last written; >= 1
	Organization  tenant.OrganizationID // zero: belongs to the whole tenant
	State         State
	Active        bool
	Default       bool // implies Active; one per (tenant, organization, category)
	BlockPinned   bool // when inactive, GET by id answers 409 instead of "active": false
	NoUpdate      bool // the data file that made it said noupdate
	Params        map[string]Param
	Secrets       map[string]SecretInfo
	Pin           Pin             // not zero while there are Secrets; it may outlive the last one (Bundle.Imported)
	LastTest      json.RawMessage // a providers test report with its version; nil until tested
	Version       int64           // counts this connector's edits, from 1
	CreatedAt     time.Time       // set by the store, UTC
	UpdatedAt     time.Time       // set by the store, UTC
	DeletedAt     time.Time       // zero while alive
}

// Param is one typed, non-secret value: the record ir.connector.param.
type Param struct {
	// Value is in the canonical form that providers.Schema.Decode produces:
	// string, bool, int64, float64, []any or map[string]any of those. nil, with
	// Imported set, is a param that was cleared: it is not set, but the next import
	// of an unchanged file must not bring it back. A Snapshot has no cleared params.
	Value     any
	Writer    Writer
	Imported  any // what the last import brought, in the same form; nil when none did
	UpdatedAt time.Time
}

// SecretInfo is what Postgres knows about one secret: that it is set, never what it is.
type SecretInfo struct {
	Version   int64 // counts the changes of this secret, from 1
	Writer    Writer
	UpdatedAt time.Time
}

// Status is a tenant's status. The zero Status means that there is no such tenant.
type Status string

// The statuses of a tenant.
const (
	StatusMissing   Status = ""
	StatusReady     Status = "ready"
	StatusSuspended Status = "suspended"
)

// Tenant is the record gateway.tenant.
type Tenant struct {
	ID         tenant.ID
	ExternalID string
	Name       string
	Status     Status
	NoUpdate   bool
	Revision   int64 // read only
	// PurgeAt is when a deleted tenant goes for good; zero of one that is not deleted.
	PurgeAt   time.Time
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Organization is the record res.organization.
type Organization struct {
	ID         tenant.OrganizationID
	ExternalID string
	Name       string
	Active     bool
	NoUpdate   bool
	CreatedAt  time.Time
	UpdatedAt  time.Time
}
