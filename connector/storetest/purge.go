package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// dated deletes a tenant as of a date; resumed takes that back.
func (w *world) dated(t tenant.ID, at time.Time) error {
	_, err := w.try(t, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.UpdateTenant(ctx, func(t *connector.Tenant) error {
			t.Status, t.PurgeAt = connector.StatusSuspended, at
			return nil
		})
	})
	return err
}

func (w *world) resumed(t tenant.ID) error {
	_, err := w.try(t, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.UpdateTenant(ctx, func(t *connector.Tenant) error {
			t.Status, t.PurgeAt = connector.StatusReady, time.Time{}
			return nil
		})
	})
	return err
}

func (w *world) due(want ...tenant.ID) {
	w.Helper()
	got, err := w.store.DuePurges(w.ctx(), tenant.ID{}, 10)
	w.ok(err, "due")
	if !slices.Equal(got, want) {
		w.Errorf("due are %v, want %v", got, want)
	}
}

// purge is a tenant's end, step by step, beside another one that stays.
func purge(w *world) {
	for _, t := range []tenant.ID{w.a, w.b} {
		own := w.insert(t, full(w))
		w.update(t, own, func(c *connector.Connector) { c.Name = "once more" })
		w.insert(t, live(wholeTenant, providers.Email))
		gone := w.insert(t, draft(w.lab, providers.Email))
		w.update(t, gone, func(c *connector.Connector) { c.DeletedAt = moment })
		w.change(t, func(ctx context.Context, tx connector.TenantTx) error { return tx.PutGrant(ctx, own.ID, 3) })
		c := w.consent(own, t.String()[0], time.Hour)
		c.Tenant = t
		w.ok(w.store.PutConsent(w.ctx(), c), "put a consent")
	}
	stays, err := w.store.Tenant(w.b).List(w.ctx(), connector.Filter{IncludeDeleted: true})
	w.ok(err, "list")

	// What is not due can't begin, and what has not begun loses nothing.
	notYet := func(what string) {
		w.Helper()
		w.due()
		w.code(w.store.BeginPurge(w.ctx(), w.a), fault.Conflict, what)
		n, err := w.store.PurgeRecords(w.ctx(), w.a, 10)
		if w.ok(err, what); n != 0 {
			w.Errorf("%s: %d records are gone", what, n)
		}
		w.code(w.store.EndPurge(w.ctx(), w.a, "test:purge"), fault.Conflict, what)
	}
	notYet("a tenant that is ready")
	w.ok(w.dated(w.a, time.Now().Add(time.Hour)), "delete")
	notYet("before its date")
	w.ok(w.dated(w.a, moment), "delete")
	w.due(w.a)
	w.ok(w.resumed(w.a), "resume at the last moment")
	notYet("resumed")
	w.code(w.store.BeginPurge(w.ctx(), unknown), fault.NotFound, "an unknown tenant")
	w.code(w.store.EndPurge(w.ctx(), unknown, "test:purge"), fault.NotFound, "an unknown tenant")
	w.code(w.store.EndPurge(w.ctx(), w.a, ""), fault.InvalidArgument, "by nobody")

	// From the beginning on nothing changes but by the purge.
	w.ok(w.dated(w.a, moment), "delete")
	claim := w.claim(1, "under way")
	w.claims(claim, time.Hour, true, nil)
	w.ok(w.store.BeginPurge(w.ctx(), w.a), "begin")
	w.ok(w.store.BeginPurge(w.ctx(), w.a), "begin again")
	w.due(w.a)
	w.code(w.resumed(w.a), fault.Conflict, "resume too late")
	_, err = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error { return tx.Insert(ctx, draft(w.hq, "storage")) })
	w.code(err, fault.Conflict, "insert too late")
	w.code(w.store.EndPurge(w.ctx(), w.a, "test:purge"), fault.Conflict, "with records")
	var counts []int64
	for {
		n, err := w.store.PurgeRecords(w.ctx(), w.a, 2)
		w.ok(err, "purge records")
		if n == 0 {
			break
		}
		counts = append(counts, n)
	}
	if !slices.Equal(counts, []int64{2, 1, 2}) { // three connectors, two organizations
		w.Errorf("batches of %v", counts)
	}
	w.code(w.store.EndPurge(w.ctx(), w.a, "test:purge"), fault.Conflict, "before the sidecars know")
	w.drain()
	w.ok(w.store.EndPurge(w.ctx(), w.a, "test:purge"), "end")
	w.ok(w.store.EndPurge(w.ctx(), w.a, "test:purge"), "end again")
	w.due()

	_, err = w.store.Tenant(w.a).Get(w.ctx())
	w.code(err, fault.NotFound, "what is gone")
	w.code(w.store.BeginPurge(w.ctx(), w.a), fault.NotFound, "begin with what is gone")
	w.code(w.store.RecordAudit(w.ctx(), w.a, "test", "", connector.AuditEntry{Action: "a", Outcome: "ok"}), fault.NotFound, "an entry of what is gone")
	if s := w.answer(w.a, w.hq, providers.Storage); s.Tenant != connector.StatusMissing || s.Connector != nil {
		w.Errorf("what is gone answers %+v", s)
	}
	// Its id and its trail stay.
	_, err = w.store.Change(w.ctx(), connector.Change{Create: []connector.Tenant{{ID: w.a, Name: "Another", Status: connector.StatusReady}}, Actor: "test"},
		func(context.Context, connector.Tx) error { return nil })
	w.code(err, fault.AlreadyExists, "another tenant of the id")
	for t, want := range map[tenant.ID]bool{w.a: true, w.b: false, unknown: false} {
		if got, err := w.store.Purged(w.ctx(), t); err != nil || got != want {
			w.Errorf("%s was purged: %v, %v", t, got, err)
		}
	}
	trail, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{})
	w.ok(err, "audit")
	if len(trail) < 5 || trail[0].Action != "tenant.purge" || trail[0].Actor != "test:purge" || trail[0].Target != w.a.String() {
		w.Errorf("the trail ends with %+v", trail[0])
	}
	left, err := w.store.Tenant(w.b).List(w.ctx(), connector.Filter{IncludeDeleted: true})
	w.ok(err, "list")
	if len(left) != len(stays) {
		w.Fatalf("the other tenant has %d connectors, had %d", len(left), len(stays))
	}
	for i := range left {
		w.identical("the other tenant's", left[i], stays[i])
	}
	if history, err := w.store.Tenant(w.b).History(w.ctx(), left[0].ID, 0, 0); err != nil || len(history) == 0 {
		w.Errorf("the other tenant's history: %v, %v", history, err)
	}
	w.ok(w.store.AnswerConsent(w.ctx(), hash(w.b.String()[0]), hash(1), []byte("v"), []byte("c"), time.Hour), "the other tenant's consent")
	w.code(w.store.AnswerConsent(w.ctx(), hash(w.a.String()[0]), hash(2), []byte("v"), []byte("c"), time.Hour), fault.NotFound, "the consent of what is gone")
}

