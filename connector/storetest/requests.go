package storetest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

func (w *world) claim(key byte, token string) connector.Claim {
	c := connector.Claim{Tenant: w.a, Actor: "test:actor", Token: token}
	c.Key[0], c.Request[0] = key, 1
	return c
}

// claims claims and wants it so.
func (w *world) claims(c connector.Claim, d time.Duration, want bool, done *connector.RequestOutcome) {
	w.Helper()
	claimed, got, err := w.store.ClaimRequest(w.ctx(), c, d)
	w.ok(err, "claim")
	if claimed != want || (got == nil) != (done == nil) || got != nil && *got != *done {
		w.Errorf("claimed %v, done %+v; want %v, %+v", claimed, got, want, done)
	}
}

func (w *world) settles(c connector.Claim, o connector.RequestOutcome) error {
	_, err := w.try(c.Tenant, func(ctx context.Context, tx connector.TenantTx) error { return tx.SettleRequest(ctx, c, o, time.Hour) })
	return err
}

// requests is the life of a request that is carried out once.
func requests(w *world) {
	first, second := w.claim(1, "one"), w.claim(1, "two")
	outcome := connector.RequestOutcome{Target: "it", Revision: 7}
	w.claims(first, time.Hour, true, nil)
	w.claims(first, time.Hour, true, nil) // an answer that was lost
	w.claims(second, time.Hour, false, nil)
	w.code(w.settles(second, outcome), fault.Conflict, "settled by another one")
	w.ok(w.store.FreeRequest(w.ctx(), second), "free another one's")
	w.claims(second, time.Hour, false, nil)
	w.ok(w.settles(first, outcome), "settle")
	w.claims(second, time.Hour, false, &outcome)
	w.claims(first, time.Hour, false, &outcome)
	w.ok(w.store.FreeRequest(w.ctx(), first), "free what is done")
	w.claims(second, time.Hour, false, &outcome)
	w.code(w.settles(first, outcome), fault.Conflict, "settled twice")

	other := w.claim(1, "three")
	other.Request[5] = 9
	_, _, err := w.store.ClaimRequest(w.ctx(), other, time.Hour)
	w.code(err, fault.InvalidArgument, "something else under the key")

	// The same key of another tenant is another key.
	foreign := first
	foreign.Tenant = w.b
	w.claims(foreign, time.Hour, true, nil)
	w.ok(w.store.FreeRequest(w.ctx(), foreign), "free")
	w.claims(second, time.Hour, false, &outcome)

	// What is freed, and what has ended, is another one's.
	w.claims(w.claim(2, "one"), time.Hour, true, nil)
	w.ok(w.store.FreeRequest(w.ctx(), w.claim(2, "one")), "free")
	w.claims(w.claim(2, "two"), time.Hour, true, nil)
	slow, quick := w.claim(3, "slow"), w.claim(3, "quick")
	w.claims(slow, time.Microsecond, true, nil)
	quick.Request[5] = 9 // what has ended says nothing about what is asked next
	w.claims(quick, time.Hour, true, nil)
	w.code(w.settles(slow, outcome), fault.Conflict, "settled after it was taken over")
	w.ok(w.settles(quick, outcome), "settle")

	// A write that is not committed settles nothing.
	lost := w.claim(4, "lost")
	w.claims(lost, time.Hour, true, nil)
	_, err = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		if err := tx.SettleRequest(ctx, lost, outcome, time.Hour); err != nil {
			return err
		}
		return errBoom
	})
	if err == nil {
		w.Error("the write went through")
	}
	w.claims(w.claim(4, "next"), time.Hour, false, nil)

	none := w.claim(5, "none")
	none.Tenant = unknown
	_, _, err = w.store.ClaimRequest(w.ctx(), none, time.Hour)
	w.code(err, fault.NotFound, "no such tenant")
	for _, bad := range []connector.Claim{{}, {Tenant: w.a, Actor: "a"}, {Tenant: w.a, Token: "t"}} {
		_, _, err := w.store.ClaimRequest(w.ctx(), bad, time.Hour)
		w.code(err, fault.InvalidArgument, "an incomplete claim")
	}
}

