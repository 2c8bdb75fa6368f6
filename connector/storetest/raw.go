package storetest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// walls writes past every check in Go: what the schema does not refuse, a
// forgotten check would let in.
func walls(w *world) {
	for _, org := range []tenant.OrganizationID{w.hq, wholeTenant} {
		c := w.insert(w.a, live(org, providers.Storage))
		for name, set := range map[string]string{
			"an inactive default":  "active = false",
			"another kind":         "kind = 'google_drive'",
			"another category":     "category = 'email'",
			"another organization": "organization_id = 'lab'",
			"another tenant":       "tenant_id = 'globex'",
			"an unknown state":     "state = 'fine'",
			"a version of none":    "version = 0",
			"a pin that is none":   "pin = 'secret'",
		} {
			w.code(w.force(c.ID, set), fault.InvalidArgument, name)
		}
		w.identical("refused", w.stored(w.a, c.ID), c)
		w.ok(w.force(c.ID, "kind = kind"), "the same kind")
	}
	c := full(w)
	c.Default = false
	c = w.insert(w.a, c)
	for name, set := range map[string]string{
		"a value beside each secret":       `value = '"x"'`,
		"a version beside each value":      "secret_version = 1",
		"neither a value nor a secret":     "value = NULL, secret_version = NULL",
		"what an import brought, a secret": `value = NULL, secret_version = 1, imported = '"x"'`,
		"a writer that is none":            "writer = 'nobody'",
		"a secret's version of none":       "value = NULL, imported = NULL, secret_version = 0",
	} {
		w.code(w.h.Force(w, w.store, w.a, c.ID, "connector_params", set), fault.InvalidArgument, name)
	}
	w.identical("refused", w.stored(w.a, c.ID), c)
}

// force is Harness.Force on a connector's own row.
func (w *world) force(id connector.ID, set string) error {
	return w.h.Force(w, w.store, w.a, id, "connectors", set)
}

// defaultForced is 50 concurrent switches without the check in Go: half clear
// the old default and set another in two raw statements, half just set one. A
// reader watches: there is never more than one.
func defaultForced(w *world) {
	for _, org := range []tenant.OrganizationID{w.hq, wholeTenant} {
		var ids []connector.ID
		for i := range 5 {
			c := draft(org, providers.Storage)
			c.Active, c.Default = true, i == 0
			ids = append(ids, w.insert(w.a, c).ID)
		}
		done := make(chan struct{})
		var reader, writers sync.WaitGroup
		readings := 0
		reader.Go(func() {
			for {
				all, err := w.store.Tenant(w.a).List(w.ctx(), connector.Filter{Organization: &org})
				n := 0
				for _, c := range all {
					if c.Default {
						n++
					}
				}
				if err != nil || n > 1 {
					w.Errorf("organization %q: %d defaults, %v", org, n, err)
					return
				}
				readings++
				select {
				case <-done:
					return
				default:
				}
			}
		})
		var mu sync.Mutex
		set, refused := 0, 0
		for i := range 50 {
			writers.Go(func() {
				if i%2 == 0 {
					for _, id := range ids {
						if err := w.force(id, "is_default = false"); err != nil {
							w.Errorf("clear: %v", err)
						}
					}
				}
				err := w.force(ids[i%len(ids)], "is_default = true")
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					set++
				case errors.Is(err, fault.Conflict):
					refused++
				default:
					w.Errorf("set: %v", err)
				}
			})
		}
		writers.Wait()
		close(done)
		reader.Wait()
		if readings == 0 || set == 0 || refused == 0 {
			w.Errorf("%d readings, %d set, %d refused: nothing was raced", readings, set, refused)
		}
	}
}

