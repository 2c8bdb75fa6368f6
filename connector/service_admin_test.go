package connector_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

const cameBack = "https://p.example/api/connectors/oauth/callback/lab"

// user is amy's scope, as her token makes it.
func (w *world) user(subject string) connector.Scope {
	sc := w.sc
	sc.Issuer, sc.Subject, sc.Actor = "https://id.example", subject, "https://id.example "+subject
	return sc
}

// begun starts a consent and returns its state.
func (w *world) begun(sc connector.Scope, id connector.ID) string {
	w.Helper()
	s, err := w.svc.StartConsent(w.ctx(), sc, id, cameBack)
	w.ok(err)
	_, state, ok := strings.Cut(s.URL, "&state=")
	if !ok || s.RedirectURI != cameBack || !strings.Contains(s.URL, "client_id=client-1") || time.Until(s.ExpiresAt) > 10*time.Minute {
		w.Fatalf("%+v", s)
	}
	return state
}

// A consent belongs to the user who began it and to one connector, and every part of
// it is good for one use.
func TestConsent(t *testing.T) {
	both(t, func(w *world) {
		amy, eve := w.user("amy"), w.user("eve")
		c, other := w.oauth("mail"), w.oauth("other")
		w.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.DeleteGrant(ctx, c.ID) })
		w.mint.version = 4
		state := w.begun(amy, c.ID)
		_, err := w.svc.AnswerConsent(w.ctx(), state, cameBack+"x", hidden("code"))
		w.code(err, fault.NotFound, "back to another address")
		_, err = w.svc.AnswerConsent(w.ctx(), state+"x", cameBack, hidden("code"))
		w.code(err, fault.NotFound, "another state")
		handle, err := w.svc.AnswerConsent(w.ctx(), state, cameBack, hidden("code"))
		w.ok(err)
		_, err = w.svc.AnswerConsent(w.ctx(), state, cameBack, hidden("code"))
		w.code(err, fault.NotFound, "the state again")
		for what, try := range map[string]func() error{
			"another user's": func() error { _, _, err := w.svc.CompleteConsent(w.ctx(), eve, c.ID, handle); return err },
			"another issuer's": func() error {
				sc := amy
				sc.Issuer = "https://other.example"
				_, _, err := w.svc.CompleteConsent(w.ctx(), sc, c.ID, handle)
				return err
			},
			"another connector's": func() error { _, _, err := w.svc.CompleteConsent(w.ctx(), amy, other.ID, handle); return err },
			"the state for it":    func() error { _, _, err := w.svc.CompleteConsent(w.ctx(), amy, c.ID, state); return err },
		} {
			w.violations(try(), what, "/handle unknown")
		}
		if w.grant(c.ID) != connector.GrantNone || len(w.mint.codes) != 0 {
			w.Fatal("somebody else's try redeemed the code")
		}
		out, test, err := w.svc.CompleteConsent(w.ctx(), amy, c.ID, handle)
		w.ok(err)
		if w.grant(c.ID) != connector.GrantActive || test == nil || !test.OK || out.Connector.State != connector.StateConnected || out.Revision == 0 {
			w.Errorf("%+v, test %+v", out, test)
		}
		if len(w.mint.codes) != 1 || w.mint.codes[0] != hidden("code").Reveal()+" "+cameBack {
			w.Errorf("redeemed %d codes", len(w.mint.codes))
		}
		_, _, err = w.svc.CompleteConsent(w.ctx(), amy, c.ID, handle)
		w.violations(err, "the handle again", "/handle unknown")
		if e := w.audited("connector.oauth_complete", c.ID); len(e) != 1 || e[0].Outcome != "ok" {
			w.Errorf("audited %+v", e)
		}
		if e := w.audited("connector.oauth_start", c.ID); len(e) != 1 {
			w.Errorf("audited %+v", e)
		}
	})
}

