package storetest

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/providers"
)

func history(w *world) {
	first := w.insert(w.a, full(w))
	second := w.update(w.a, first, func(c *connector.Connector) {
		c.Pin = pinTwo
		c.Secrets["access_key_id"] = connector.SecretInfo{Version: 2, Writer: connector.WriterAPI, UpdatedAt: moment}
		c.Params["bucket"] = connector.Param{Value: "acme-next", Writer: connector.WriterAPI, UpdatedAt: moment}
	})
	rev := w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		_, err := tx.ClearDefault(ctx, w.hq, providers.Storage)
		return err
	})
	third := w.stored(w.a, first.ID)
	fourth := w.update(w.a, third, func(c *connector.Connector) { c.DeletedAt = moment })
	w.insert(w.a, draft(w.hq, providers.Storage))
	h, err := w.store.Tenant(w.a).History(w.ctx(), first.ID)
	w.ok(err, "history")
	if len(h) != 4 {
		w.Fatalf("%d revisions, want one per write: 4", len(h))
	}
	for i, want := range []connector.Connector{fourth, third, second, first} {
		w.same("revision "+itoa(int(want.Version)), h[i].Connector, want)
		if h[i].Version != want.Version || h[i].Connector.Version != want.Version || h[i].Actor != "test:actor" {
			w.Errorf("revision %d says version %d, actor %q", want.Version, h[i].Version, h[i].Actor)
		}
		if i > 0 && h[i].Revision >= h[i-1].Revision {
			w.Errorf("revision %d is of %d, its successor of %d", want.Version, h[i].Revision, h[i-1].Revision)
		}
		if h[i].At.Location() != time.UTC || time.Since(h[i].At).Abs() > time.Minute {
			w.Errorf("revision %d at %v", want.Version, h[i].At)
		}
	}
	if h[1].Revision != rev {
		w.Errorf("the tenant's revision is %d, want %d", h[1].Revision, rev)
	}
	if h[3].Connector.Secrets["access_key_id"].Version != 1 || h[2].Connector.Secrets["access_key_id"].Version != 2 || h[3].Connector.Pin != pinOne {
		w.Error("a revision lost its secret versions or its pin")
	}
	h, err = w.store.Tenant(w.a).History(w.ctx(), connector.NewID())
	if err != nil || len(h) != 0 {
		w.Errorf("history of an unknown connector: %v, %v", h, err)
	}
}

func audit(w *world) {
	c := w.insert(w.a, full(w))
	c = w.update(w.a, c, func(c *connector.Connector) {
		c.Name = "canary-name"
		c.Params["bucket"] = connector.Param{Value: "canary-value", Writer: connector.WriterAPI, UpdatedAt: moment}
	})
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.PutOrganization(ctx, connector.Organization{ID: w.hq, Name: "canary-organization"})
	})
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.UpdateTenant(ctx, func(t *connector.Tenant) error { t.Status = connector.StatusSuspended; return nil })
	})
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		_, err := tx.ClearDefault(ctx, w.hq, providers.Storage)
		return err
	})
	before, err := w.store.Tenant(w.a).Audit(w.ctx(), 1000)
	w.ok(err, "audit")
	_, _ = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		_ = tx.Insert(ctx, draft(w.hq, providers.Storage))
		return errBoom
	})
	entries, err := w.store.Tenant(w.a).Audit(w.ctx(), 1000)
	w.ok(err, "audit")
	if len(entries) != len(before) {
		w.Errorf("a rollback left %d entries", len(entries)-len(before))
	}
	mine := slices.DeleteFunc(slices.Clone(entries), func(e connector.AuditEntry) bool { return e.Actor != "test:actor" })
	if len(mine) != 5 {
		w.Fatalf("%d entries, want one per write: %+v", len(mine), mine)
	}
	for i, want := range []struct{ action, target string }{
		{"connector.", c.ID.String()}, {"tenant.", w.a.String()}, {"organization.", w.hq.String()},
		{"connector.update", c.ID.String()}, {"connector.create", c.ID.String()},
	} {
		e := mine[i]
		if !strings.HasPrefix(e.Action, want.action) || e.Target != want.target || e.Outcome != "ok" || e.RequestID != "req-1" {
			w.Errorf("entry %d is %+v, want %v", i, e, want)
		}
		if e.At.Location() != time.UTC || time.Since(e.At).Abs() > time.Minute || i > 0 && e.At.After(mine[i-1].At) {
			w.Errorf("entry %d at %v", i, e.At)
		}
	}
	if len(mine[3].Fields) == 0 || len(mine[1].Fields) == 0 {
		w.Errorf("an update names no field: %+v", mine)
	}
	if text, _ := json.Marshal(entries); strings.Contains(string(text), "canary") || strings.Contains(string(text), "acme-prod") {
		w.Errorf("an audit entry holds a value: %s", text)
	}
	two, err := w.store.Tenant(w.a).Audit(w.ctx(), 2)
	w.ok(err, "audit")
	if len(two) != 2 || two[0].Target != entries[0].Target || two[1].Action != entries[1].Action {
		w.Errorf("limited: %+v", two)
	}
	other, err := w.store.Tenant(w.b).Audit(w.ctx(), 1000)
	w.ok(err, "audit")
	for _, e := range other {
		if e.Actor == "test:actor" {
			w.Errorf("tenant b sees %+v", e)
		}
	}
	// A new tenant starts with the entry of its creation.
	_, err = w.store.Change(w.ctx(), connector.Change{Create: []connector.Tenant{{ID: unknown, Name: "New", Status: connector.StatusReady}}, Actor: "cli:import"},
		func(context.Context, connector.Tx) error { return nil })
	w.ok(err, "create")
	entries, err = w.store.Tenant(unknown).Audit(w.ctx(), 10)
	w.ok(err, "audit")
	if len(entries) != 1 || entries[0].Action != "tenant.create" || entries[0].Actor != "cli:import" || entries[0].RequestID != "" {
		w.Errorf("a creation leaves %+v", entries)
	}
}

func pinned(w *world) {
	is := func(id connector.ID, pin connector.Pin) bool {
		w.Helper()
		got, err := w.store.Tenant(w.a).Pinned(w.ctx(), id, pin)
		w.ok(err, "pinned")
		return got
	}
	c := w.insert(w.a, full(w))
	bystander := w.insert(w.a, draft(w.hq, providers.Storage))
	if !is(c.ID, pinOne) || is(c.ID, pinTwo) || is(bystander.ID, pinOne) || is(connector.NewID(), pinOne) {
		w.Error("a living connector's pin")
	}
	c = w.update(w.a, c, func(c *connector.Connector) { c.Pin = pinTwo })
	if !is(c.ID, pinOne) || !is(c.ID, pinTwo) || is(c.ID, pinOff) {
		w.Error("a revision's pin counts, a foreign one does not")
	}
	w.update(w.a, c, func(c *connector.Connector) { c.DeletedAt = moment })
	if !is(c.ID, pinOne) || !is(c.ID, pinTwo) {
		w.Error("a deleted connector's pins count")
	}
	if got, err := w.store.Tenant(w.b).Pinned(w.ctx(), c.ID, pinTwo); err != nil || got {
		w.Errorf("another tenant's: %v, %v", got, err)
	}
}