// requestRace has many claim one request: one may carry it out.
func requestRace(w *world) {
	var won atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			claimed, done, err := w.store.ClaimRequest(w.ctx(), w.claim(1, string(rune('a'+i))), time.Hour)
			if err != nil || done != nil {
				w.Errorf("%+v, %v", done, err)
			}
			if claimed {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		w.Errorf("%d claims", won.Load())
	}
}

// sweptRequests removes what has ended and nothing else.
func sweptRequests(w *world) {
	ended, held := w.claim(1, "ended"), w.claim(2, "held")
	w.claims(ended, time.Microsecond, true, nil)
	w.claims(held, time.Hour, true, nil)
	end := time.Now().Add(patience)
	for n := int64(0); n == 0; {
		var err error
		n, err = w.store.SweepRequests(w.ctx())
		w.ok(err, "sweep")
		if time.Now().After(end) {
			w.Fatal("what has ended stays")
		}
	}
	w.claims(w.claim(2, "another"), time.Hour, false, nil)
}

func (w *world) consent(c connector.Connector, state byte, d time.Duration) connector.Consent {
	out := connector.Consent{Tenant: w.a, Connector: c.ID, Issuer: "https://id.example", Subject: "ada", RedirectURI: "https://p.example/cb",
		Verifier: []byte{1, 2, state}, ExpiresAt: time.Now().Add(d).UTC().Truncate(time.Microsecond)}
	out.State[0] = state
	return out
}

func hash(b byte) (out [32]byte) { out[0] = b; return out }

// consents is the life of a consent under way.
func consents(w *world) {
	c := w.insert(w.a, draft(w.hq, "storage"))
	one := w.consent(c, 1, time.Hour)
	w.ok(w.store.PutConsent(w.ctx(), one), "put")
	got, err := w.store.Consent(w.ctx(), one.State)
	w.ok(err, "read")
	if got.Tenant != w.a || got.Connector != c.ID || got.State != one.State || got.Issuer != one.Issuer || got.Subject != one.Subject ||
		got.RedirectURI != one.RedirectURI || !slices.Equal(got.Verifier, one.Verifier) || got.Code != nil || !got.ExpiresAt.Equal(one.ExpiresAt) {
		w.Errorf("came back as %+v", got)
	}
	take := func(t tenant.ID, id connector.ID, handle byte, issuer, subject string) (connector.Consent, error) {
		return w.store.TakeConsent(w.ctx(), t, id, hash(handle), issuer, subject)
	}
	_, err = take(w.a, c.ID, 9, one.Issuer, one.Subject)
	w.code(err, fault.NotFound, "taken before it came back")
	w.ok(w.store.AnswerConsent(w.ctx(), one.State, hash(9), []byte("v"), []byte("c"), time.Hour), "answer")
	w.code(w.store.AnswerConsent(w.ctx(), one.State, hash(8), []byte("v"), []byte("c"), time.Hour), fault.NotFound, "answered twice")
	_, err = w.store.Consent(w.ctx(), one.State)
	w.code(err, fault.NotFound, "read after it came back")
	other := w.insert(w.a, draft(w.lab, "storage"))
	for what, try := range map[string]func() (connector.Consent, error){
		"another tenant's":    func() (connector.Consent, error) { return take(w.b, c.ID, 9, one.Issuer, one.Subject) },
		"another connector's": func() (connector.Consent, error) { return take(w.a, other.ID, 9, one.Issuer, one.Subject) },
		"another issuer's":    func() (connector.Consent, error) { return take(w.a, c.ID, 9, "https://other.example", one.Subject) },
		"another user's":      func() (connector.Consent, error) { return take(w.a, c.ID, 9, one.Issuer, "eve") },
		"another handle":      func() (connector.Consent, error) { return take(w.a, c.ID, 8, one.Issuer, one.Subject) },
	} {
		_, err := try()
		w.code(err, fault.NotFound, what)
	}
	got, err = take(w.a, c.ID, 9, one.Issuer, one.Subject)
	w.ok(err, "take")
	if string(got.Verifier) != "v" || string(got.Code) != "c" || got.RedirectURI != one.RedirectURI {
		w.Errorf("taken as %+v", got)
	}
	_, err = take(w.a, c.ID, 9, one.Issuer, one.Subject)
	w.code(err, fault.NotFound, "taken twice")

	// Past its end nothing of it can be used, whatever came back.
	late := w.consent(c, 2, -time.Second)
	w.ok(w.store.PutConsent(w.ctx(), late), "put")
	_, err = w.store.Consent(w.ctx(), late.State)
	w.code(err, fault.NotFound, "ended")
	w.code(w.store.AnswerConsent(w.ctx(), late.State, hash(7), nil, []byte("c"), time.Hour), fault.NotFound, "answered after its end")
	brief := w.consent(c, 3, time.Hour)
	w.ok(w.store.PutConsent(w.ctx(), brief), "put")
	w.ok(w.store.AnswerConsent(w.ctx(), brief.State, hash(6), []byte("v"), []byte("c"), -time.Second), "answer")
	_, err = take(w.a, c.ID, 6, one.Issuer, one.Subject)
	w.code(err, fault.NotFound, "a handle that has ended")
	n, err := w.store.SweepConsents(w.ctx())
	w.ok(err, "sweep")
	if n != 1 {
		w.Errorf("%d swept, want the one past its end", n)
	}

	w.code(w.store.PutConsent(w.ctx(), w.consent(connector.Connector{ID: connector.NewID()}, 4, time.Hour)), fault.NotFound, "no such connector")
	foreign := w.consent(c, 5, time.Hour)
	foreign.Tenant = w.b
	w.code(w.store.PutConsent(w.ctx(), foreign), fault.NotFound, "another tenant's connector")
}