// purgeRace has somebody resume a tenant while its purge begins: one of them wins,
// and the tenant is what the winner says.
func purgeRace(w *world) {
	var ids []tenant.ID
	var create []connector.Tenant
	for i := range 20 {
		id := tenant.MustID(fmt.Sprintf("race_%02d", i))
		ids = append(ids, id)
		create = append(create, connector.Tenant{ID: id, Name: "Race", Status: connector.StatusReady})
	}
	_, err := w.store.Change(w.ctx(), connector.Change{Create: create, Actor: "test"}, func(context.Context, connector.Tx) error { return nil })
	w.ok(err, "create")
	for _, id := range ids {
		w.ok(w.dated(id, moment), "delete")
	}
	for _, id := range ids {
		var begin, resume error
		var wg sync.WaitGroup
		wg.Go(func() { begin = w.store.BeginPurge(w.ctx(), id) })
		wg.Go(func() { resume = w.resumed(id) })
		wg.Wait()
		t, err := w.store.Tenant(id).Get(w.ctx())
		w.ok(err, "get")
		switch begin {
		case nil:
			w.code(resume, fault.Conflict, "resume beside a purge")
			if t.Status != connector.StatusSuspended || t.PurgeAt.IsZero() {
				w.Errorf("a purged tenant is %+v", t)
			}
		default:
			w.code(begin, fault.Conflict, "begin beside a resumption")
			w.ok(resume, "resume")
			if t.Status != connector.StatusReady {
				w.Errorf("a resumed tenant is %+v", t)
			}
		}
	}
}

