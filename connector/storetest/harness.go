package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Harness tells the suite how to reach a store.
type Harness struct {
	// New returns an empty store with a control plane's rights. It is called
	// once per case, from parallel tests; it registers its own clean-up.
	New func(t testing.TB) connector.Store
	// Force runs UPDATE <table> SET <set> for one connector's rows in connectors,
	// connector_params or oauth_grants, past every check in Go, and classifies the
	// error as the store does.
	Force func(t testing.TB, s connector.Store, tn tenant.ID, id connector.ID, table, set string) error
}

// Run runs every case against stores of h.
func Run(t *testing.T, h Harness) {
	for _, c := range []struct {
		name string
		run  func(w *world)
	}{
		{"RoundTrip", roundTrip},
		{"RoundTripValues", roundTripValues},
		{"RoundTripUpdate", roundTripUpdate},
		{"Cleared", cleared},
		{"Organizations", organizations},
		{"Tenants", tenants},
		{"List", list},
		{"ListSearch", listSearch},
		{"ListOrganizations", listOrganizations},
		{"ListTenants", listTenants},
		{"Default", defaultPrecedence},
		{"DefaultStatuses", defaultStatuses},
		{"Defaults", defaults},
		{"ConnectorByID", byID},
		{"Grant", grant},
		{"GrantGiven", grantGiven},
		{"GrantTaken", grantTaken},
		{"GrantOfNothing", grantOfNothing},
		{"GrantSettled", grantSettled},
		{"GrantSettledAtOnce", grantSettledAtOnce},
		{"GrantDrift", grantDrift},
		{"GrantWalls", grantWalls},
		{"Lease", lease},
		{"LeaseExpires", leaseExpires},
		{"LeaseRace", leaseRace},
		{"Revisions", revisions},
		{"RevisionsBatch", revisionsBatch},
		{"ChangeTenants", changeTenants},
		{"ChangeOtherTenant", changeOtherTenant},
		{"ChangeSeveral", changeSeveral},
		{"ChangeRollsBack", changeRollsBack},
		{"SecretsTooOld", secretsTooOld},
		{"Versions", versions},
		{"Immutable", immutable},
		{"DefaultImpliesActive", defaultImpliesActive},
		{"DefaultUnique", defaultUnique},
		{"DefaultRace", defaultRace},
		{"DefaultSwitches", defaultSwitches},
		{"DefaultForced", defaultForced},
		{"Walls", walls},
		{"Unstorable", unstorable},
		{"Ownership", ownership},
		{"ClearDefault", clearDefault},
		{"ExternalID", externalID},
		{"DeleteAndRestore", deleteAndRestore},
		{"LockConnector", lockConnector},
		{"RecordTest", recordTest},
		{"RecordTestOrder", recordTestOrder},
		{"History", history},
		{"Audit", audit},
		{"AuditAlone", auditAlone},
		{"AuditFilter", auditFilter},
		{"SweptAudit", sweptAudit},
		{"PurgeDate", purgeDate},
		{"Requests", requests},
		{"RequestRace", requestRace},
		{"SweptRequests", sweptRequests},
		{"RequestsEnd", requestsEnd},
		{"PlatformRequests", platformRequests},
		{"Consents", consents},
		{"ConsentsEnd", consentsEnd},
		{"Purge", purge},
		{"PurgeRace", purgeRace},
		{"Pinned", pinned},
		{"OutboxContent", outboxContent},
		{"Relay", relay},
		{"RelayConcurrent", relayConcurrent},
		{"RelayAll", relayAll},
		{"Sent", sent},
		{"SweepOutbox", sweepOutbox},
		{"Committed", committed},
		{"IsolationOfReaders", isolationOfReaders},
		{"IsolationOfTx", isolationOfTx},
		{"IsolationOfGrants", isolationOfGrants},
		{"Cancelled", cancelled},
		{"Ping", ping},
		{"Closed", closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(newWorld(t, h))
		})
	}
}

// world is a store with two tenants, two organizations of equal name in each.
type world struct {
	*testing.T
	h     Harness
	store connector.Store
	a, b  tenant.ID
	hq    tenant.OrganizationID
	lab   tenant.OrganizationID
}

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