// auditFilter narrows the trail.
func auditFilter(w *world) {
	reader := w.store.Tenant(w.a)
	in, out, wide := w.insert(w.a, draft(w.hq, "storage")), w.insert(w.a, draft(w.lab, "storage")), w.insert(w.a, draft(tenant.OrganizationID{}, "email"))
	gone := w.insert(w.a, draft(w.hq, "email"))
	w.update(w.a, gone, func(c *connector.Connector) { c.DeletedAt = moment })
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.PutOrganization(ctx, connector.Organization{ID: w.hq, Name: "Renamed", Active: true})
	})
	w.ok(w.store.RecordAudit(w.ctx(), w.a, "eve", "req-eve", connector.AuditEntry{Action: "connector.secrets_read", Target: in.ID.String(), Outcome: "ok"}), "record")
	all, err := reader.Audit(w.ctx(), connector.AuditFilter{})
	w.ok(err, "audit")
	is := func(what string, f connector.AuditFilter, want func(e connector.AuditEntry) bool) {
		w.Helper()
		got, err := reader.Audit(w.ctx(), f)
		w.ok(err, what)
		var ids, wanted []int64
		for _, e := range got {
			ids = append(ids, e.ID)
		}
		for _, e := range all {
			if want(e) {
				wanted = append(wanted, e.ID)
			}
		}
		if !slices.Equal(ids, wanted) || len(wanted) == 0 || len(wanted) == len(all) {
			w.Errorf("%s: %v, want %v of %d", what, ids, wanted, len(all))
		}
	}
	is("actor", connector.AuditFilter{Actor: "eve"}, func(e connector.AuditEntry) bool { return e.Actor == "eve" })
	is("request", connector.AuditFilter{RequestID: "req-eve"}, func(e connector.AuditEntry) bool { return e.RequestID == "req-eve" })
	is("action", connector.AuditFilter{Action: "connector.create"}, func(e connector.AuditEntry) bool { return e.Action == "connector.create" })
	is("actions", connector.AuditFilter{Action: "connector.*"}, func(e connector.AuditEntry) bool { return len(e.Action) > 10 && e.Action[:10] == "connector." })
	is("target", connector.AuditFilter{Target: out.ID.String()}, func(e connector.AuditEntry) bool { return e.Target == out.ID.String() })
	is("below", connector.AuditFilter{Before: all[2].ID}, func(e connector.AuditEntry) bool { return e.ID < all[2].ID })
	is("from", connector.AuditFilter{From: all[1].At}, func(e connector.AuditEntry) bool { return !e.At.Before(all[1].At) })
	is("to", connector.AuditFilter{To: all[0].At}, func(e connector.AuditEntry) bool { return e.At.Before(all[0].At) })
	is("both", connector.AuditFilter{Actor: "test:actor", Target: in.ID.String()}, func(e connector.AuditEntry) bool { return e.Actor == "test:actor" && e.Target == in.ID.String() })
	is("bound", connector.AuditFilter{Bound: true, Organizations: []tenant.OrganizationID{w.hq}}, func(e connector.AuditEntry) bool {
		return e.Target == in.ID.String() || e.Target == gone.ID.String() || e.Target == w.hq.String()
	})
	for what, f := range map[string]connector.AuditFilter{
		"bound to nothing": {Bound: true}, "another target": {Bound: true, Organizations: []tenant.OrganizationID{w.hq}, Target: wide.ID.String()},
		"a wildcard that is none": {Action: "connector.%"}, "no such outcome": {Outcome: "denied"},
	} {
		if got, err := reader.Audit(w.ctx(), f); err != nil || len(got) != 0 {
			w.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	page, err := reader.Audit(w.ctx(), connector.AuditFilter{Limit: 2, Before: all[1].ID})
	w.ok(err, "page")
	if len(page) != 2 || page[0].ID != all[2].ID || page[1].ID != all[3].ID {
		w.Errorf("a page: %+v", page)
	}
}

// sweptAudit removes nothing that is young, whatever it is asked.
func sweptAudit(w *world) {
	_, err := w.store.SweepAudit(w.ctx(), 24*time.Hour, 100)
	w.code(err, fault.InvalidArgument, "a day")
	before, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{})
	w.ok(err, "audit")
	n, err := w.store.SweepAudit(w.ctx(), 400*24*time.Hour, 100)
	w.ok(err, "sweep")
	after, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{})
	w.ok(err, "audit")
	if n != 0 || len(after) != len(before) || len(before) == 0 {
		w.Errorf("%d swept, %d of %d left", n, len(after), len(before))
	}
}

