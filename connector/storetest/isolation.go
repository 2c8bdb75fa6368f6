package storetest

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// complete fails when a contract has a method without a case, so that a new
// one cannot be forgotten.
func complete[Contract, Case any](w *world, cases map[string]Case, except ...string) {
	w.Helper()
	contract := reflect.TypeFor[Contract]()
	known := map[string]bool{}
	for _, name := range except {
		known[name] = true
	}
	for method := range contract.Methods() {
		if _, ok := cases[method.Name]; !ok && !known[method.Name] {
			w.Errorf("%s.%s has no case here", contract.Name(), method.Name)
		}
	}
}

// isolationOfReaders asks tenant B's handle for everything of tenant A.
func isolationOfReaders(w *world) {
	own := full(w)
	own.Name = "canary-of-a"
	w.insert(w.a, own)
	wide := w.insert(w.a, live(wholeTenant, providers.Storage))
	extra := tenant.MustOrganizationID("only_in_a")
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		if err := tx.PutOrganization(ctx, connector.Organization{ID: extra, Name: "canary"}); err != nil {
			return err
		}
		return tx.UpdateTenant(ctx, func(t *connector.Tenant) error { t.Name = "canary"; return nil })
	})
	revA, revB := w.revision(w.a), w.revision(w.b)
	if revA == revB {
		w.Fatal("the tenants have one revision; the test would see nothing")
	}
	empty := func(s connector.Snapshot, err error, org connector.OrganizationStatus) error {
		if err == nil && (s.Connector != nil || s.Inherited || s.Revision != revB || s.Organization != org) {
			err = errors.New("a foreign snapshot")
		}
		return err
	}
	reading := func(n int, err error) error {
		if err == nil && n != 0 {
			err = errors.New("foreign rows")
		}
		return err
	}
	cases := map[string]func(ctx context.Context, r connector.TenantReader) error{
		"Default": func(ctx context.Context, r connector.TenantReader) error {
			for org, status := range map[tenant.OrganizationID]connector.OrganizationStatus{
				w.hq: connector.OrganizationActive, extra: connector.OrganizationUnknown, wholeTenant: connector.OrganizationUnknown,
			} {
				s, err := r.Default(ctx, org, providers.Storage)
				if err = empty(s, err, status); err != nil {
					return err
				}
			}
			return nil
		},
		"Defaults": func(ctx context.Context, r connector.TenantReader) error {
			list, err := r.Defaults(ctx, w.hq)
			if err != nil || len(list) != 1 {
				return errors.Join(err, errors.New("not one snapshot"))
			}
			return empty(list[0], nil, connector.OrganizationActive)
		},
		"Connector": func(ctx context.Context, r connector.TenantReader) error {
			for _, id := range []connector.ID{own.ID, wide.ID} {
				s, err := r.Connector(ctx, w.hq, id)
				if err = empty(s, err, connector.OrganizationActive); err != nil {
					return err
				}
			}
			return nil
		},
		"Get": func(ctx context.Context, r connector.TenantReader) error {
			t, err := r.Get(ctx)
			if err == nil && (t.ID != w.b || t.Name != "Globex" || t.Revision != revB) {
				err = errors.New("a foreign tenant")
			}
			return err
		},
		"Organizations": func(ctx context.Context, r connector.TenantReader) error {
			list, err := r.Organizations(ctx, connector.OrganizationFilter{})
			return reading(len(list)-2, err)
		},
		"List": func(ctx context.Context, r connector.TenantReader) error {
			for _, f := range []connector.Filter{{}, {IncludeDeleted: true}, {ExternalID: own.ExternalID}, {Organization: &w.hq}} {
				list, err := r.List(ctx, f)
				if err = reading(len(list), err); err != nil {
					return err
				}
			}
			return nil
		},
		"History": func(ctx context.Context, r connector.TenantReader) error {
			list, err := r.History(ctx, own.ID, 0, 0)
			return reading(len(list), err)
		},
		"Audit": func(ctx context.Context, r connector.TenantReader) error {
			list, err := r.Audit(ctx, connector.AuditFilter{Limit: 1000})
			for _, e := range list {
				if e.Actor == "test:actor" || e.Target == own.ID.String() || e.Target == w.a.String() {
					return errors.New("a foreign entry")
				}
			}
			return err
		},
		"Pinned": func(ctx context.Context, r connector.TenantReader) error {
			is, err := r.Pinned(ctx, own.ID, own.Pin)
			if is {
				return errors.New("a foreign pin")
			}
			return err
		},
	}
	complete[connector.TenantReader](w, cases)
	for name, call := range cases {
		if err := call(w.ctx(), w.store.Tenant(w.b)); err != nil {
			w.Errorf("%s: %v", name, err)
		}
		// The same calls must see something with the right handle, or they prove nothing.
		if err := call(w.ctx(), w.store.Tenant(w.a)); err == nil {
			w.Errorf("%s sees nothing with tenant a's own handle either", name)
		}
	}
}

