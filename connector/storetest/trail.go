package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
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
	h, err := w.store.Tenant(w.a).History(w.ctx(), first.ID, 0, 0)
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
	h, err = w.store.Tenant(w.a).History(w.ctx(), connector.NewID(), 0, 0)
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
	before, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{Limit: 1000})
	w.ok(err, "audit")
	_, _ = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		_ = tx.Insert(ctx, draft(w.hq, providers.Storage))
		return errBoom
	})
	entries, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{Limit: 1000})
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
	two, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{Limit: 2})
	w.ok(err, "audit")
	if len(two) != 2 || two[0].Target != entries[0].Target || two[1].Action != entries[1].Action {
		w.Errorf("limited: %+v", two)
	}
	other, err := w.store.Tenant(w.b).Audit(w.ctx(), connector.AuditFilter{Limit: 1000})
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
	entries, err = w.store.Tenant(unknown).Audit(w.ctx(), connector.AuditFilter{Limit: 10})
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

// auditAlone: what changed nothing, or was refused, is on record all the same,
// and nobody is told to read anew.
func auditAlone(w *world) {
	c := w.insert(w.a, full(w))
	w.drain()
	rev := w.revision(w.a)
	reason := strings.Repeat("ü", connector.MaxNote)
	denied := connector.AuditEntry{
		At: moment, Actor: "somebody else", RequestID: "another", // the store's own
		Action: "connector.activate", Target: c.ID.String(), Outcome: "permission_denied", Fields: []string{"active"}, Note: reason,
	}
	w.ok(w.store.RecordAudit(w.ctx(), w.a, "iss|sub", "req-9", denied), "record")
	w.ok(w.store.RecordAudit(w.ctx(), w.a, "system", "", connector.AuditEntry{Action: "connector.test", Outcome: "ok"}), "record without more")
	if now := w.revision(w.a); now != rev {
		w.Errorf("the revision moved from %d to %d", rev, now)
	}
	if ms := w.drain(); len(ms) != 0 {
		w.Errorf("an entry leaves messages: %v", ms)
	}
	got, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{Limit: 2})
	w.ok(err, "audit")
	want := denied
	want.Actor, want.RequestID, want.At, want.ID = "iss|sub", "req-9", got[1].At, got[1].ID
	if !reflect.DeepEqual(got[1], want) || time.Since(got[1].At).Abs() > time.Minute || got[1].At.Location() != time.UTC {
		w.Errorf("got %+v, want %+v", got[1], want)
	}
	if e := got[0]; e.Actor != "system" || e.Note != "" || len(e.Fields) != 0 || e.Target != "" || e.Action != "connector.test" {
		w.Errorf("the bare entry is %+v", e)
	}

	// Beside other writes, in their transaction: both or none.
	note := connector.AuditEntry{Action: "connector.activate", Target: c.ID.String(), Outcome: "ok", Note: "the vendor is down"}
	both := func(after error) error {
		_, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
			if err := tx.Audit(ctx, note); err != nil {
				return err
			}
			return after
		})
		return err
	}
	if err := both(errBoom); !errors.Is(err, errBoom) {
		w.Errorf("got %v", err)
	}
	w.ok(both(nil), "audit in a change")
	all, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{Limit: 1000})
	w.ok(err, "audit")
	if e := all[0]; e.Note != note.Note || e.Actor != "test:actor" || e.RequestID != "req-1" || all[1].Action != "connector.test" {
		w.Errorf("after a change: %+v, %+v", e, all[1])
	}

	for name, e := range map[string]connector.AuditEntry{
		"no action":       {Outcome: "ok"},
		"no outcome":      {Action: "a"},
		"a long reason":   {Action: "a", Outcome: "ok", Note: reason + "x"},
		"NUL in a reason": {Action: "a", Outcome: "ok", Note: "\x00"},
		"bytes in fields": {Action: "a", Outcome: "ok", Fields: []string{"\xff"}},
	} {
		w.code(w.store.RecordAudit(w.ctx(), w.a, "test", "", e), fault.InvalidArgument, name)
		_, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error { return tx.Audit(ctx, e) })
		w.code(err, fault.InvalidArgument, name+", in a change")
	}
	w.code(w.store.RecordAudit(w.ctx(), w.a, "", "", note), fault.InvalidArgument, "no actor")
	w.code(w.store.RecordAudit(w.ctx(), unknown, "test", "", note), fault.NotFound, "a missing tenant")
	note.Note = ""
	w.code(w.store.RecordAudit(w.ctx(), unknown, "test", "", note), fault.NotFound, "a missing tenant, without a reason")
	for _, t := range []tenant.ID{w.b, unknown} {
		list, err := w.store.Tenant(t).Audit(w.ctx(), connector.AuditFilter{Limit: 1000})
		w.ok(err, "audit")
		for _, e := range list {
			if e.Note != "" || e.Target == c.ID.String() {
				w.Errorf("tenant %s has %+v", t, e)
			}
		}
	}
}