// purgeDate is a deleted tenant's, which is suspended for as long as it has one.
func purgeDate(w *world) {
	set := func(fn func(t *connector.Tenant)) error {
		_, err := w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
			return tx.UpdateTenant(ctx, func(t *connector.Tenant) error { fn(t); return nil })
		})
		return err
	}
	w.code(set(func(t *connector.Tenant) { t.PurgeAt = moment }), fault.InvalidArgument, "not suspended")
	w.ok(set(func(t *connector.Tenant) { t.Status, t.PurgeAt = connector.StatusSuspended, moment }), "delete")
	w.code(set(func(t *connector.Tenant) { t.Status = connector.StatusReady }), fault.InvalidArgument, "resumed with a date")
	got, err := w.store.Tenant(w.a).Get(w.ctx())
	w.ok(err, "get")
	if !got.PurgeAt.Equal(moment) || got.Status != connector.StatusSuspended {
		w.Errorf("%+v", got)
	}
	w.ok(set(func(t *connector.Tenant) { t.Status, t.PurgeAt = connector.StatusReady, time.Time{} }), "resume")
	list, err := w.store.Tenants(w.ctx(), connector.TenantFilter{})
	w.ok(err, "tenants")
	for _, t := range list {
		if !t.PurgeAt.IsZero() || t.Status != connector.StatusReady {
			w.Errorf("%+v", t)
		}
	}
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		o, err := tx.Organization(ctx, w.hq)
		if err != nil || o.ID != w.hq || !o.Active {
			w.Errorf("%+v, %v", o, err)
		}
		_, err = tx.Organization(ctx, tenant.MustOrganizationID("nobody"))
		w.code(err, fault.NotFound, "no such organization")
		return connector.ErrNoChange
	})
}