// txCalls is every writing method, aimed at connector c.
func txCalls(w *world, c connector.Connector) map[string]func(ctx context.Context, tx connector.TenantTx) error {
	claim := w.claim(1, "of a")
	_, _, err := w.store.ClaimRequest(w.ctx(), claim, time.Hour)
	w.ok(err, "claim")
	calls := map[string]func(ctx context.Context, tx connector.TenantTx) error{
		"Revision": func(context.Context, connector.TenantTx) error { return nil },
		"UpdateTenant": func(ctx context.Context, tx connector.TenantTx) error {
			return tx.UpdateTenant(ctx, func(t *connector.Tenant) error { t.Name = "taken over"; return nil })
		},
		"PutOrganization": func(ctx context.Context, tx connector.TenantTx) error {
			return tx.PutOrganization(ctx, connector.Organization{ID: w.hq, Name: "taken over"})
		},
		"Insert": func(ctx context.Context, tx connector.TenantTx) error {
			x := draft(w.hq, providers.Storage)
			x.ID, x.ExternalID = c.ID, c.ExternalID
			return tx.Insert(ctx, x)
		},
		"Update": func(ctx context.Context, tx connector.TenantTx) error {
			return tx.Update(ctx, c.ID, c.Version, func(c *connector.Connector) error { c.Name = "taken over"; return nil })
		},
		"ClearDefault": func(ctx context.Context, tx connector.TenantTx) error {
			id, err := tx.ClearDefault(ctx, c.Organization, c.Category)
			if err == nil && id == c.ID {
				w.Error("a foreign default was cleared")
			}
			return err
		},
		"LockConnector": func(ctx context.Context, tx connector.TenantTx) error { return tx.LockConnector(ctx, c.ID) },
		"Organization": func(ctx context.Context, tx connector.TenantTx) error {
			_, err := tx.Organization(ctx, w.hq)
			return err
		},
		"SettleRequest": func(ctx context.Context, tx connector.TenantTx) error {
			return tx.SettleRequest(ctx, claim, connector.RequestOutcome{}, time.Hour)
		},
		"Grant": func(ctx context.Context, tx connector.TenantTx) error {
			row, err := tx.Grant(ctx, c.ID)
			if err == nil && row.Status != connector.GrantNone {
				w.Error("a foreign grant was read")
			}
			return err
		},
		"PutGrant":    func(ctx context.Context, tx connector.TenantTx) error { return tx.PutGrant(ctx, c.ID, 99) },
		"DeleteGrant": func(ctx context.Context, tx connector.TenantTx) error { return tx.DeleteGrant(ctx, c.ID) },
		"Audit": func(ctx context.Context, tx connector.TenantTx) error {
			return tx.Audit(ctx, connector.AuditEntry{Action: "taken over", Target: c.ID.String(), Outcome: "ok"})
		},
	}
	complete[connector.TenantTx](w, calls)
	return calls
}

