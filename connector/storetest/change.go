package storetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

func revisions(w *world) {
	before := w.revision(w.a)
	if gap := time.Since(time.UnixMilli(before)).Abs(); gap > time.Minute {
		w.Errorf("revision %d is %v away from the clock in ms", before, gap)
	}
	other := w.revision(w.b)
	// Faster than one a millisecond, so that both sides of greatest() are met.
	for range 20 {
		var inside int64
		got := w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
			inside = tx.Revision()
			return tx.Insert(ctx, draft(w.hq, providers.Storage))
		})
		if got <= before || got != inside || got != w.revision(w.a) {
			w.Fatalf("revision %d after %d, %d inside, %d read", got, before, inside, w.revision(w.a))
		}
		before = got
	}
	if now := w.revision(w.b); now != other {
		w.Errorf("the other tenant moved from %d to %d", other, now)
	}
	rev, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error { return connector.ErrNoChange })
	w.ok(err, "no change")
	if rev != before || w.revision(w.a) != before {
		w.Errorf("no change answers %d and leaves %d, want %d", rev, w.revision(w.a), before)
	}
	_, err = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error { return errBoom })
	if !errors.Is(err, errBoom) || w.revision(w.a) != before {
		w.Errorf("a failed change: %v, revision %d, want %d", err, w.revision(w.a), before)
	}
	// No change, although something was written before it was noticed.
	id := connector.NewID()
	_, err = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		c := draft(w.hq, providers.Storage)
		c.ID = id
		if err := tx.Insert(ctx, c); err != nil {
			return err
		}
		return errors.Join(connector.ErrNoChange)
	})
	w.ok(err, "no change, wrapped")
	if _, there := w.find(w.a, id); there || w.revision(w.a) != before {
		w.Error("no change left something behind")
	}
}

func revisionsBatch(w *world) {
	got, err := w.store.Revisions(w.ctx(), []tenant.ID{w.b, unknown, w.a})
	w.ok(err, "revisions")
	want := map[tenant.ID]int64{w.a: w.revision(w.a), w.b: w.revision(w.b)}
	if !maps.Equal(got.Revision, want) {
		w.Errorf("got %v, want %v", got.Revision, want)
	}
	if got.At.Location() != time.UTC || time.Since(got.At).Abs() > time.Minute {
		w.Errorf("read at %v", got.At)
	}
	got, err = w.store.Revisions(w.ctx(), nil)
	w.ok(err, "revisions of none")
	if len(got.Revision) != 0 || got.At.IsZero() {
		w.Errorf("of none: %v", got)
	}
	many := []tenant.ID{w.a}
	for i := range 5000 {
		many = append(many, tenant.MustID("t"+itoa(i)))
	}
	got, err = w.store.Revisions(w.ctx(), many)
	w.ok(err, "revisions of many")
	if len(got.Revision) != 1 || got.Revision[w.a] != want[w.a] {
		w.Errorf("of many: %v", got.Revision)
	}
}

func changeTenants(w *world) {
	nothing := func(context.Context, connector.Tx) error { return nil }
	create := func(id tenant.ID) connector.Change {
		return connector.Change{Create: []connector.Tenant{{ID: id, Name: "New", Status: connector.StatusReady}}, Actor: "test"}
	}
	_, err := w.store.Change(w.ctx(), connector.Change{Tenants: []tenant.ID{w.a, unknown}, Actor: "test"}, nothing)
	w.code(err, fault.NotFound, "change an unknown tenant")
	_, err = w.store.Change(w.ctx(), create(w.a), nothing)
	w.code(err, fault.AlreadyExists, "create an existing tenant")
	// Refused as a whole: the good one of two is not created.
	both := create(unknown)
	both.Create = append(both.Create, connector.Tenant{ID: w.b, Name: "Again", Status: connector.StatusReady})
	_, err = w.store.Change(w.ctx(), both, nothing)
	w.code(err, fault.AlreadyExists, "create two, one existing")
	if _, err := w.store.Tenant(unknown).Get(w.ctx()); fault.CodeOf(err) != fault.NotFound {
		w.Errorf("half created: %v", err)
	}
	_, err = w.store.Change(w.ctx(), connector.Change{Tenants: []tenant.ID{w.a}}, nothing)
	w.code(err, fault.InvalidArgument, "a change without actor")

	with := create(unknown)
	with.Tenants = []tenant.ID{w.b, w.a}
	revs, err := w.store.Change(w.ctx(), with, func(ctx context.Context, tx connector.Tx) error {
		for _, id := range []tenant.ID{unknown, w.a} {
			if err := tx.Tenant(id).Insert(ctx, draft(wholeTenant, providers.Storage)); err != nil {
				return err
			}
		}
		return nil
	})
	w.ok(err, "create beside existing ones")
	if len(revs) != 3 || revs[unknown] == 0 || revs[unknown] != w.revision(unknown) || revs[w.a] != w.revision(w.a) || revs[w.b] != w.revision(w.b) {
		w.Errorf("revisions %v", revs)
	}
	if gap := time.Since(time.UnixMilli(revs[unknown])).Abs(); gap > time.Minute {
		w.Errorf("a new tenant's revision %d is %v away from the clock in ms", revs[unknown], gap)
	}
	// A tenant of both statuses can be made.
	suspended := connector.Change{Create: []connector.Tenant{{
		ID: tenant.MustID("asleep"), ExternalID: "gateway.tenant.asleep", Name: "Asleep", Status: connector.StatusSuspended, NoUpdate: true,
	}}, Actor: "test"}
	_, err = w.store.Change(w.ctx(), suspended, nothing)
	w.ok(err, "create a suspended tenant")
	got, err := w.store.Tenant(tenant.MustID("asleep")).Get(w.ctx())
	w.ok(err, "get")
	want := suspended.Create[0]
	want.Revision, want.CreatedAt, want.UpdatedAt = got.Revision, got.CreatedAt, got.UpdatedAt
	if got != want {
		w.Errorf("got %v, want %v", got, want)
	}
}