func TestConsentThatIsRefused(t *testing.T) {
	both(t, func(w *world) {
		amy := w.user("amy")
		c := w.oauth("mail")
		state := w.begun(amy, c.ID)
		w.ok(w.svc.RefuseConsent(w.ctx(), state, cameBack))
		w.ok(w.svc.RefuseConsent(w.ctx(), state, cameBack))
		_, err := w.svc.AnswerConsent(w.ctx(), state, cameBack, hidden("code"))
		w.code(err, fault.NotFound, "after it was refused")

		for what, row := range map[string]struct {
			says error
			want fault.Code
		}{
			"a code that is used": {&providers.TokenError{Code: providers.CodeConsentMissing, Err: fault.New(fault.NeedsReauthorization, "consent again")}, fault.NeedsReauthorization},
			"a wrong client":      {&providers.TokenError{Code: providers.CodeAuthFailed, Err: fault.New(fault.InvalidArgument, "the issuer refuses the client")}, fault.Conflict},
			"an issuer away":      {&providers.TokenError{Code: providers.CodeTokenEndpointDown, Err: fault.New(fault.Unavailable, "away")}, fault.Unavailable},
			"no place to keep it": {fault.New(fault.Unavailable, "not stored"), fault.Unavailable},
		} {
			before := w.get(c.ID)
			handle, err := w.svc.AnswerConsent(w.ctx(), w.begun(amy, c.ID), cameBack, hidden("code"))
			w.ok(err)
			w.mint.mu.Lock()
			w.mint.refuses = row.says
			w.mint.mu.Unlock()
			_, _, err = w.svc.CompleteConsent(w.ctx(), amy, c.ID, handle)
			w.code(err, row.want, what)
			if after := w.get(c.ID); after.Version != before.Version || after.State != before.State {
				w.Errorf("%s changed the connector", what)
			}
		}
		plain := w.create("plain", hq)
		_, err = w.svc.StartConsent(w.ctx(), amy, plain.ID, cameBack)
		w.code(err, fault.Conflict, "a kind that needs none")
		bound := amy
		bound.AllOrganizations, bound.Organizations = false, []tenant.OrganizationID{labs}
		_, err = w.svc.StartConsent(w.ctx(), bound, c.ID, cameBack)
		w.code(err, fault.NotFound, "out of reach")
		_, _, err = w.svc.CompleteConsent(w.ctx(), bound, c.ID, "handle")
		w.code(err, fault.NotFound, "out of reach")
	})
}

// A consent under way ends with what it was begun for: whoever points the connector
// at another client must not collect the code that a user fetched for the old one.
func TestConsentEndsWithItsClient(t *testing.T) {
	both(t, func(w *world) {
		amy := w.user("amy")
		c := w.oauth("mail")
		w.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.DeleteGrant(ctx, c.ID) })
		ready := func() string {
			w.Helper()
			handle, err := w.svc.AnswerConsent(w.ctx(), w.begun(amy, c.ID), cameBack, hidden("code"))
			w.ok(err)
			return handle
		}
		ended := func(what, handle string) {
			w.Helper()
			_, _, err := w.svc.CompleteConsent(w.ctx(), amy, c.ID, handle)
			w.violations(err, what, "/handle unknown")
			if len(w.mint.codes) != 0 {
				w.Fatalf("%s: the code was redeemed", what)
			}
		}
		handle, state := ready(), w.begun(amy, c.ID)
		c = w.get(c.ID)
		_, err := w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: map[string]any{"client_id": "client-2"}})
		w.ok(err)
		ended("another client", handle)
		_, err = w.svc.AnswerConsent(w.ctx(), state, cameBack, hidden("code"))
		w.code(err, fault.NotFound, "back for another client")
		_, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version+1, connector.Edit{Params: map[string]any{"client_id": "client-1"}})
		w.ok(err)
		handle = ready()
		deleted, err := w.svc.Delete(w.ctx(), w.sc, c.ID, connector.DeleteOptions{Version: w.get(c.ID).Version})
		w.ok(err)
		_, err = w.svc.Restore(w.ctx(), w.sc, c.ID, deleted.Connector.Version)
		w.ok(err)
		ended("deleted and brought back", handle)
	})
}