// isolationOfTx writes with tenant B's handle and tenant A's ids.
func isolationOfTx(w *world) {
	own := w.insert(w.a, full(w))
	w.give(w.a, own.ID, 7)
	grant := w.grant(w.a, own.ID)
	orgs, err := w.store.Tenant(w.a).Organizations(w.ctx(), connector.OrganizationFilter{})
	w.ok(err, "organizations")
	before, err := w.store.Tenant(w.a).Get(w.ctx())
	w.ok(err, "get")
	trail, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{Limit: 1000})
	w.ok(err, "audit")
	calls := txCalls(w, own)
	names := slices.Sorted(maps.Keys(calls))
	// Insert last: where ids may repeat across tenants, tenant B then owns one.
	names = append(slices.DeleteFunc(names, func(n string) bool { return n == "Insert" }), "Insert")
	for _, name := range names {
		_, err := w.try(w.b, calls[name])
		switch name {
		case "Update", "LockConnector", "PutGrant", "DeleteGrant":
			w.code(err, fault.NotFound, name)
		case "SettleRequest":
			w.code(err, fault.InvalidArgument, name)
		case "Insert": // whether an id is free in another tenant is the store's to say
		default:
			w.ok(err, name)
		}
		w.identical(name, w.stored(w.a, own.ID), own)
		if got := w.grant(w.a, own.ID); !sameGrant(got, grant) {
			w.Errorf("%s: tenant a's grant is %+v, was %+v", name, got, grant)
		}
		after, err := w.store.Tenant(w.a).Get(w.ctx())
		w.ok(err, "get")
		gotOrgs, err := w.store.Tenant(w.a).Organizations(w.ctx(), connector.OrganizationFilter{})
		w.ok(err, "organizations")
		if after != before || !reflect.DeepEqual(orgs, gotOrgs) {
			w.Errorf("%s: tenant a is %+v with %+v", name, after, gotOrgs)
		}
		got, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{Limit: 1000})
		w.ok(err, "audit")
		if !reflect.DeepEqual(got, trail) {
			w.Errorf("%s: tenant a's trail has %+v", name, got[0])
		}
	}
}