// platformRequests are those of no tenant, such as for a tenant that there is to be.
func platformRequests(w *world) {
	claim, other := w.claim(1, "one"), w.claim(1, "two")
	claim.Tenant, other.Tenant = tenant.ID{}, tenant.ID{}
	outcome := connector.RequestOutcome{Target: "fresh", Revision: 7}
	w.claims(claim, time.Hour, true, nil)
	w.claims(other, time.Hour, false, nil)
	w.claims(w.claim(1, "a tenant's"), time.Hour, true, nil) // which is another key
	fresh := tenant.MustID("fresh")
	_, err := w.store.Change(w.ctx(), connector.Change{Create: []connector.Tenant{{ID: fresh, Name: "Fresh", Status: connector.StatusReady}}, Actor: "test"},
		func(ctx context.Context, tx connector.Tx) error {
			if err := tx.Tenant(fresh).SettleRequest(ctx, claim, outcome, time.Hour); err != nil {
				return err
			}
			return tx.Tenant(fresh).PutOrganization(ctx, connector.Organization{ID: w.hq, Name: "HQ", Active: true})
		})
	w.ok(err, "create and settle")
	w.claims(other, time.Hour, false, &outcome)
	foreign := w.claim(2, "b's")
	foreign.Tenant = w.b
	w.claims(foreign, time.Hour, true, nil)
	_, err = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.SettleRequest(ctx, foreign, outcome, time.Hour)
	})
	w.code(err, fault.InvalidArgument, "another tenant's claim")
}

// requestsEnd: an outcome is answered for as long as it was to be kept.
func requestsEnd(w *world) {
	claim := w.claim(1, "one")
	w.claims(claim, time.Hour, true, nil)
	_, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.SettleRequest(ctx, claim, connector.RequestOutcome{Target: "it"}, time.Microsecond)
	})
	w.ok(err, "settle")
	next := w.claim(1, "two")
	next.Request[5] = 9
	w.until("the outcome ends", func() bool {
		claimed, done, err := w.store.ClaimRequest(w.ctx(), next, time.Hour)
		if fault.CodeOf(err) == fault.InvalidArgument { // what is kept is another request's
			return false
		}
		w.ok(err, "claim")
		return claimed && done == nil
	})
}

// consentsEnd: a consent under way is meant for the connector as it was.
func consentsEnd(w *world) {
	begun := func(state byte) connector.Connector {
		c := w.insert(w.a, draft(w.hq, "storage"))
		w.ok(w.store.PutConsent(w.ctx(), w.consent(c, state, time.Hour)), "put")
		w.ok(w.store.PutConsent(w.ctx(), w.consent(c, state+1, time.Hour)), "put")
		w.ok(w.store.AnswerConsent(w.ctx(), hash(state+1), hash(state+2), []byte("v"), []byte("c"), time.Hour), "answer")
		return c
	}
	ended := func(what string, c connector.Connector, state byte) {
		w.Helper()
		_, err := w.store.Consent(w.ctx(), hash(state))
		w.code(err, fault.NotFound, what)
		_, err = w.store.TakeConsent(w.ctx(), w.a, c.ID, hash(state+2), "https://id.example", "ada")
		w.code(err, fault.NotFound, what+", answered")
	}
	gone, forgotten, other := begun(10), begun(20), begun(30)
	gone = w.update(w.a, gone, func(c *connector.Connector) { c.DeletedAt = moment })
	ended("of a deleted connector", gone, 10)
	gone = w.update(w.a, gone, func(c *connector.Connector) { c.DeletedAt = time.Time{} })
	ended("of a connector that was deleted", gone, 10)
	rev := w.revision(w.a)
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error { return tx.DeleteGrant(ctx, forgotten.ID) })
	ended("of a connector whose grant goes", forgotten, 20)
	if w.revision(w.a) == rev {
		w.Error("the change did not take place")
	}
	_, err := w.store.TakeConsent(w.ctx(), w.a, other.ID, hash(32), "https://id.example", "ada")
	w.ok(err, "another connector's consent")
}