// Whatever an explanation leaves out, the connector that answers is in it.
func TestExplainIsBounded(t *testing.T) {
	both(t, func(w *world) {
		var last connector.ID
		w.change(func(ctx context.Context, tx connector.TenantTx) error {
			for n := range 205 {
				c := connector.Connector{ID: connector.NewID(), Name: fmt.Sprint("n", n), Category: providers.Storage, Kind: "plain", SchemaVersion: 1,
					Organization: hq, State: connector.StateConnected, Active: n == 204, Default: n == 204}
				last = c.ID
				if err := tx.Insert(ctx, c); err != nil {
					return err
				}
			}
			return nil
		})
		got := must(w.svc.Explain(w.ctx(), w.sc, hq, providers.Storage))(w)
		answers := 0
		for _, c := range got.Candidates {
			if c.Reason == connector.ReasonAnswers && c.ID == last {
				answers++
			}
		}
		if got.Answer != last || len(got.Candidates) != 201 || answers != 1 {
			w.Errorf("%s answers, %d candidates, %d of which do", got.Answer, len(got.Candidates), answers)
		}
	})
}

func once(key string, digest byte) *connector.RequestKey {
	return &connector.RequestKey{Key: key, Digest: [32]byte{digest}}
}

// A request under a key is carried out once, whoever repeats it and when.
func TestOnce(t *testing.T) {
	both(t, func(w *world) {
		draft := func(name string, o *connector.RequestKey) connector.Draft {
			d := w.draft(name, hq)
			d.Once = o
			return d
		}
		first, err := w.svc.Create(w.ctx(), w.sc, draft("a", once("key-1", 1)))
		w.ok(err)
		again, err := w.svc.Create(w.ctx(), w.sc, draft("a", once("key-1", 1)))
		w.ok(err)
		if first.Replayed || !again.Replayed || again.Connector.ID != first.Connector.ID || again.Revision != first.Revision {
			w.Errorf("%+v, then %+v", first, again)
		}
		_, err = w.svc.Create(w.ctx(), w.sc, draft("b", once("key-1", 2)))
		w.violations(err, "another request", "/header/Idempotency-Key reused")
		other := w.sc
		other.Actor = "somebody else"
		theirs, err := w.svc.Create(w.ctx(), other, draft("a", once("key-1", 1)))
		w.ok(err)
		if theirs.Replayed || theirs.Connector.ID == first.Connector.ID {
			w.Error("another actor's key is the same key")
		}
		// What failed frees its key.
		_, err = w.svc.Create(w.ctx(), w.sc, connector.Draft{Name: "c", Kind: "plain", Params: map[string]any{"nonsense": 1}, Once: once("key-2", 3)})
		w.code(err, fault.InvalidArgument, "nonsense")
		freed, err := w.svc.Create(w.ctx(), w.sc, draft("c", once("key-2", 4)))
		w.ok(err)
		if freed.Replayed {
			w.Error("a request that failed is answered as one that was carried out")
		}
		// Beyond the scope and deleted, what was made is not shown again.
		bound := w.sc
		bound.AllOrganizations, bound.Organizations = false, []tenant.OrganizationID{labs}
		_, err = w.svc.Create(w.ctx(), bound, draft("a", once("key-1", 1)))
		w.code(err, fault.NotFound, "out of reach")
		_, err = w.svc.Delete(w.ctx(), w.sc, first.Connector.ID, connector.DeleteOptions{Version: first.Connector.Version})
		w.ok(err)
		_, err = w.svc.Create(w.ctx(), w.sc, draft("a", once("key-1", 1)))
		w.code(err, fault.Conflict, "deleted since")

		copied, err := w.svc.Clone(w.ctx(), w.sc, freed.Connector.ID, connector.CloneOptions{Name: "copy", Organization: labs, Once: once("key-3", 5)})
		w.ok(err)
		copiedAgain, err := w.svc.Clone(w.ctx(), w.sc, freed.Connector.ID, connector.CloneOptions{Name: "copy", Organization: labs, Once: once("key-3", 5)})
		w.ok(err)
		if !copiedAgain.Replayed || copiedAgain.Connector.ID != copied.Connector.ID {
			w.Errorf("%+v", copiedAgain)
		}

		// Many at once make one.
		var made, replayed, busy atomic.Int64
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				out, err := w.svc.Create(w.ctx(), w.sc, draft("race", once("key-4", 6)))
				switch {
				case fault.CodeOf(err) == fault.Conflict:
					busy.Add(1)
				case err != nil:
					w.Error(err)
				case out.Replayed:
					replayed.Add(1)
				default:
					made.Add(1)
				}
			})
		}
		wg.Wait()
		list := must(w.svc.List(w.ctx(), w.sc, connector.ListFilter{Query: "race"}))(w)
		if made.Load() != 1 || len(list.Items) != 1 {
			w.Errorf("%d made, %d replayed, %d busy: %d stored", made.Load(), replayed.Load(), busy.Load(), len(list.Items))
		}
	})
}

