package connector

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Secrets is what a Service needs of the secret store; vault.Store satisfies it,
// with the errors that it states. What a lost race leaves behind is its sweeper's.
type Secrets interface {
	// Write stores b at ref's path, which must never have been written.
	Write(ctx context.Context, ref SecretRef, b Bundle) error
	// Read returns the bundle at ref's path. Errors: fault.NotFound when it was
	// deleted or destroyed.
	Read(ctx context.Context, ref SecretRef) (Bundle, error)
}

// ServiceOptions configure a Service. Store, Secrets, Kinds and NewPin are needed.
type ServiceOptions struct {
	Store   Store
	Secrets Secrets
	Kinds   *providers.Registry // bound: tests of unbound kinds say that they have no network
	NewPin  func() Pin          // returns a pin that was never used
	// Tokens gives OAuth2 kinds their tokens; nil: their tests say that there are
	// none in this process, and no account is connected in it.
	Tokens Grantor
	Log    *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
	// TestsPerMinute and TestsInFlight bound the connection tests of one tenant;
	// the defaults are 30 and 4.
	TestsPerMinute int
	TestsInFlight  int
	// TenantGrace is how long a deleted tenant can be resumed; default 30 days.
	TenantGrace time.Duration
}

// Service is the lifecycle of connectors, whatever calls it: every rule about who
// may see, edit, test, activate and default what is here, and callers add none.
// Its methods are safe for concurrent use, by any number of processes on one
// store. Reads and writes end with their context; a test runs on without its
// caller.
//
// Errors that all methods may return beside their own: fault.NotFound for a
// tenant, organization or connector that is unknown or beyond the scope, and
// nothing tells the two apart; fault.TenantSuspended; fault.Unavailable and
// fault.DeadlineExceeded of the stores (after a write that ended so its outcome is
// unknown); fault.InvalidArgument with violations whose pointers are those of the
// admin API's bodies ("/params/port").
type Service struct {
	o      ServiceOptions
	limits *testLimits
}

