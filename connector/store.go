package connector

import (
	"context"
	"time"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Store keeps tenants, organizations and connectors. Implementations are safe
// for concurrent use, honour the context's deadline on every call, and classify
// their errors:
//
//   - fault.Unavailable: the database could not be reached, or lost the
//     connection (a write's outcome is then unknown);
//   - fault.DeadlineExceeded: the context ended first;
//   - fault.Conflict: a unique rule (two defaults, two external ids) or a
//     concurrent writer refused the change;
//   - fault.StaleVersion: a version check failed;
//   - fault.NotFound: the record does not exist in this tenant.
//
// No method takes a connector without a tenant: rows are reached through a
// tenant's handle, and every statement names the tenant.
//
// Not guaranteed: any order between revisions of different tenants.
type Store interface {
	Reader
	Changer
	Outbox
	Grants
	Requests
	Consents
	Purges

	// Ping reaches the database once and returns its clock.
	Ping(ctx context.Context) (time.Time, error)
	// Close releases everything. Calls in flight finish or fail by their own
	// context; later ones fail with fault.Unavailable.
	Close() error
}

// Reader is what a data plane needs.
type Reader interface {
	// Tenant returns the handle of one tenant. It does no I/O; a tenant that
	// does not exist shows as Snapshot.Tenant == StatusMissing.
	Tenant(id tenant.ID) TenantReader
	// Revisions reads the revisions of many tenants in one statement. A tenant
	// that does not exist is absent from the map.
	Revisions(ctx context.Context, ids []tenant.ID) (Revisions, error)
	// Tenants lists tenants by id. The zero filter lists all. For the control plane
	// only: a sidecar's role may not.
	Tenants(ctx context.Context, f TenantFilter) ([]Tenant, error)
}

// TenantFilter narrows a list of tenants. Zero fields do not narrow.
type TenantFilter struct {
	Status Status
	Query  string    // part of the id or name, in any case
	After  tenant.ID // keyset: ids greater than this
	Limit  int       // 0: no limit, for a store; 50, for a Service
}

// Revisions is one consistent reading.
type Revisions struct {
	At       time.Time // the database's clock at the reading
	Revision map[tenant.ID]int64
}

// Snapshot is one consistent reading of what answers a question, negative
// answers included. All its facts are of the same moment.
type Snapshot struct {
	Revision     int64     // of the tenant; 0 when the tenant is missing
	At           time.Time // the database's clock at the reading
	Tenant       Status
	Organization OrganizationStatus // of the organization asked for
	Connector    *Connector         // nil: none answers
	// Inherited: the connector is tenant-wide while an organization was asked for,
	// or none was active.
	Inherited bool
	Grant     GrantStatus // of the connector's OAuth2 grant
	// GrantVersion is the grant's version as last settled, 0 without one.
	GrantVersion int64
}

// OrganizationStatus says what the store knows of an organization id.
type OrganizationStatus string

// The organization statuses. An unknown one is no error: it has no own
// connectors and inherits.
const (
	OrganizationUnknown  OrganizationStatus = ""
	OrganizationActive   OrganizationStatus = "active"
	OrganizationInactive OrganizationStatus = "inactive"
)

// GrantStatus is the status column of oauth_grants; "" when there is no grant.
type GrantStatus string

// The grant statuses.
const (
	GrantNone                 GrantStatus = ""
	GrantActive               GrantStatus = "active"
	GrantNeedsReauthorization GrantStatus = "needs_reauthorization"
)

// TenantReader reads one tenant's records. Each method is one round trip.
// Returned values are the caller's own.
type TenantReader interface {
	// Default reads the connector that answers for (organization, category):
	// the organization's own active default, else the tenant-wide active one.
	// A zero organization sees tenant-wide ones only.
	Default(ctx context.Context, org tenant.OrganizationID, category providers.Category) (Snapshot, error)
	// Defaults reads the answers of every category that has one, from one
	// moment. With none, the slice holds a single Snapshot without Connector,
	// so that revision and statuses are always known.
	Defaults(ctx context.Context, org tenant.OrganizationID) ([]Snapshot, error)
	// Connector reads one living connector, active or not, whose organization
	// is org or the whole tenant; others are a Snapshot without Connector.
	Connector(ctx context.Context, org tenant.OrganizationID, id ID) (Snapshot, error)

	// Get returns the tenant's own record. Errors: fault.NotFound.
	Get(ctx context.Context) (Tenant, error)
	// Organizations lists the tenant's organizations by id. The zero filter lists all.
	Organizations(ctx context.Context, f OrganizationFilter) ([]Organization, error)
	// List lists connectors by id. The zero Filter lists all living ones.
	List(ctx context.Context, f Filter) ([]Connector, error)
	// History lists at most limit (0: all) revisions of a connector, newest first,
	// those of versions below before (0: all).
	History(ctx context.Context, id ID, before int64, limit int) ([]Revision, error)
	// Audit lists audit entries, newest first.
	Audit(ctx context.Context, f AuditFilter) ([]AuditEntry, error)
	// Pinned tells whether a living or deleted connector, or a revision of it,
	// refers to pin. The sweeper asks; see also TenantTx.LockConnector.
	Pinned(ctx context.Context, id ID, pin Pin) (bool, error)
}

// Filter narrows List. Zero fields do not narrow.
type Filter struct {
	Category       providers.Category
	Kind           providers.Kind
	Organization   *tenant.OrganizationID // pointing to zero: tenant-wide only
	ExternalID     string
	State          State
	Default        *bool
	Query          string // part of the name, external id, kind or id, in any case
	IncludeDeleted bool
	Deleted        bool // deleted ones alone
	// Bound leaves only what belongs to one of the Organizations, and so nothing
	// tenant-wide.
	Bound         bool
	Organizations []tenant.OrganizationID
	After         ID  // keyset: ids greater than this
	Limit         int // 0: no limit
}

// OrganizationFilter narrows a list of organizations. Zero fields do not narrow.
type OrganizationFilter struct {
	Active *bool
	Query  string // part of the id or name, in any case
	// Bound leaves only the Organizations.
	Bound         bool
	Organizations []tenant.OrganizationID
	After         tenant.OrganizationID // keyset: ids greater than this
	Limit         int                   // 0: no limit, for a store; 50, for a Service
}

// Revision is one past state of a connector, without values of secrets.
type Revision struct {
	Version   int64
	Revision  int64 // the tenant's
	Connector Connector
	Actor     string
	At        time.Time
}

// AuditEntry says who did what, when. It never holds a value.
type AuditEntry struct {
	ID        int64 // grows with time within a tenant; 0 of one that is to be written
	At        time.Time
	Actor     string // "cli:import", or issuer and subject
	Action    string // "connector.create", "connector.update", ...
	Target    string // connector id, organization id, tenant id
	Outcome   string // "ok" or a fault code; of a revocation, a Revocation
	RequestID string
	Fields    []string // names of what changed
	Note      string   // the reason that the actor gave, at most MaxNote characters; "" when none
}

// AuditFilter narrows Audit. Zero fields do not narrow.
type AuditFilter struct {
	Actor, Target, Outcome, RequestID string
	// Action is a whole one, or with a "*" at its end all that begin so.
	Action   string
	From, To time.Time // From inclusive, To exclusive
	Before   int64     // keyset: ids lower than this
	Limit    int       // 0: no limit
	// Bound leaves only what is about the Organizations: their connectors, deleted
	// ones too, and themselves.
	Bound         bool
	Organizations []tenant.OrganizationID
}

// MaxNote bounds AuditEntry.Note, in characters.
const MaxNote = 500

// Changer is what a control plane needs.
type Changer interface {
	// Change runs fn in one transaction over the tenants that c names, which
	// are locked first, in id order, by moving their revisions to
	// greatest(revision + 1, clock in ms). It commits when fn returns nil, then
	// returns the new revisions. Anything else rolls everything back, revisions
	// included: fn returning ErrNoChange makes Change return the present
	// revisions and nil.
	//
	// fn may run more than once (serialisation); it must not keep the Tx.
	// Errors: fault.NotFound when a tenant neither exists nor is created;
	// fault.AlreadyExists when a tenant to create exists, or has been purged;
	// fault.Conflict for a tenant whose purge has begun.
	Change(ctx context.Context, c Change, fn func(ctx context.Context, tx Tx) error) (map[tenant.ID]int64, error)
	// RecordTest stores a test's outcome without moving a revision or version,
	// when the connector's version is still the tested one; else
	// fault.StaleVersion. So it is for a report whose "tested_at" (RFC 3339) is
	// before that of the stored report of the same "version": of two tests that end
	// out of order the later one counts. A report is kept beside
	// StateNeedsReauthorization, which decides an answer and so is no test's to set
	// or clear: as state it is fault.InvalidArgument, as the stored one it stays.
	RecordTest(ctx context.Context, t tenant.ID, id ID, version int64, state State, report []byte) error
	// SweepAudit deletes at most n entries older than age of all tenants, the oldest
	// first, and returns how many. An age below 30 days is fault.InvalidArgument: the
	// wall under it allows no less.
	SweepAudit(ctx context.Context, age time.Duration, n int) (int64, error)
	// RecordAudit leaves an audit entry without any other change, for what was
	// refused, failed or only read: no revision moves and nobody is notified. A call
	// that ends in fault.Unavailable may have left it. At, Actor and RequestID of e
	// are not read.
	// Errors: fault.NotFound when there is no such tenant; fault.InvalidArgument
	// without actor, action or outcome, and for a Note that is too long.
	RecordAudit(ctx context.Context, t tenant.ID, actor, request string, e AuditEntry) error
}

// Change describes a transaction.
type Change struct {
	Tenants []tenant.ID // existing tenants to lock
	Create  []Tenant    // tenants to create; not repeated in Tenants
	Actor   string      // for audit and history; not empty
	Request string      // request id, "" from the command line
	// SecretsWritten is when the oldest secret that fn will pin was written;
	// zero when none was. The commit is refused (fault.DeadlineExceeded) more
	// than MaxSecretAge after it, long before a sweeper may touch it.
	SecretsWritten time.Time
}

// MaxSecretAge bounds the time between a secret's write and the commit that pins it.
const MaxSecretAge = 5 * time.Minute

// ErrNoChange is returned by a Change function that found nothing to do.
var ErrNoChange = errNoChange{}

type errNoChange struct{}

func (errNoChange) Error() string { return "no change" }

// Tx is a transaction over several tenants.
type Tx interface {
	// Tenant returns the handle for one of the Change's tenants; for another
	// one every method of the handle fails.
	Tenant(id tenant.ID) TenantTx
}

// TenantTx changes one tenant's records. Each write leaves its outbox row,
// history row and audit row in the same transaction.
type TenantTx interface {
	// Revision is the tenant's new revision.
	Revision() int64
	// UpdateTenant changes name, status, external id, noupdate or the date of the
	// purge, which a suspended tenant alone may have.
	UpdateTenant(ctx context.Context, fn func(*Tenant) error) error
	// Organization reads one as it is now, by this transaction's own connection.
	// Errors: fault.NotFound.
	Organization(ctx context.Context, id tenant.OrganizationID) (Organization, error)
	// PutOrganization creates or replaces an organization.
	PutOrganization(ctx context.Context, o Organization) error
	// Insert adds a connector; Version becomes 1 and the times are set.
	// Errors: fault.Conflict when it would be a second default or reuses a
	// living external id.
	Insert(ctx context.Context, c Connector) error
	// Update applies fn to the connector when its version is the given one and
	// stores the result with the next version. fn must not change ID, Kind,
	// Category or Organization (fault.InvalidArgument).
	// Setting DeletedAt soft-deletes, and ends the connector's consents under way;
	// clearing it restores.
	Update(ctx context.Context, id ID, version int64, fn func(*Connector) error) error
	// ClearDefault unsets the default of (organization, category), moving that
	// connector's version, and returns its id, zero when there was none.
	// A swap is ClearDefault, then Insert or Update with Default.
	ClearDefault(ctx context.Context, org tenant.OrganizationID, category providers.Category) (ID, error)
	// LockConnector locks the connector's row until the transaction ends.
	LockConnector(ctx context.Context, id ID) error
	// Grant reads the connector's grant as it is now, by this transaction's own
	// connection; GrantRow{} with At when there is none. It takes no lock: a sidecar
	// may settle the grant meanwhile.
	Grant(ctx context.Context, id ID) (GrantRow, error)
	// PutGrant says that a user has consented: the grant's version in Vault exists.
	// It makes the row or raises it to version, active, and ends its lease, so that
	// whoever refreshes the grant of before is fenced off. A connector in
	// StateNeedsReauthorization becomes StateUntested by it, with the next version.
	// Errors: fault.NotFound for a connector that is deleted or unknown.
	PutGrant(ctx context.Context, id ID, version int64) error
	// DeleteGrant removes the row, lease and all, ends the consents under way, and
	// leaves the connector's state alone. A connector without a grant, also a deleted one, is no error, and
	// nothing is written then. A later PutGrant begins anew: with any version, and
	// with epochs that were never used.
	// Errors: fault.NotFound for an unknown connector.
	DeleteGrant(ctx context.Context, id ID) error
	// SettleRequest stores the outcome of a request of this tenant, or of the
	// platform's (of no tenant), that was claimed, for keep from now, and ends the claim.
	// Errors: fault.Conflict when the claim ended and was taken over meanwhile: the
	// transaction must not commit.
	SettleRequest(ctx context.Context, c Claim, o RequestOutcome, keep time.Duration) error
	// Audit leaves an entry beside what the transaction writes, such as the reason
	// for it. At, Actor and RequestID of e are not read.
	// Errors: fault.InvalidArgument as RecordAudit.
	Audit(ctx context.Context, e AuditEntry) error
}

// Outbox is the change feed that a relay drains. See DESIGN 6.
type Outbox interface {
	// Relay locks at most n unsent rows that nobody else holds, oldest first,
	// passes them to send and marks them sent when send returns nil, all in one
	// transaction. It returns how many it sent. It blocks on no lock.
	Relay(ctx context.Context, n int, send func(ctx context.Context, ms []Message) error) (int, error)
	// Unsent tells, without locks, whether an unsent row older than age exists,
	// rows that another relay has locked included.
	Unsent(ctx context.Context, age time.Duration) (bool, error)
	// LastSent returns the greatest id of a sent row, 0 when there is none.
	LastSent(ctx context.Context) (int64, error)
	// Sent returns rows that were sent and written within the last age, by id,
	// after the given id, at most n. Replays read it.
	Sent(ctx context.Context, age time.Duration, after int64, n int) ([]Message, error)
	// Committed returns a channel that receives after a commit of this process;
	// it has capacity one and coalesces.
	Committed() <-chan struct{}
	// Sweep deletes sent rows older than age and returns how many.
	SweepOutbox(ctx context.Context, age time.Duration) (int64, error)
}

// Message is one outbox row: what a committed transaction may have changed.
type Message struct {
	ID           int64                 `json:"i"`
	Tenant       tenant.ID             `json:"t"`
	Revision     int64                 `json:"r"`
	All          bool                  `json:"a,omitempty"` // every organization (a tenant-wide connector)
	Organization tenant.OrganizationID `json:"o,omitzero"`  // when All is false
	Category     providers.Category    `json:"c,omitempty"` // "" for organization and tenant changes
	Connector    ID                    `json:"k,omitzero"`
	Status       bool                  `json:"s,omitempty"` // the tenant's or an organization's status changed: everything of it
	At           time.Time             `json:"w"`           // the database's clock
}