func TestOrganizationsOfAService(t *testing.T) {
	both(t, func(w *world) {
		out, err := w.svc.CreateOrganization(w.ctx(), w.sc, connector.OrganizationDraft{ID: "new_one", Once: once("key-1", 1)})
		w.ok(err)
		if out.Organization.Name != "new_one" || !out.Organization.Active || out.Organization.CreatedAt.IsZero() || out.Revision == 0 {
			w.Errorf("%+v", out)
		}
		again, err := w.svc.CreateOrganization(w.ctx(), w.sc, connector.OrganizationDraft{ID: "new_one", Once: once("key-1", 1)})
		w.ok(err)
		if !again.Replayed || again.Organization.ID != out.Organization.ID {
			w.Errorf("%+v", again)
		}
		_, err = w.svc.CreateOrganization(w.ctx(), w.sc, connector.OrganizationDraft{ID: "new_one"})
		w.code(err, fault.AlreadyExists, "twice")
		_, err = w.svc.CreateOrganization(w.ctx(), w.sc, connector.OrganizationDraft{ID: "New One", Name: "a\nb"})
		w.violations(err, "bad", "/id format", "/name format")
		_, err = w.svc.CreateOrganization(w.ctx(), w.sc, connector.OrganizationDraft{})
		w.violations(err, "none", "/id required")
		id, name, off := out.Organization.ID, "Renamed", false
		edited, err := w.svc.UpdateOrganization(w.ctx(), w.sc, id, connector.OrganizationEdit{Name: &name, Active: &off})
		w.ok(err)
		if edited.Organization.Name != name || edited.Organization.Active || edited.Revision <= out.Revision {
			w.Errorf("%+v", edited)
		}
		same, err := w.svc.UpdateOrganization(w.ctx(), w.sc, id, connector.OrganizationEdit{Name: &name})
		w.ok(err)
		if same.Revision != edited.Revision {
			w.Error("nothing was changed, and a revision moved")
		}
		_, err = w.svc.UpdateOrganization(w.ctx(), w.sc, tenant.MustOrganizationID("nobody"), connector.OrganizationEdit{Name: &name})
		w.code(err, fault.NotFound, "unknown")

		bound := w.sc
		bound.AllOrganizations, bound.Organizations = false, []tenant.OrganizationID{hq}
		_, err = w.svc.CreateOrganization(w.ctx(), bound, connector.OrganizationDraft{ID: "other"})
		w.code(err, fault.PermissionDenied, "a bound admin creates")
		_, err = w.svc.UpdateOrganization(w.ctx(), bound, hq, connector.OrganizationEdit{Active: &off})
		w.code(err, fault.PermissionDenied, "a bound admin deactivates their own")
		_, err = w.svc.UpdateOrganization(w.ctx(), bound, labs, connector.OrganizationEdit{Active: &off})
		w.code(err, fault.NotFound, "a bound admin deactivates another")
		_, err = w.svc.Organization(w.ctx(), bound, labs)
		w.code(err, fault.NotFound, "a bound admin reads another")
		if page := must(w.svc.Organizations(w.ctx(), bound, connector.OrganizationFilter{}))(w); len(page.Items) != 1 || page.Items[0].ID != hq {
			w.Errorf("a bound admin sees %+v", page)
		}
		var seen []string
		for f := (connector.OrganizationFilter{Limit: 1}); ; {
			page := must(w.svc.Organizations(w.ctx(), w.sc, f))(w)
			for _, o := range page.Items {
				seen = append(seen, o.ID.String())
			}
			if page.Next.IsZero() {
				break
			}
			f.After = page.Next
		}
		if fmt.Sprint(seen) != "[hq labs new_one]" {
			w.Errorf("page by page: %v", seen)
		}
		if page := must(w.svc.Organizations(w.ctx(), w.sc, connector.OrganizationFilter{Active: &off, Query: "RENAM"}))(w); len(page.Items) != 1 {
			w.Errorf("%+v", page)
		}
	})
}