// storeCalls is every method of the contract that does I/O.
func storeCalls(w *world, id connector.ID) map[string]func(ctx context.Context) error {
	r := w.store.Tenant(w.a)
	calls := map[string]func(ctx context.Context) error{
		"Default":   func(ctx context.Context) error { _, err := r.Default(ctx, w.hq, providers.Storage); return err },
		"Defaults":  func(ctx context.Context) error { _, err := r.Defaults(ctx, w.hq); return err },
		"Connector": func(ctx context.Context) error { _, err := r.Connector(ctx, w.hq, id); return err },
		"Get":       func(ctx context.Context) error { _, err := r.Get(ctx); return err },
		"Organizations": func(ctx context.Context) error {
			_, err := r.Organizations(ctx, connector.OrganizationFilter{})
			return err
		},
		"List":      func(ctx context.Context) error { _, err := r.List(ctx, connector.Filter{}); return err },
		"History":   func(ctx context.Context) error { _, err := r.History(ctx, id, 0, 0); return err },
		"Audit":     func(ctx context.Context) error { _, err := r.Audit(ctx, connector.AuditFilter{Limit: 10}); return err },
		"Pinned":    func(ctx context.Context) error { _, err := r.Pinned(ctx, id, pinOne); return err },
		"Revisions": func(ctx context.Context) error { _, err := w.store.Revisions(ctx, []tenant.ID{w.a}); return err },
		"Tenants":   func(ctx context.Context) error { _, err := w.store.Tenants(ctx, connector.TenantFilter{}); return err },
		"ClaimRequest": func(ctx context.Context) error {
			_, _, err := w.store.ClaimRequest(ctx, w.claim(1, "x"), time.Hour)
			return err
		},
		"FreeRequest":   func(ctx context.Context) error { return w.store.FreeRequest(ctx, w.claim(1, "x")) },
		"SweepRequests": func(ctx context.Context) error { _, err := w.store.SweepRequests(ctx); return err },
		"SweepAudit":    func(ctx context.Context) error { _, err := w.store.SweepAudit(ctx, 400*24*time.Hour, 1); return err },
		"PutConsent": func(ctx context.Context) error {
			return w.store.PutConsent(ctx, w.consent(connector.Connector{ID: id}, 1, time.Hour))
		},
		"Consent": func(ctx context.Context) error { _, err := w.store.Consent(ctx, hash(1)); return err },
		"AnswerConsent": func(ctx context.Context) error {
			return w.store.AnswerConsent(ctx, hash(1), hash(2), nil, []byte("c"), time.Hour)
		},
		"TakeConsent": func(ctx context.Context) error {
			_, err := w.store.TakeConsent(ctx, w.a, id, hash(2), "i", "s")
			return err
		},
		"DuePurges":     func(ctx context.Context) error { _, err := w.store.DuePurges(ctx, tenant.ID{}, 1); return err },
		"BeginPurge":    func(ctx context.Context) error { return w.store.BeginPurge(ctx, w.a) },
		"PurgeRecords":  func(ctx context.Context) error { _, err := w.store.PurgeRecords(ctx, w.a, 1); return err },
		"EndPurge":      func(ctx context.Context) error { return w.store.EndPurge(ctx, w.a, "test") },
		"Purged":        func(ctx context.Context) error { _, err := w.store.Purged(ctx, w.a); return err },
		"SweepConsents": func(ctx context.Context) error { _, err := w.store.SweepConsents(ctx); return err },
		"Change": func(ctx context.Context) error {
			_, err := w.store.Change(ctx, connector.Change{Tenants: []tenant.ID{w.a}, Actor: "test"}, func(ctx context.Context, tx connector.Tx) error {
				return tx.Tenant(w.a).Insert(ctx, draft(w.hq, providers.Storage))
			})
			return err
		},
		"RecordTest": func(ctx context.Context) error {
			return w.store.RecordTest(ctx, w.a, id, 1, connector.StateConnected, []byte(`{}`))
		},
		"Relay": func(ctx context.Context) error {
			_, err := w.store.Relay(ctx, 10, func(context.Context, []connector.Message) error { return nil })
			return err
		},
		"Unsent":        func(ctx context.Context) error { _, err := w.store.Unsent(ctx, 0); return err },
		"LastSent":      func(ctx context.Context) error { _, err := w.store.LastSent(ctx); return err },
		"Sent":          func(ctx context.Context) error { _, err := w.store.Sent(ctx, time.Hour, 0, 10); return err },
		"SweepOutbox":   func(ctx context.Context) error { _, err := w.store.SweepOutbox(ctx, 0); return err },
		"Ping":          func(ctx context.Context) error { _, err := w.store.Ping(ctx); return err },
		"DriftedGrants": func(ctx context.Context) error { _, err := w.store.DriftedGrants(ctx, 10); return err },
		"RecordAudit": func(ctx context.Context) error {
			return w.store.RecordAudit(ctx, w.a, "test", "", connector.AuditEntry{Action: "a", Outcome: "ok"})
		},
	}
	maps.Copy(calls, grantCalls(w.store, w.a, id, 1))
	complete[connector.Store](w, calls, "Tenant", "Committed", "Close")
	complete[connector.TenantReader](w, calls)
	return calls
}

func cancelled(w *world) {
	own := w.insert(w.a, full(w))
	ended, cancel := context.WithCancel(w.Context())
	cancel()
	late, cancelLate := context.WithDeadline(w.Context(), time.Now().Add(-time.Second))
	defer cancelLate()
	for name, call := range storeCalls(w, own.ID) {
		w.code(call(ended), fault.DeadlineExceeded, name+", cancelled")
		w.code(call(late), fault.DeadlineExceeded, name+", past its deadline")
	}
	if all, err := w.store.Tenant(w.a).List(w.ctx(), connector.Filter{}); err != nil || len(all) != 1 {
		w.Errorf("a cancelled change left %d connectors, %v", len(all), err)
	}
	// Cancelled between its writes and its commit: nothing remains.
	ctx, stop := context.WithCancel(w.Context())
	defer stop()
	rev := w.revision(w.a)
	_, err := w.store.Change(ctx, connector.Change{Tenants: []tenant.ID{w.a}, Actor: "test"}, func(ctx context.Context, tx connector.Tx) error {
		if err := tx.Tenant(w.a).Insert(ctx, draft(w.hq, providers.Storage)); err != nil {
			return err
		}
		stop()
		return nil
	})
	w.code(err, fault.DeadlineExceeded, "a change that is cancelled before it commits")
	if got := w.revision(w.a); got != rev {
		w.Errorf("revision %d, was %d", got, rev)
	}
}