// changeSeveral runs transactions over the same tenants, named in different
// orders: without one lock order they would deadlock, and a torn one would
// leave the tenants with different numbers of connectors.
func changeSeveral(w *world) {
	all := []tenant.ID{w.a, w.b}
	for _, s := range []string{"c", "d"} {
		id := tenant.MustID(s)
		_, err := w.store.Change(w.ctx(), connector.Change{Create: []connector.Tenant{{ID: id, Name: s, Status: connector.StatusReady}}, Actor: "test"},
			func(context.Context, connector.Tx) error { return nil })
		w.ok(err, "create")
		all = append(all, id)
	}
	const writers, failing = 16, 4
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			order := slices.Clone(all)
			for range i % len(all) {
				order = append(order[1:], order[0])
			}
			if i%2 == 1 {
				slices.Reverse(order)
			}
			_, err := w.store.Change(w.ctx(), connector.Change{Tenants: order, Actor: "test"}, func(ctx context.Context, tx connector.Tx) error {
				for n, id := range order {
					if i%failing == 0 && n == len(order)-1 {
						return errBoom
					}
					if err := tx.Tenant(id).Insert(ctx, draft(wholeTenant, providers.Storage)); err != nil {
						return err
					}
				}
				return nil
			})
			if i%failing == 0 != errors.Is(err, errBoom) {
				w.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for _, id := range all {
		got, err := w.store.Tenant(id).List(w.ctx(), connector.Filter{})
		w.ok(err, "list")
		if want := writers - writers/failing; len(got) != want {
			w.Errorf("tenant %s has %d connectors, want %d", id, len(got), want)
		}
	}
}

func changeRollsBack(w *world) {
	own := w.insert(w.a, full(w))
	w.drain()
	rev := w.revision(w.a)
	_, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		if _, err := tx.ClearDefault(ctx, w.hq, providers.Storage); err != nil {
			return err
		}
		if err := tx.Insert(ctx, live(w.hq, providers.Storage)); err != nil {
			return err
		}
		if err := tx.PutOrganization(ctx, connector.Organization{ID: unknownOrg, Name: "x", Active: true}); err != nil {
			return err
		}
		if err := tx.UpdateTenant(ctx, func(t *connector.Tenant) error { t.Name = "y"; return nil }); err != nil {
			return err
		}
		return errBoom
	})
	if !errors.Is(err, errBoom) {
		w.Fatalf("got %v, want the function's own error", err)
	}
	w.identical("after a rollback", w.stored(w.a, own.ID), own)
	all, _ := w.store.Tenant(w.a).List(w.ctx(), connector.Filter{})
	orgs, _ := w.store.Tenant(w.a).Organizations(w.ctx(), connector.OrganizationFilter{})
	got, err := w.store.Tenant(w.a).Get(w.ctx())
	w.ok(err, "get")
	h, err := w.store.Tenant(w.a).History(w.ctx(), own.ID, 0, 0)
	w.ok(err, "history")
	if len(all) != 1 || len(orgs) != 2 || got.Name != "Acme" || got.Revision != rev || len(h) != 1 {
		w.Errorf("%d connectors, %d organizations, name %q, revision %d (want %d), %d revisions", len(all), len(orgs), got.Name, got.Revision, rev, len(h))
	}
	if ms := w.drain(); len(ms) != 0 {
		w.Errorf("a rollback leaves messages: %v", ms)
	}
	// The same for an error out of an update's own function.
	_, err = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.Update(ctx, own.ID, own.Version, func(c *connector.Connector) error { c.Name = "half"; return errBoom })
	})
	if !errors.Is(err, errBoom) {
		w.Errorf("got %v, want the function's own error", err)
	}
	w.identical("after a failed update", w.stored(w.a, own.ID), own)
}

func secretsTooOld(w *world) {
	c := live(w.hq, providers.Storage)
	rev := w.revision(w.a)
	insert := func(age time.Duration) error {
		_, err := w.store.Change(w.ctx(), connector.Change{Tenants: []tenant.ID{w.a}, Actor: "test", SecretsWritten: time.Now().Add(-age)},
			func(ctx context.Context, tx connector.Tx) error { return tx.Tenant(w.a).Insert(ctx, c) })
		return err
	}
	w.code(insert(connector.MaxSecretAge+time.Second), fault.DeadlineExceeded, "a commit long after its secrets")
	if _, there := w.find(w.a, c.ID); there || w.revision(w.a) != rev {
		w.Error("something was committed")
	}
	w.ok(insert(connector.MaxSecretAge-time.Minute), "a commit in time")
}

// changeOtherTenant: a handle for a tenant that the change did not name is dead.
func changeOtherTenant(w *world) {
	own := w.insert(w.b, live(w.hq, providers.Storage))
	for name, call := range txCalls(w, own) {
		_, err := w.store.Change(w.ctx(), connector.Change{Tenants: []tenant.ID{w.a}, Actor: "test"}, func(ctx context.Context, tx connector.Tx) error {
			if name == "Revision" {
				if r := tx.Tenant(w.b).Revision(); r != 0 {
					w.Errorf("revision %d of a tenant that is not locked", r)
				}
				return errBoom
			}
			if err := call(ctx, tx.Tenant(w.b)); err == nil {
				w.Errorf("%s works on a tenant that the change does not name", name)
			}
			return errBoom
		})
		if !errors.Is(err, errBoom) {
			w.Errorf("%s: %v", name, err)
		}
	}
	w.identical("untouched", w.stored(w.b, own.ID), own)
}