func TestTenantsOfAService(t *testing.T) {
	both(t, func(w *world) {
		operator := connector.Scope{Tenant: globex, Platform: true, Actor: "operator"}
		for what, call := range map[string]func(sc connector.Scope) error{
			"list": func(sc connector.Scope) error {
				_, err := w.svc.Tenants(w.ctx(), sc, connector.TenantFilter{})
				return err
			},
			"read": func(sc connector.Scope) error { _, err := w.svc.GetTenant(w.ctx(), sc, acme); return err },
			"create": func(sc connector.Scope) error {
				_, err := w.svc.CreateTenant(w.ctx(), sc, connector.TenantDraft{ID: "n"})
				return err
			},
			"rename":  func(sc connector.Scope) error { _, err := w.svc.RenameTenant(w.ctx(), sc, acme, "n"); return err },
			"suspend": func(sc connector.Scope) error { _, err := w.svc.SuspendTenant(w.ctx(), sc, acme); return err },
			"resume":  func(sc connector.Scope) error { _, err := w.svc.ResumeTenant(w.ctx(), sc, acme); return err },
			"delete":  func(sc connector.Scope) error { _, err := w.svc.DeleteTenant(w.ctx(), sc, acme); return err },
		} {
			w.code(call(w.sc), fault.PermissionDenied, what+" by a tenant's admin")
		}
		out, err := w.svc.CreateTenant(w.ctx(), operator, connector.TenantDraft{ID: "fresh", Name: "Fresh"})
		w.ok(err)
		id := out.Tenant.ID
		_, err = w.svc.CreateTenant(w.ctx(), operator, connector.TenantDraft{ID: "fresh"})
		w.code(err, fault.AlreadyExists, "twice")
		_, err = w.svc.CreateTenant(w.ctx(), operator, connector.TenantDraft{ID: "../x", Name: "\x00"})
		w.violations(err, "bad", "/id format", "/name format")
		theirs := w.sc
		theirs.Tenant = id
		_, err = w.svc.List(w.ctx(), theirs, connector.ListFilter{})
		w.ok(err)
		gone, err := w.svc.DeleteTenant(w.ctx(), operator, id)
		w.ok(err)
		if gone.Tenant.Status != connector.StatusSuspended || time.Until(gone.Tenant.PurgeAt) < 29*24*time.Hour || gone.Revision <= out.Revision {
			w.Errorf("%+v", gone)
		}
		later, err := w.svc.DeleteTenant(w.ctx(), operator, id)
		w.ok(err)
		if !later.Tenant.PurgeAt.Equal(gone.Tenant.PurgeAt) || later.Revision != gone.Revision {
			w.Errorf("a second deletion moves the date: %+v", later)
		}
		_, err = w.svc.List(w.ctx(), theirs, connector.ListFilter{})
		w.code(err, fault.TenantSuspended, "a deleted tenant's admin")
		back, err := w.svc.ResumeTenant(w.ctx(), operator, id)
		w.ok(err)
		if back.Tenant.Status != connector.StatusReady || !back.Tenant.PurgeAt.IsZero() {
			w.Errorf("%+v", back)
		}
		_, err = w.svc.List(w.ctx(), theirs, connector.ListFilter{})
		w.ok(err)
		_, err = w.svc.SuspendTenant(w.ctx(), operator, id)
		w.ok(err)
		_, err = w.svc.SuspendTenant(w.ctx(), operator, id) // which is no change
		w.ok(err)
		_, err = w.svc.RenameTenant(w.ctx(), operator, id, "Renamed")
		w.ok(err)
		theirs.Platform = true
		var verbs []string
		for _, e := range must(w.svc.Audit(w.ctx(), theirs, connector.AuditFilter{Action: "tenant.*"}))(w).Items {
			if e.Actor != "operator" || e.Target != "fresh" || e.Outcome != "ok" {
				w.Errorf("audited %+v", e)
			}
			verbs = append(verbs, strings.TrimPrefix(e.Action, "tenant."))
		}
		theirs.Platform = false
		if fmt.Sprint(verbs) != "[update suspend update resume update delete update create]" {
			w.Errorf("audited %v", verbs)
		}

		// From the moment at which it goes for good, it can't be had back.
		brief := w.service(func(o *connector.ServiceOptions) { o.TenantGrace = time.Microsecond })
		_, err = brief.DeleteTenant(w.ctx(), operator, id)
		w.ok(err)
		w.until("the grace is over", func() bool { return w.store.BeginPurge(w.ctx(), id) == nil })
		for what, call := range map[string]func(context.Context, connector.Scope, tenant.ID) (connector.WrittenTenant, error){
			"resume": w.svc.ResumeTenant, "suspend": w.svc.SuspendTenant, "delete": w.svc.DeleteTenant,
		} {
			_, err = call(w.ctx(), operator, id)
			w.code(err, fault.Conflict, what+" what goes for good")
		}
		for n := 1; n > 0; {
			n, err = w.store.Relay(w.ctx(), 100, func(context.Context, []connector.Message) error { return nil })
			w.ok(err)
		}
		w.ok(w.store.EndPurge(w.ctx(), id, "test"))
		_, err = w.svc.GetTenant(w.ctx(), operator, id)
		w.code(err, fault.NotFound, "what is gone")
		_, err = w.svc.CreateTenant(w.ctx(), operator, connector.TenantDraft{ID: "fresh"})
		w.code(err, fault.AlreadyExists, "under an id that was used")
		_, err = w.svc.Audit(w.ctx(), theirs, connector.AuditFilter{})
		w.code(err, fault.NotFound, "the audit of what is gone, for its admin")
		theirs.Platform = true
		trail := must(w.svc.Audit(w.ctx(), theirs, connector.AuditFilter{}))(w)
		if len(trail.Items) == 0 || trail.Items[0].Action != "tenant.purge" {
			w.Errorf("the operator sees %+v of what is gone", trail.Items)
		}
		theirs.Tenant = tenant.MustID("nobody")
		_, err = w.svc.Audit(w.ctx(), theirs, connector.AuditFilter{})
		w.code(err, fault.NotFound, "the audit of what never was")
		_, err = w.svc.List(w.ctx(), theirs, connector.ListFilter{})
		w.code(err, fault.NotFound, "connectors of what never was")

		_, err = w.svc.SuspendTenant(w.ctx(), operator, tenant.MustID("nobody"))
		w.code(err, fault.NotFound, "unknown")
		page := must(w.svc.Tenants(w.ctx(), operator, connector.TenantFilter{Limit: 1}))(w)
		rest := must(w.svc.Tenants(w.ctx(), operator, connector.TenantFilter{Limit: 1, After: page.Next}))(w)
		if len(page.Items) != 1 || len(rest.Items) != 1 || !rest.Next.IsZero() || page.Items[0].ID != acme || rest.Items[0].ID != globex {
			w.Errorf("%+v, %+v", page, rest)
		}
	})
}