// unstorable: what one store can't keep, none takes, and nothing of it remains.
func unstorable(w *world) {
	rev := w.revision(w.a)
	for name, bad := range map[string]func(c *connector.Connector){
		"no id":                 func(c *connector.Connector) { c.ID = connector.ID{} },
		"NUL in a name":         func(c *connector.Connector) { c.Name = "a\x00b" },
		"bytes in a name":       func(c *connector.Connector) { c.Name = "\xff" },
		"NUL in an external id": func(c *connector.Connector) { c.ExternalID = "\x00" },
		"NUL in a param":        func(c *connector.Connector) { c.Params = param("a\x00b") },
		"bytes in a param":      func(c *connector.Connector) { c.Params = param("\xc3\x28") },
		"NUL deep in a param":   func(c *connector.Connector) { c.Params = param([]any{map[string]any{"k\x00": true}}) },
		"no value":              func(c *connector.Connector) { c.Params = param(nil) },
		"no value in a list":    func(c *connector.Connector) { c.Params = param([]any{nil}) },
		"an int":                func(c *connector.Connector) { c.Params = param(1) },
		"bytes":                 func(c *connector.Connector) { c.Params = param([]byte("x")) },
		"an imported int": func(c *connector.Connector) {
			c.Params = map[string]connector.Param{"p": {Value: "x", Imported: 1, Writer: connector.WriterAPI}}
		},
		"a bad report":       func(c *connector.Connector) { c.LastTest = []byte("{") },
		"an unknown state":   func(c *connector.Connector) { c.State = "fine" },
		"a category too far": func(c *connector.Connector) { c.Category = "a234567890123456789012345678901_3" },
		"a kind in capitals": func(c *connector.Connector) { c.Kind = "S3" },
		"secrets unpinned": func(c *connector.Connector) {
			c.Secrets = map[string]connector.SecretInfo{"s": {Version: 1, Writer: "api"}}
		},
		"a secret of version 0": func(c *connector.Connector) {
			c.Pin, c.Secrets = pinOne, map[string]connector.SecretInfo{"s": {Writer: connector.WriterAPI}}
		},
		"a param of no writer": func(c *connector.Connector) { c.Params = map[string]connector.Param{"p": {Value: "x"}} },
		"a value and a secret": func(c *connector.Connector) {
			c.Params = param("x")
			c.Pin, c.Secrets = pinOne, map[string]connector.SecretInfo{"p": {Version: 1, Writer: connector.WriterAPI}}
		},
	} {
		c := draft(w.hq, providers.Storage)
		bad(&c)
		_, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error { return tx.Insert(ctx, c) })
		w.code(err, fault.InvalidArgument, name)
	}
	for name, write := range map[string]func(ctx context.Context, tx connector.TenantTx) error{
		"an organization's name": func(ctx context.Context, tx connector.TenantTx) error {
			return tx.PutOrganization(ctx, connector.Organization{ID: w.hq, Name: "\x00", Active: true})
		},
		"a tenant's name": func(ctx context.Context, tx connector.TenantTx) error {
			return tx.UpdateTenant(ctx, func(t *connector.Tenant) error { t.Name = "\xff"; return nil })
		},
		"a tenant's status": func(ctx context.Context, tx connector.TenantTx) error {
			return tx.UpdateTenant(ctx, func(t *connector.Tenant) error { t.Status = "fine"; return nil })
		},
	} {
		_, err := w.try(w.a, write)
		w.code(err, fault.InvalidArgument, name)
	}
	if now := w.revision(w.a); now != rev {
		w.Errorf("the revision moved from %d to %d", rev, now)
	}
	all, err := w.store.Tenant(w.a).List(w.ctx(), connector.Filter{IncludeDeleted: true})
	w.ok(err, "list")
	if len(all) != 0 {
		w.Errorf("left behind: %v", all)
	}
	c := w.insert(w.a, draft(w.hq, providers.Storage))
	w.code(w.store.RecordTest(w.ctx(), w.a, c.ID, 1, connector.StateError, []byte("{")), fault.InvalidArgument, "a report that is no JSON")
	w.code(w.store.RecordTest(w.ctx(), w.a, c.ID, 1, "fine", []byte("{}")), fault.InvalidArgument, "a test's unknown state")
	w.identical("refused", w.stored(w.a, c.ID), c)
}

func param(v any) map[string]connector.Param {
	return map[string]connector.Param{"p": {Value: v, Writer: connector.WriterAPI}}
}

// ownership: what a caller passes in stays the caller's, and what a transaction
// function keeps can't reach what was stored.
func ownership(w *world) {
	list := []any{"one"}
	c := draft(w.hq, providers.Storage)
	c.Params = map[string]connector.Param{"list": {Value: list, Writer: connector.WriterAPI}}
	stored := w.insert(w.a, c)
	if !c.Params["list"].UpdatedAt.IsZero() || c.Version != 0 {
		w.Errorf("the caller's connector was written to: %+v", c)
	}
	var kept *connector.Connector
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.Update(ctx, c.ID, stored.Version, func(c *connector.Connector) error {
			kept = c
			c.Params["list"].Value.([]any)[0] = "two" // in place: the old state must not follow
			return nil
		})
	})
	kept.Params["list"] = connector.Param{Value: "three", Writer: connector.WriterAPI, UpdatedAt: time.Now()}
	got := w.stored(w.a, c.ID)
	if v, ok := got.Params["list"].Value.([]any); !ok || len(v) != 1 || v[0] != "two" {
		w.Errorf("stored %v", got.Params["list"].Value)
	}
	trail, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{Limit: 1})
	w.ok(err, "audit")
	if len(trail) != 1 || len(trail[0].Fields) != 1 || trail[0].Fields[0] != "params.list" {
		w.Errorf("an edit in place is not seen as a change: %+v", trail)
	}
}