func newWorld(t *testing.T, h Harness) *world {
	t.Helper()
	w := &world{
		T: t, h: h, store: h.New(t), a: tenant.MustID("acme"), b: tenant.MustID("globex"),
		hq: tenant.MustOrganizationID("hq"), lab: tenant.MustOrganizationID("lab"),
	}
	_, err := w.store.Change(w.ctx(), connector.Change{
		Create: []connector.Tenant{
			{ID: w.b, Name: "Globex", Status: connector.StatusReady},
			{ID: w.a, Name: "Acme", Status: connector.StatusReady},
		},
		Actor: "test:setup",
	}, func(ctx context.Context, tx connector.Tx) error {
		for _, id := range []tenant.ID{w.a, w.b} {
			for _, org := range []tenant.OrganizationID{w.hq, w.lab} {
				if err := tx.Tenant(id).PutOrganization(ctx, connector.Organization{ID: org, Name: org.String(), Active: true}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	w.ok(err, "set up two tenants")
	return w
}

// ctx bounds every call: a store that hangs fails its case by name, not the run.
func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.Context(), 2*patience)
	w.Cleanup(cancel)
	return ctx
}

func (w *world) ok(err error, doing string) {
	w.Helper()
	if err != nil {
		w.Fatalf("%s: %v (code %s)", doing, err, fault.CodeOf(err))
	}
}

func (w *world) code(err error, want fault.Code, doing string) {
	w.Helper()
	if err == nil || fault.CodeOf(err) != want {
		w.Fatalf("%s: got %v (code %q), want code %s", doing, err, fault.CodeOf(err), want)
	}
}

// try runs one write in a transaction of tenant t.
func (w *world) try(t tenant.ID, fn func(ctx context.Context, tx connector.TenantTx) error) (int64, error) {
	revs, err := w.store.Change(w.ctx(), connector.Change{Tenants: []tenant.ID{t}, Actor: "test:actor", Request: "req-1"},
		func(ctx context.Context, tx connector.Tx) error { return fn(ctx, tx.Tenant(t)) })
	return revs[t], err
}

// change is try for what must succeed; it returns the new revision.
func (w *world) change(t tenant.ID, fn func(ctx context.Context, tx connector.TenantTx) error) int64 {
	w.Helper()
	rev, err := w.try(t, fn)
	w.ok(err, "change")
	return rev
}

func (w *world) insert(t tenant.ID, c connector.Connector) connector.Connector {
	w.Helper()
	w.change(t, func(ctx context.Context, tx connector.TenantTx) error { return tx.Insert(ctx, c) })
	return w.stored(t, c.ID)
}

func (w *world) tryUpdate(t tenant.ID, id connector.ID, version int64, fn func(c *connector.Connector)) error {
	_, err := w.try(t, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.Update(ctx, id, version, func(c *connector.Connector) error { fn(c); return nil })
	})
	return err
}

func (w *world) update(t tenant.ID, c connector.Connector, fn func(c *connector.Connector)) connector.Connector {
	w.Helper()
	w.ok(w.tryUpdate(t, c.ID, c.Version, fn), "update")
	return w.stored(t, c.ID)
}

// find reads a connector, deleted or not, by id.
func (w *world) find(t tenant.ID, id connector.ID) (connector.Connector, bool) {
	w.Helper()
	all, err := w.store.Tenant(t).List(w.ctx(), connector.Filter{IncludeDeleted: true})
	w.ok(err, "list")
	for _, c := range all {
		if c.ID == id {
			return c, true
		}
	}
	return connector.Connector{}, false
}

func (w *world) stored(t tenant.ID, id connector.ID) connector.Connector {
	w.Helper()
	c, ok := w.find(t, id)
	if !ok {
		w.Fatalf("connector %s is not in tenant %s", id, t)
	}
	return c
}

func (w *world) revision(t tenant.ID) int64 {
	w.Helper()
	r, err := w.store.Revisions(w.ctx(), []tenant.ID{t})
	w.ok(err, "revisions")
	return r.Revision[t]
}

func (w *world) answer(t tenant.ID, org tenant.OrganizationID, category providers.Category) connector.Snapshot {
	w.Helper()
	s, err := w.store.Tenant(t).Default(w.ctx(), org, category)
	w.ok(err, "default")
	return s
}

// until polls for what another goroutine must bring about.
func (w *world) until(what string, is func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("never happened: %s", what)
		}
	}
}

// draft is a connector with nothing but what is required.
func draft(org tenant.OrganizationID, category providers.Category) connector.Connector {
	return connector.Connector{
		ID: connector.NewID(), Name: "Draft", Category: category, Kind: "s3", SchemaVersion: 1,
		Organization: org, State: connector.StateUntested,
	}
}

func live(org tenant.OrganizationID, category providers.Category) connector.Connector {
	c := draft(org, category)
	c.Active, c.Default = true, true
	return c
}

var errBoom = errors.New("boom")

// wholeTenant is the zero organization, spelled out.
var wholeTenant tenant.OrganizationID