// A tenant is made once under a key, whichever tenant its maker's token names.
func TestTenantsOnce(t *testing.T) {
	both(t, func(w *world) {
		operator := connector.Scope{Tenant: globex, Platform: true, Actor: "operator"}
		draft := connector.TenantDraft{ID: "fresh", Name: "Fresh", Once: once("key-1", 1)}
		first, err := w.svc.CreateTenant(w.ctx(), operator, draft)
		w.ok(err)
		operator.Tenant = tenant.MustID("elsewhere")
		again, err := w.svc.CreateTenant(w.ctx(), operator, draft)
		w.ok(err)
		if first.Replayed || !again.Replayed || again.Tenant.ID != first.Tenant.ID || again.Revision != first.Revision {
			w.Errorf("%+v, then %+v", first, again)
		}
		_, err = w.svc.CreateTenant(w.ctx(), operator, connector.TenantDraft{ID: "other", Once: once("key-1", 2)})
		w.violations(err, "another request", "/header/Idempotency-Key reused")
		// What failed frees its key.
		_, err = w.svc.CreateTenant(w.ctx(), operator, connector.TenantDraft{ID: "fresh", Once: once("key-2", 3)})
		w.code(err, fault.AlreadyExists, "twice")
		_, err = w.svc.CreateTenant(w.ctx(), operator, connector.TenantDraft{ID: "other", Once: once("key-2", 4)})
		w.ok(err)
		operator.Actor = "another operator"
		_, err = w.svc.CreateTenant(w.ctx(), operator, draft)
		w.code(err, fault.AlreadyExists, "another actor's key")
	})
}