// NewService returns a Service. It does no I/O.
// Errors: fault.InvalidArgument when a needed option is missing.
func NewService(o ServiceOptions) (*Service, error) {
	if o.Store == nil || o.Secrets == nil || o.Kinds == nil || o.NewPin == nil {
		return nil, fault.New(fault.InvalidArgument, "a service needs a store, a secret store, kinds and a source of pins")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.TestsPerMinute <= 0 {
		o.TestsPerMinute = 30
	}
	if o.TenantGrace <= 0 {
		o.TenantGrace = 30 * 24 * time.Hour
	}
	if o.TestsInFlight <= 0 {
		o.TestsInFlight = 4
	}
	return &Service{o: o, limits: newTestLimits(o.TestsPerMinute, o.TestsInFlight, o.Now)}, nil
}

// Scope says who acts and how far that reaches. Every method is bounded by it:
// what is beyond it does not exist.
type Scope struct {
	Tenant tenant.ID
	// AllOrganizations reaches the whole tenant, tenant-wide connectors included.
	AllOrganizations bool
	// Organizations are all that is reached otherwise. A tenant-wide connector
	// belongs to none of them: who may change it changes it for everybody.
	Organizations []tenant.OrganizationID
	// Platform is the operator, who may act on a suspended tenant.
	Platform bool
	Actor    string // for audit and history; not empty
	Request  string // request id; "" when there is none
	// Issuer and Subject are the user's, whom a consent is bound to; "" when nobody
	// signed in.
	Issuer, Subject string
}

// ScopeOf is the scope of a verified token.
func ScopeOf(env *tenant.Env, request string) Scope {
	return Scope{
		Tenant: env.Tenant(), AllOrganizations: env.AllOrganizations(), Organizations: env.Organizations(),
		Actor: strings.TrimSpace(env.Issuer() + " " + env.Subject()), Request: request,
		Issuer: env.Issuer(), Subject: env.Subject(),
	}
}

// System is the scope of what the control plane does by itself.
func System(t tenant.ID) Scope {
	return Scope{Tenant: t, AllOrganizations: true, Platform: true, Actor: "system"}
}

// reaches tells whether records of an organization (zero: of the whole tenant)
// are within the scope.
func (sc Scope) reaches(org tenant.OrganizationID) bool {
	return sc.AllOrganizations || !org.IsZero() && slices.Contains(sc.Organizations, org)
}

// admit checks the scope itself and that its tenant can be acted on.
func (s *Service) admit(ctx context.Context, sc Scope) error {
	if sc.Tenant == (tenant.ID{}) || sc.Actor == "" {
		return fault.New(fault.InvalidArgument, "a scope names a tenant and an actor")
	}
	t, err := s.o.Store.Tenant(sc.Tenant).Get(ctx)
	switch {
	case fault.CodeOf(err) == fault.NotFound:
		return fault.New(fault.NotFound, "there is no such tenant")
	case err != nil:
		return err
	case t.Status == StatusSuspended && !sc.Platform:
		return fault.New(fault.TenantSuspended, "the tenant is suspended")
	}
	return nil
}

// Admit tells whether anything can be done within the scope at all, for those who
// reach the store by another way.
// Errors: fault.NotFound for an unknown tenant, fault.TenantSuspended.
func (s *Service) Admit(ctx context.Context, sc Scope) error { return s.admit(ctx, sc) }

func notFound() error { return fault.New(fault.NotFound, "there is no such connector") }

// Find reads one connector of a tenant, living or deleted, of any organization.
// Errors: fault.NotFound.
func Find(ctx context.Context, r TenantReader, id ID) (Connector, error) {
	// The keyset of List is by id and exclusive, so one page after the id's
	// predecessor begins with the connector itself: one index look-up.
	list, err := r.List(ctx, Filter{After: id.predecessor(), Limit: 1, IncludeDeleted: true})
	if err != nil {
		return Connector{}, err
	}
	if len(list) == 0 || list[0].ID != id || id.IsZero() {
		return Connector{}, notFound()
	}
	return list[0], nil
}

// predecessor is the greatest id below this one, as ids are ordered by stores.
func (id ID) predecessor() ID {
	for i := len(id.u) - 1; i >= 0; i-- {
		id.u[i]--
		if id.u[i] != 0xff {
			break
		}
	}
	return id
}

// find is Find within a scope that was admitted.
func (s *Service) find(ctx context.Context, sc Scope, id ID, deleted bool) (Connector, error) {
	c, err := Find(ctx, s.o.Store.Tenant(sc.Tenant), id)
	if err == nil && (!sc.reaches(c.Organization) || !deleted && !c.DeletedAt.IsZero()) {
		err = notFound()
	}
	if err != nil {
		return Connector{}, err
	}
	return c, nil
}

// Get returns a living connector.
func (s *Service) Get(ctx context.Context, sc Scope, id ID) (Connector, error) {
	if err := s.admit(ctx, sc); err != nil {
		return Connector{}, err
	}
	return s.find(ctx, sc, id, false)
}

// Find is Get, for deleted connectors too.
func (s *Service) Find(ctx context.Context, sc Scope, id ID) (Connector, error) {
	if err := s.admit(ctx, sc); err != nil {
		return Connector{}, err
	}
	return s.find(ctx, sc, id, true)
}

// MaxPage bounds a page of List.
const MaxPage = 200

// ListFilter narrows Service.List. Zero fields do not narrow.
type ListFilter struct {
	Category     providers.Category
	Kind         providers.Kind         // or an alias
	Organization *tenant.OrganizationID // pointing to zero: tenant-wide only
	State        State
	Default      *bool
	Query        string // part of the name, external id, kind or id, in any case
	Deleted      bool   // deleted ones instead of living ones
	After        ID     // of the page before
	Limit        int    // at most MaxPage; 0: 50
}

// Page is a part of a list.
type Page struct {
	Items []Connector // by id; never nil
	Next  ID          // to go on after; zero: there are no more
}

// List lists the connectors within the scope.
// Errors: fault.InvalidArgument for a limit out of bounds.
func (s *Service) List(ctx context.Context, sc Scope, f ListFilter) (Page, error) {
	out := Page{Items: []Connector{}}
	limit, err := pageLimit(f.Limit)
	if err != nil {
		return out, err
	}
	f.Limit = limit
	if err := s.admit(ctx, sc); err != nil {
		return out, err
	}
	if p, ok := s.o.Kinds.Lookup(string(f.Kind)); ok {
		f.Kind = p.Schema().Kind
	}
	list, err := s.o.Store.Tenant(sc.Tenant).List(ctx, Filter{
		Category: f.Category, Kind: f.Kind, Organization: f.Organization, State: f.State, Default: f.Default, Query: f.Query,
		Deleted: f.Deleted, Bound: !sc.AllOrganizations, Organizations: sc.Organizations, After: f.After, Limit: f.Limit + 1,
	})
	if err != nil {
		return out, err
	}
	items, more := page(list, f.Limit)
	if out.Items = items; more {
		out.Next = items[f.Limit-1].ID
	}
	return out, nil
}

// History lists at most limit of a connector's revisions, newest first, those below
// the version before (0: all), deleted connectors included: what was there can be
// asked and brought back.
func (s *Service) History(ctx context.Context, sc Scope, id ID, before int64, limit int) ([]Revision, error) {
	if err := s.admit(ctx, sc); err != nil {
		return nil, err
	}
	if _, err := s.find(ctx, sc, id, true); err != nil {
		return nil, err
	}
	return s.o.Store.Tenant(sc.Tenant).History(ctx, id, before, limit)
}

// Written is the outcome of a write.
type Written struct {
	Connector Connector // as it is now
	Revision  int64     // of the tenant: what reads must have seen to see the write
	// Voided names the stored secrets that the write removed, because the place
	// that they are sent to changed.
	Voided []string
	// GrantRemoved: the account has to be connected again, because its consent was
	// given to another client.
	GrantRemoved bool
	// Revocation is what came of it where the grant was to be revoked.
	Revocation Revocation
	// GrantsBeside are other connectors within the scope with a grant of the same
	// OAuth2 client. Where the same account gave them, its issuer may have ended them
	// with the one that was revoked.
	GrantsBeside []ID
	// Replayed: the request had been carried out before, under the same RequestKey.
	Replayed bool
}

// written reads the outcome of a change of one connector. The change is
// committed: when it can't be read, planned is what was written.
func (s *Service) written(ctx context.Context, sc Scope, planned Connector, revision int64) Written {
	c, err := Find(ctx, s.o.Store.Tenant(sc.Tenant), planned.ID)
	if err != nil {
		planned.Version++
		planned.UpdatedAt = s.o.Now().UTC()
		c = planned
	}
	return Written{Connector: c, Revision: revision}
}

// unchanged is the outcome of a write that had nothing to do.
func (s *Service) unchanged(ctx context.Context, sc Scope, c Connector) (Written, error) {
	r, err := s.o.Store.Revisions(ctx, []tenant.ID{sc.Tenant})
	if err != nil {
		return Written{}, err
	}
	return Written{Connector: c, Revision: r.Revision[sc.Tenant]}, nil
}

// change runs one transaction of the scope's tenant.
func (s *Service) change(ctx context.Context, sc Scope, written time.Time, fn func(ctx context.Context, tx TenantTx) error) (int64, error) {
	revisions, err := s.o.Store.Change(ctx, Change{
		Tenants: []tenant.ID{sc.Tenant}, Actor: sc.Actor, Request: sc.Request, SecretsWritten: written,
	}, func(ctx context.Context, tx Tx) error { return fn(ctx, tx.Tenant(sc.Tenant)) })
	return revisions[sc.Tenant], err
}

// maxAttempts bounds how often a verb that names no version looks again because
// somebody else wrote.
const maxAttempts = 8

// attempt runs fn on the connector as it is, once for a caller who says which
// version is meant, else again while others get in between.
func (s *Service) attempt(ctx context.Context, sc Scope, id ID, version int64, deleted bool, fn func(c Connector) (Written, error)) (Written, error) {
	if err := s.admit(ctx, sc); err != nil {
		return Written{}, err
	}
	for n := 1; ; n++ {
		c, err := s.find(ctx, sc, id, deleted)
		if err != nil {
			return Written{}, err
		}
		if version != 0 && version != c.Version {
			return Written{}, stale()
		}
		w, err := fn(c)
		if err == nil || version != 0 || n == maxAttempts || fault.CodeOf(err) != fault.StaleVersion {
			return w, err
		}
	}
}

func stale() error { return fault.New(fault.StaleVersion, "the connector has changed meanwhile") }

// demand is for the verbs that overwrite: who doesn't say what they saw would
// undo what they didn't see.
func demand(version int64) error {
	if version == 0 {
		return fault.New(fault.PreconditionRequired, "say which version of the connector is meant (If-Match)")
	}
	return nil
}

// The audit's names for what the verbs do, beside those of the stores' writes.
const (
	actionCreate     = "connector.create"
	actionUpdate     = "connector.update"
	actionDelete     = "connector.delete"
	actionRestore    = "connector.restore"
	actionActivate   = "connector.activate"
	actionDeactivate = "connector.deactivate"
	actionDefault    = "connector.default"
	actionNoDefault  = "connector.clear_default"
	actionImport     = "connector.import_config"
	actionRollBack   = "connector.restore_revision"
	actionTest       = "connector.test"
	actionTestDraft  = "connector.test_draft"
	actionReveal     = "connector.secrets_read"
	actionRevoke     = "connector.grant_revoke"
	actionConsent    = "connector.oauth_start"
	actionConnect    = "connector.oauth_complete"

	actionOrganizationCreate = "organization.create"
	actionOrganizationUpdate = "organization.update"
)

const outcomeOK = "ok"

// refused leaves an audit entry when a rule of the lifecycle said no to somebody
// who was permitted to ask, and returns err. Bad input, lost races and outages are
// no decisions; auditing them would let a loop fill the table.
func (s *Service) refused(ctx context.Context, sc Scope, action, target string, fields []string, err error) error {
	switch fault.CodeOf(err) {
	case fault.Conflict, fault.SecretRequired, fault.NeedsReauthorization, fault.PermissionDenied:
	default:
		return err
	}
	// The caller's end must not hide what was tried.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	entry := AuditEntry{Action: action, Target: target, Outcome: string(fault.CodeOf(err)), Fields: fields}
	if e := s.o.Store.RecordAudit(ctx, sc.Tenant, sc.Actor, sc.Request, entry); e != nil {
		s.o.Log.Error("a refused action could not be audited", "tenant", sc.Tenant.String(), "action", action, "error", e)
	}
	return err
}