func TestAuditOfAService(t *testing.T) {
	both(t, func(w *world) {
		in, out := w.create("in", hq), w.create("out", labs)
		bound := w.sc
		bound.AllOrganizations, bound.Organizations = false, []tenant.OrganizationID{hq}
		page := must(w.svc.Audit(w.ctx(), bound, connector.AuditFilter{}))(w)
		for _, e := range page.Items {
			if e.Target != in.ID.String() && e.Target != "hq" {
				w.Errorf("a bound admin sees %+v", e)
			}
		}
		if len(page.Items) == 0 {
			w.Error("a bound admin sees nothing")
		}
		hidden := must(w.svc.Audit(w.ctx(), bound, connector.AuditFilter{Target: out.ID.String()}))(w)
		all := must(w.svc.Audit(w.ctx(), w.sc, connector.AuditFilter{Target: out.ID.String()}))(w)
		if len(hidden.Items) != 0 || len(all.Items) == 0 {
			w.Errorf("%d, %d", len(hidden.Items), len(all.Items))
		}
		whole := must(w.svc.Audit(w.ctx(), w.sc, connector.AuditFilter{Limit: 200}))(w)
		var paged []int64
		for f := (connector.AuditFilter{Limit: 2}); ; {
			page := must(w.svc.Audit(w.ctx(), w.sc, f))(w)
			for _, e := range page.Items {
				paged = append(paged, e.ID)
			}
			if page.Next == 0 {
				break
			}
			f.Before = page.Next
		}
		if len(paged) != len(whole.Items) {
			w.Errorf("%d entries page by page, %d at once", len(paged), len(whole.Items))
		}
		_, err := w.svc.Audit(w.ctx(), w.sc, connector.AuditFilter{Limit: 201})
		w.code(err, fault.InvalidArgument, "too many")
	})
}

// A client secret that the grant can't be refreshed with fails the test of what is
// stored, whatever token is at hand.
func TestOfAWrongClientSecret(t *testing.T) {
	both(t, func(w *world) {
		c := w.oauth("mail")
		w.lab.tests(func(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
			r := providers.TestReport{OK: true, Message: "Connected", Level: o.Level, Steps: []providers.TestStep{{Name: "token", Status: providers.StepOK}}}
			var t *providers.TokenError
			if _, err := c.Tokens.Token(ctx); errors.As(err, &t) {
				r.OK, r.Message, r.Steps[0].Status, r.Steps[0].Code = false, t.Code.Info().Hint, providers.StepFail, t.Code
			}
			return r, nil
		})
		test := func() connector.TestResult {
			r, err := w.svc.TestConnection(w.ctx(), w.sc, c.ID, connector.TestOptions{})
			w.ok(err)
			return r
		}
		if r := test(); !r.OK {
			w.Fatalf("%+v", r)
		}
		w.mint.mu.Lock()
		w.mint.unproven = &providers.TokenError{Code: providers.CodeOAuthClientInvalid, Err: fault.New(fault.Conflict, "the issuer refuses the client")}
		w.mint.mu.Unlock()
		if r := test(); r.OK || r.Code() != providers.CodeOAuthClientInvalid || w.get(c.ID).State != connector.StateError {
			w.Errorf("%+v, %s", r, w.get(c.ID).State)
		}
	})
}

// A connector that is changed while its account is connected gets no grant that was
// meant for what it was.
func TestConsentWhileItsClientChanges(t *testing.T) {
	both(t, func(w *world) {
		amy := w.user("amy")
		c := w.oauth("mail")
		w.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.DeleteGrant(ctx, c.ID) })
		w.mint.version = 7
		begin := func() string {
			handle, err := w.svc.AnswerConsent(w.ctx(), w.begun(amy, c.ID), cameBack, hidden("code"))
			w.ok(err)
			return handle
		}
		edit := func(e connector.Edit) {
			_, err := w.svc.Update(w.ctx(), w.sc, c.ID, w.get(c.ID).Version, e)
			w.ok(err)
		}
		handle := begin()
		w.mint.during = func() { edit(connector.Edit{Params: map[string]any{"client_id": "client-2"}}) }
		_, _, err := w.svc.CompleteConsent(w.ctx(), amy, c.ID, handle)
		w.code(err, fault.Conflict, "another client meanwhile")
		if w.grant(c.ID) != connector.GrantNone || len(w.mint.forgotten) == 0 {
			t.Errorf("the grant is there: %s", w.grant(c.ID))
		}
		edit(connector.Edit{Params: map[string]any{"client_id": "client-1"}})
		handle = begin()
		name := "another name"
		w.mint.during = func() { edit(connector.Edit{Name: &name}) }
		_, _, err = w.svc.CompleteConsent(w.ctx(), amy, c.ID, handle)
		w.ok(err)
		if got := w.get(c.ID); w.grant(c.ID) != connector.GrantActive || got.Name != name {
			t.Errorf("%s, %+v", w.grant(c.ID), got)
		}
		nobody := w.sc
		_, err = w.svc.StartConsent(w.ctx(), nobody, c.ID, cameBack)
		w.code(err, fault.PermissionDenied, "a token without a user")
	})
}

// A merge patch goes into maps, too, and null clears what is in them.
func TestPatchOfMaps(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		edit := func(limits any) (map[string]any, error) {
			out, err := w.svc.Update(w.ctx(), w.sc, c.ID, w.get(c.ID).Version, connector.Edit{Params: map[string]any{"headers": limits}})
			if err != nil {
				return nil, err
			}
			m, _ := out.Connector.Params["headers"].Value.(map[string]any)
			return m, nil
		}
		if m := must(edit(map[string]any{"X-One": "1", "X-Two": "2"}))(w); len(m) != 2 {
			t.Errorf("%v", m)
		}
		if m := must(edit(map[string]any{"X-Three": "3", "X-One": nil}))(w); len(m) != 2 || m["X-Two"] != "2" || m["X-Three"] != "3" {
			t.Errorf("%v", m)
		}
		out, err := w.svc.Update(w.ctx(), w.sc, c.ID, w.get(c.ID).Version, connector.Edit{Name: &c.Name, Replace: true,
			Params: map[string]any{"host": "one.example", "headers": map[string]any{"X-Four": "4"}}})
		w.ok(err)
		if m, _ := out.Connector.Params["headers"].Value.(map[string]any); len(m) != 1 {
			t.Errorf("replaced: %v", m)
		}
		_, err = w.svc.Create(w.ctx(), w.sc, connector.Draft{Name: "b", Kind: "lab", Params: map[string]any{"headers": map[string]any{"X/One": nil}}})
		w.violations(err, "a null in a new map", "/params/headers/X~1One type")
	})
}
