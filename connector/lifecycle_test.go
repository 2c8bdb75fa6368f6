package connector_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
)

func TestActivationAsksForATest(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		_, err := w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
		w.code(err, fault.Conflict, "untested")
		if e := w.audited("connector.activate", c.ID); len(e) != 1 || e[0].Outcome != "conflict" || !slices.Equal(e[0].Fields, []string{"active"}) {
			w.Errorf("audited as %+v", e)
		}
		w.lab.finds(providers.CodeAuthFailed)
		w.tested(c.ID)
		_, err = w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
		w.code(err, fault.Conflict, "failed")
		w.lab.tests(nil)
		w.tested(c.ID)
		before := w.revision()
		out, err := w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
		w.ok(err)
		if !out.Connector.Active || out.Connector.Default || out.Revision <= before || out.Connector.Version != 2 {
			w.Errorf("%+v at %d after %d", out.Connector, out.Revision, before)
		}
		again, err := w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
		w.ok(err)
		if again.Revision != out.Revision || again.Connector.Version != 2 {
			w.Error("an active connector was activated once more")
		}
		// The edit of a note keeps the test, that of the host does not.
		for what, row := range map[string]struct {
			e    connector.Edit
			want fault.Code
		}{
			"a note":     {connector.Edit{Params: map[string]any{"note": "x"}}, ""},
			"a password": {connector.Edit{Secrets: secret.Map{"password": hidden("x")}}, fault.Conflict},
			"a host":     {connector.Edit{Params: map[string]any{"host": "x.example"}, Secrets: secret.Map{"password": hidden("y")}}, fault.Conflict},
		} {
			c := w.create(what, hq)
			w.tested(c.ID)
			_, err := w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, row.e)
			w.ok(err)
			_, err = w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
			w.code(err, row.want, "after an edit of "+what)
		}
	})
}

func TestForcedActivation(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		for what, reason := range map[string]string{"none": " ", "too long": strings.Repeat("é", 501), "two lines": "a\nb", "no text": "\xff"} {
			_, err := w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{Force: true, Reason: reason})
			if w.code(err, fault.InvalidArgument, what); len(fault.Violations(err)) != 1 || fault.Violations(err)[0].Pointer != "/reason" {
				w.Errorf("%s: %v", what, err)
			}
		}
		reason := strings.Repeat("é", 500)
		out, err := w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{Force: true, Reason: reason})
		w.ok(err)
		if !out.Connector.Active || out.Connector.State != connector.StateUntested {
			w.Errorf("%+v", out.Connector)
		}
		if e := w.audited("connector.activate", c.ID); len(e) != 1 || e[0].Note != reason || e[0].Outcome != "ok" {
			w.Errorf("audited as %+v", e)
		}
		// In a body too.
		d := w.draft("b", hq)
		d.Active, d.Force, d.Reason = ptr(true), true, "the relay is built next week"
		w.lab.finds(providers.CodeAuthFailed)
		out, err = w.svc.Create(w.ctx(), w.sc, d)
		w.ok(err)
		if e := w.audited("connector.activate", out.Connector.ID); len(e) != 1 || e[0].Note != d.Reason {
			w.Errorf("audited as %+v", e)
		}
	})
}

// Active in a body means: tested as it will be, before anything is written.
func TestActiveInABody(t *testing.T) {
	both(t, func(w *world) {
		w.lab.finds(providers.CodeAuthFailed)
		d := w.draft("a", hq)
		d.Default = true
		before := w.revision()
		_, err := w.svc.Create(w.ctx(), w.sc, d)
		w.code(err, fault.Conflict, "a draft whose test fails")
		if w.revision() != before {
			w.Error("it was written")
		}
		w.lab.tests(nil)
		out, err := w.svc.Create(w.ctx(), w.sc, d)
		w.ok(err)
		c := out.Connector
		last, err := connector.ParseTest(c.LastTest)
		w.ok(err)
		if !c.Active || !c.Default || c.State != connector.StateConnected || last == nil || !last.OK || last.Version != 1 || last.TestedAt.IsZero() {
			w.Errorf("%+v %+v", c, last)
		}
		b := w.create("b", hq)
		_, err = w.svc.Update(w.ctx(), w.sc, b.ID, b.Version, connector.Edit{Default: ptr(true)})
		w.code(err, fault.Conflict, "default of an inactive one")
		_, err = w.svc.Update(w.ctx(), w.sc, b.ID, b.Version, connector.Edit{Default: ptr(true), Active: ptr(false)})
		w.violations(err, "both", "/is_default conflict")
		out, err = w.svc.Update(w.ctx(), w.sc, b.ID, b.Version, connector.Edit{Default: ptr(true), Active: ptr(true), Secrets: secret.Map{"password": hidden("new")}})
		w.ok(err)
		b = out.Connector
		if !b.Active || !b.Default || b.State != connector.StateConnected || !w.lab.last()["password"].Equal(hidden("new")) || b.Version != 2 {
			w.Errorf("%+v", b)
		}
		if last, _ := connector.ParseTest(b.LastTest); last.Version != b.Version {
			w.Errorf("tested version %d", last.Version)
		}
		if got := w.get(c.ID); got.Default || !got.Active || got.Version != 2 {
			w.Errorf("the old default: %+v", got)
		}
		// Active false on a default needs what Deactivate needs.
		_, err = w.svc.Update(w.ctx(), w.sc, b.ID, b.Version, connector.Edit{Active: ptr(false)})
		w.code(err, fault.Conflict, "no handover")
		out, err = w.svc.Update(w.ctx(), w.sc, b.ID, b.Version, connector.Edit{Active: ptr(false), Handover: connector.Handover{Replacement: c.ID}, BlockPinned: ptr(true)})
		w.ok(err)
		if got := w.get(c.ID); out.Connector.Active || !out.Connector.BlockPinned || !got.Default {
			w.Errorf("%+v, %+v", out.Connector, got)
		}
		out, err = w.svc.Update(w.ctx(), w.sc, c.ID, w.get(c.ID).Version, connector.Edit{Default: ptr(false)})
		w.ok(err)
		if out.Connector.Default || !out.Connector.Active {
			w.Errorf("%+v", out.Connector)
		}
	})
}

func TestDeactivation(t *testing.T) {
	both(t, func(w *world) {
		a := w.live("a", hq, true)
		for what, o := range map[string]struct {
			h    connector.Handover
			want fault.Code
		}{
			"nothing":              {connector.Handover{}, fault.Conflict},
			"itself":               {connector.Handover{Replacement: a.ID}, fault.InvalidArgument},
			"an unknown one":       {connector.Handover{Replacement: connector.NewID()}, fault.NotFound},
			"another organization": {connector.Handover{Replacement: w.live("labs", labs, false).ID}, fault.InvalidArgument},
			"the whole tenant's":   {connector.Handover{Replacement: w.live("wide", whole, false).ID}, fault.InvalidArgument},
			"an untested one":      {connector.Handover{Replacement: w.create("untested", hq).ID}, fault.Conflict},
		} {
			_, err := w.svc.Deactivate(w.ctx(), w.sc, a.ID, connector.DeactivateOptions{Handover: o.h})
			w.code(err, o.want, "replaced by "+what)
			_, err = w.svc.Delete(w.ctx(), w.sc, a.ID, connector.DeleteOptions{Version: a.Version, Handover: o.h})
			w.code(err, o.want, "deleted for "+what)
		}
		bound := connector.Scope{Tenant: acme, Organizations: []tenant.OrganizationID{hq}, Actor: "ann"}
		_, err := w.svc.Deactivate(w.ctx(), bound, a.ID, connector.DeactivateOptions{Handover: connector.Handover{Replacement: w.live("wide2", whole, false).ID}})
		w.code(err, fault.NotFound, "a replacement beyond the scope")
		if got := w.get(a.ID); got.Version != a.Version || !got.Default {
			w.Error("something happened")
		}
		// A tested one that is inactive is activated on the way.
		b := w.create("b", hq)
		w.tested(b.ID)
		out, err := w.svc.Deactivate(w.ctx(), w.sc, a.ID, connector.DeactivateOptions{Handover: connector.Handover{Replacement: b.ID}, BlockPinned: ptr(true)})
		w.ok(err)
		if got := w.get(b.ID); out.Connector.Active || out.Connector.Default || !got.Active || !got.Default || got.Version != 2 || out.Connector.Version != a.Version+1 {
			w.Errorf("%+v, %+v", out.Connector, got)
		}
		if e := w.audited("connector.activate", b.ID); len(e) != 1 {
			w.Errorf("audited as %+v", e)
		}
		// By id it is blocked.
		snap, err := w.store.Tenant(acme).Connector(w.ctx(), hq, a.ID)
		w.ok(err)
		if !snap.Connector.BlockPinned {
			w.Error("not blocked for those who pin it")
		}
		before := w.revision()
		out, err = w.svc.Deactivate(w.ctx(), w.sc, a.ID, connector.DeactivateOptions{})
		w.ok(err)
		if w.revision() != before || !out.Connector.BlockPinned {
			w.Error("an inactive one was deactivated once more")
		}
		out, err = w.svc.Deactivate(w.ctx(), w.sc, a.ID, connector.DeactivateOptions{BlockPinned: ptr(false)})
		w.ok(err)
		if out.Connector.BlockPinned {
			w.Error("still blocked")
		}
		_, err = w.svc.Deactivate(w.ctx(), w.sc, b.ID, connector.DeactivateOptions{Handover: connector.Handover{AllowNoDefault: true}})
		w.ok(err)
		_, err = w.svc.Resolve(w.ctx(), w.sc, hq, providers.Storage)
		w.code(err, fault.NoDefaultConnector, "no default")
	})
}

func TestDefaults(t *testing.T) {
	both(t, func(w *world) {
		a, b := w.live("a", hq, false), w.live("b", hq, false)
		idle := w.create("idle", hq)
		_, err := w.svc.SetDefault(w.ctx(), w.sc, idle.ID, 0)
		w.code(err, fault.Conflict, "an inactive one")
		for range 2 {
			_, err = w.svc.SetDefault(w.ctx(), w.sc, a.ID, 0)
			w.ok(err)
		}
		out, err := w.svc.SetDefault(w.ctx(), w.sc, b.ID, b.Version)
		w.ok(err)
		if got := w.get(a.ID); got.Default || got.Version != 3 || !out.Connector.Default || out.Connector.Version != 2 {
			w.Errorf("%+v, %+v", got, out.Connector)
		}
		before := w.revision()
		again, err := w.svc.SetDefault(w.ctx(), w.sc, b.ID, 0)
		w.ok(err)
		if w.revision() != before || again.Revision != before || again.Connector.Version != 2 {
			w.Error("set once more")
		}
		out, err = w.svc.ClearDefault(w.ctx(), w.sc, b.ID, connector.ClearOptions{Replacement: a.ID})
		w.ok(err)
		if out.Connector.Default || !out.Connector.Active || !w.get(a.ID).Default {
			w.Errorf("%+v", out.Connector)
		}
		_, err = w.svc.ClearDefault(w.ctx(), w.sc, a.ID, connector.ClearOptions{})
		w.ok(err)
		before = w.revision()
		_, err = w.svc.ClearDefault(w.ctx(), w.sc, a.ID, connector.ClearOptions{})
		w.ok(err)
		if w.get(a.ID).Default || w.revision() != before {
			w.Error("cleared once more")
		}
	})
}

func TestDeleteAndRestore(t *testing.T) {
	both(t, func(w *world) {
		a := w.live("a", hq, true)
		out, err := w.svc.Delete(w.ctx(), w.sc, a.ID, connector.DeleteOptions{Version: a.Version, Handover: connector.Handover{AllowNoDefault: true}})
		w.ok(err)
		if c := out.Connector; c.DeletedAt.IsZero() || c.Active || c.Default {
			w.Errorf("%+v", c)
		}
		_, err = w.svc.Get(w.ctx(), w.sc, a.ID)
		w.code(err, fault.NotFound, "a deleted one")
		_, err = w.svc.Delete(w.ctx(), w.sc, a.ID, connector.DeleteOptions{Version: a.Version + 1})
		w.code(err, fault.NotFound, "deleted twice")
		snap, err := w.store.Tenant(acme).Connector(w.ctx(), hq, a.ID)
		w.ok(err)
		if snap.Connector != nil {
			w.Error("it answers those who pin it")
		}
		if h := must(w.svc.History(w.ctx(), w.sc, a.ID, 0, 200))(w); len(h) != 2 {
			w.Errorf("%d revisions", len(h))
		}
		for range 2 {
			out, err = w.svc.Restore(w.ctx(), w.sc, a.ID, 0)
			w.ok(err)
			if c := out.Connector; c.Version != 3 || !c.DeletedAt.IsZero() || c.Active || c.Default || c.State != connector.StateUntested || !w.bundle(c).Values["password"].Equal(hidden("first")) {
				w.Errorf("%+v", c)
			}
		}
	})
}

// What the kind does at a turn comes first, and its no stops the turn.
func TestHooks(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		w.tested(c.ID)
		var mu sync.Mutex
		var seen []string
		answer := func(err error) func(context.Context, string, providers.Config) error {
			return func(_ context.Context, action string, cfg providers.Config) error {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, action)
				if !cfg.Secrets["password"].Equal(hidden("first")) || cfg.Params["port"] != int64(443) {
					return errBoom
				}
				return err
			}
		}
		for what, row := range map[string]struct {
			hook func(context.Context, string, providers.Config) error
			want fault.Code
		}{
			"an unclassified error": {answer(errBoom), fault.Conflict},
			"a fault":               {answer(fault.New(fault.Conflict, "the webhook is taken").WithCause(errBoom)), fault.Conflict},
			"an outage":             {answer(fault.New(fault.Unavailable, "away")), fault.Unavailable},
			"a panic":               {func(context.Context, string, providers.Config) error { panic(errBoom) }, fault.Internal},
		} {
			w.lab.hooks(row.hook)
			_, err := w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
			if w.code(err, row.want, what); strings.Contains(fault.Message(err), canary) {
				w.Errorf("%s: %s", what, fault.Message(err))
			}
		}
		if w.get(c.ID).Active {
			w.Fatal("active although its kind refused")
		}
		w.lab.hooks(answer(nil))
		_, err := w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
		w.ok(err)
		w.lab.hooks(answer(errBoom))
		_, err = w.svc.Deactivate(w.ctx(), w.sc, c.ID, connector.DeactivateOptions{})
		w.code(err, fault.Conflict, "deactivation refused")
		_, err = w.svc.Delete(w.ctx(), w.sc, c.ID, connector.DeleteOptions{Version: w.get(c.ID).Version})
		w.code(err, fault.Conflict, "deletion refused")
		if !w.get(c.ID).Active {
			w.Error("inactive although its kind refused")
		}
		w.lab.hooks(answer(nil))
		_, err = w.svc.Deactivate(w.ctx(), w.sc, c.ID, connector.DeactivateOptions{})
		w.ok(err)
		mu.Lock()
		defer mu.Unlock()
		if seen[len(seen)-1] != "deactivate" || seen[0] != "activate" {
			w.Errorf("%v", seen)
		}
	})
}

// A kind that can't be switched off can be left behind, with a reason that is kept.
func TestForcedDeactivation(t *testing.T) {
	both(t, func(w *world) {
		broken := map[string]func(context.Context, string, providers.Config) error{
			"an error": func(context.Context, string, providers.Config) error { return errBoom },
			"a panic":  func(context.Context, string, providers.Config) error { panic(errBoom) },
		}
		for what, hook := range broken {
			off, gone := w.live("off "+what, hq, false), w.live("gone "+what, hq, false)
			w.lab.hooks(hook)
			_, err := w.svc.Deactivate(w.ctx(), w.sc, off.ID, connector.DeactivateOptions{Force: true, Reason: " "})
			w.violations(err, "no reason", "/reason required")
			_, err = w.svc.Delete(w.ctx(), w.sc, gone.ID, connector.DeleteOptions{Version: gone.Version, Force: true})
			w.violations(err, "no reason to delete", "/reason required")
			out, err := w.svc.Deactivate(w.ctx(), w.sc, off.ID, connector.DeactivateOptions{Force: true, Reason: "the vendor is gone"})
			w.ok(err)
			_, err = w.svc.Delete(w.ctx(), w.sc, gone.ID, connector.DeleteOptions{Version: gone.Version, Force: true, Reason: "the vendor is gone"})
			w.ok(err)
			if out.Connector.Active || w.get(off.ID).Active {
				w.Errorf("%s: still active", what)
			}
			for _, id := range []connector.ID{off.ID, gone.ID} {
				if e := w.audited("connector.deactivate", id); len(e) != 1 || e[0].Note != "the vendor is gone" {
					w.Errorf("%s: audited %+v", what, e)
				}
			}
			w.lab.hooks(nil)
			// Force where nothing fails is no lie in the audit: it was asked for.
			_, err = w.svc.Deactivate(w.ctx(), w.sc, off.ID, connector.DeactivateOptions{Force: true, Reason: "again"})
			w.ok(err)
			if e := w.audited("connector.deactivate", off.ID); len(e) != 1 {
				w.Errorf("%s: nothing was done and it was audited: %+v", what, e)
			}
		}
	})
}

// oauth makes a connector whose account is connected.
func (w *world) oauth(name string) connector.Connector {
	w.Helper()
	d := w.draft(name, hq)
	d.Params["mode"], d.Params["client_id"] = "oauth", "client-1"
	out, err := w.svc.Create(w.ctx(), w.sc, d)
	w.ok(err)
	w.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.PutGrant(ctx, out.Connector.ID, 1) })
	return w.get(out.Connector.ID)
}

func (w *world) grant(id connector.ID) connector.GrantStatus {
	w.Helper()
	row, err := w.store.Grant(w.ctx(), acme, id)
	w.ok(err)
	return row.Status
}

func TestGrantsBelongToTheirClient(t *testing.T) {
	both(t, func(w *world) {
		for what, row := range map[string]struct {
			e       connector.Edit
			removed bool
			state   connector.State
		}{
			"a note":           {connector.Edit{Params: map[string]any{"note": "x"}}, false, connector.StateConnected},
			"a client secret":  {connector.Edit{Secrets: secret.Map{"password": hidden("x")}}, false, connector.StateUntested},
			"another client":   {connector.Edit{Params: map[string]any{"client_id": "client-2"}}, true, connector.StateNeedsReauthorization},
			"a token endpoint": {connector.Edit{Params: map[string]any{"host": "x.example"}, Secrets: secret.Map{"password": hidden("y")}}, true, connector.StateNeedsReauthorization},
			"where it is used": {connector.Edit{Params: map[string]any{"proxy": "x.example"}, Secrets: secret.Map{"password": hidden("y")}}, true, connector.StateNeedsReauthorization},
			"no consent":       {connector.Edit{Params: map[string]any{"mode": "key"}}, true, connector.StateUntested},
		} {
			c := w.oauth(what)
			if r := w.tested(c.ID); !r.OK {
				w.Fatalf("%+v", r)
			}
			_, err := w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
			w.ok(err)
			c = w.get(c.ID)
			out, err := w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, row.e)
			w.ok(err)
			if out.GrantRemoved != row.removed || (w.grant(c.ID) == connector.GrantNone) != row.removed || out.Connector.State != row.state {
				w.Errorf("%s: removed %t, grant %q, state %s", what, out.GrantRemoved, w.grant(c.ID), out.Connector.State)
			}
			if !row.removed || row.state != connector.StateNeedsReauthorization {
				continue
			}
			// No test clears that, only a consent.
			r := w.tested(c.ID)
			if got := w.get(c.ID); got.State != connector.StateNeedsReauthorization || r.State != got.State {
				w.Errorf("%s: a test made it %s and says %s", what, got.State, r.State)
			}
			out, err = w.svc.Update(w.ctx(), w.sc, c.ID, out.Connector.Version, connector.Edit{Secrets: secret.Map{"password": hidden("z")}})
			w.ok(err)
			if out.Connector.State != connector.StateNeedsReauthorization {
				w.Errorf("%s: an edit made it %s", what, out.Connector.State)
			}
			w.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.PutGrant(ctx, c.ID, 2) })
			if got := w.get(c.ID); got.State != connector.StateUntested {
				w.Errorf("%s: a consent made it %s", what, got.State)
			}
		}
	})
}

// A build without the kind can still take its connectors out of use.
func TestKindThatIsGone(t *testing.T) {
	both(t, func(w *world) {
		c := w.live("a", hq, true)
		kinds, err := providers.NewRegistry(plain{})
		w.ok(err)
		svc := w.service(func(o *connector.ServiceOptions) { o.Kinds = kinds })
		_, err = svc.TestConnection(w.ctx(), w.sc, c.ID, connector.TestOptions{})
		w.code(err, fault.Unavailable, "test")
		_, err = svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: map[string]any{"note": "x"}})
		w.code(err, fault.Unavailable, "edit")
		if s := svc.SecretStatuses(&c); !s["password"].Configured {
			w.Errorf("%+v", s)
		}
		out, err := svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Name: ptr("renamed")})
		w.ok(err)
		out, err = svc.Deactivate(w.ctx(), w.sc, c.ID, connector.DeactivateOptions{Version: out.Connector.Version, Revoke: true, Handover: connector.Handover{AllowNoDefault: true}})
		w.ok(err)
		_, err = svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{Force: true, Reason: "r"})
		w.code(err, fault.Unavailable, "activate")
		_, err = svc.Delete(w.ctx(), w.sc, c.ID, connector.DeleteOptions{Version: out.Connector.Version})
		w.ok(err)
	})
}

// Resolve refuses what a data plane refuses, by the same codes.
func TestResolveIsTheDataPlanes(t *testing.T) {
	both(t, func(w *world) {
		same := func(what string, want fault.Code) {
			w.Helper()
			kinds, err := providers.NewRegistry(w.lab, plain{})
			w.ok(err)
			plane, err := resolver.New(resolver.Options{Database: w.store, Secrets: w.secrets, Kinds: kinds, Tokens: w.mint})
			w.ok(err)
			a, theirs := plane.Resolve(w.ctx(), resolver.Slot{Tenant: acme, Organization: hq, Category: providers.Storage}, 0)
			res, ours := w.svc.Resolve(w.ctx(), w.sc, hq, providers.Storage)
			if fault.CodeOf(theirs) != want || fault.CodeOf(ours) != want || want == "" && a.Revision != res.Revision {
				w.Errorf("%s: the data plane says %v, the service %v", what, theirs, ours)
			}
		}
		same("nothing", fault.NoDefaultConnector)
		c := w.oauth("a")
		w.alter(c.ID, func(c *connector.Connector) { c.Active, c.Default = true, true })
		same("a default", "")
		settle := func(version int64, status connector.GrantStatus) {
			w.Helper()
			_, err := w.store.SettleGrant(w.ctx(), acme, c.ID, version, status)
			w.ok(err)
		}
		settle(1, connector.GrantNeedsReauthorization)
		same("a refused grant", fault.NeedsReauthorization)
		settle(2, connector.GrantActive)
		w.alter(c.ID, func(c *connector.Connector) { c.State = connector.StateNeedsReauthorization })
		same("a grant that lives again", "")
		w.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.DeleteGrant(ctx, c.ID) })
		same("no grant", fault.NeedsReauthorization)
		w.change(func(ctx context.Context, tx connector.TenantTx) error {
			return tx.PutOrganization(ctx, connector.Organization{ID: hq, Name: "HQ"})
		})
		same("a deactivated organization", fault.PermissionDenied)
		w.change(func(ctx context.Context, tx connector.TenantTx) error {
			return tx.UpdateTenant(ctx, func(t *connector.Tenant) error { t.Status = connector.StatusSuspended; return nil })
		})
		same("a suspended tenant", fault.TenantSuspended)
	})
}

// A draft's test mints with what is stored only for the same client.
func TestDraftsMintOnlyWithTheirOwnGrant(t *testing.T) {
	both(t, func(w *world) {
		c := w.oauth("a")
		draft := func(client string, id connector.ID) connector.TestResult {
			w.Helper()
			d := w.draft("x", hq)
			d.Params["mode"], d.Params["client_id"] = "oauth", client
			r, err := w.svc.TestDraft(w.ctx(), w.sc, d, id, connector.TestOptions{})
			w.ok(err)
			return r
		}
		if r := draft("client-1", c.ID); !r.OK {
			w.Errorf("the same client: %+v", r)
		}
		for _, r := range []connector.TestResult{draft("client-2", c.ID), draft("client-1", connector.ID{})} {
			if r.OK || r.Code() != providers.CodeConsentMissing {
				w.Errorf("another client: %+v", r)
			}
		}
		// Another secret of the same client: a refresh would be the stored one's to make.
		d := w.draft("x", hq)
		d.Params["mode"], d.Params["client_id"] = "oauth", "client-1"
		d.Secrets["password"] = hidden("another-secret-of-the-client")
		r, err := w.svc.TestDraft(w.ctx(), w.sc, d, c.ID, connector.TestOptions{})
		w.ok(err)
		if r.OK || r.Code() != providers.CodeSaveFirst {
			w.Errorf("another secret: %+v", r)
		}
		if w.grant(c.ID) != connector.GrantActive {
			w.Error("a draft's test removed the grant")
		}
		without := w.service(func(o *connector.ServiceOptions) { o.Tokens = nil })
		r, err = without.TestConnection(w.ctx(), w.sc, c.ID, connector.TestOptions{})
		w.ok(err)
		if r.OK || r.Fault() != providers.FaultOurs || w.get(c.ID).State != connector.StateUntested {
			w.Errorf("without tokens: %+v", r)
		}
	})
}

// Tokens that are minted with secrets which are not stored are nobody else's.
func TestUnstoredSecretsMintApart(t *testing.T) {
	both(t, func(w *world) {
		d := w.draft("a", hq)
		d.Params["mode"] = "machine"
		out, err := w.svc.Create(w.ctx(), w.sc, d)
		w.ok(err)
		c := out.Connector
		own := connector.GrantRef{Tenant: acme, Connector: c.ID, Pin: c.Pin}
		if w.tested(c.ID); w.mint.last() != own {
			w.Errorf("the stored one's tokens come from %+v", w.mint.last())
		}
		drafts := 0
		for what, mints := range map[string]func() error{
			"a draft": func() error {
				_, err := w.svc.TestDraft(w.ctx(), w.sc, d, connector.ID{}, connector.TestOptions{})
				return err
			},
			"a draft with an id": func() error {
				d := connector.Draft{Params: d.Params, Secrets: secret.Map{"password": hidden("new")}}
				_, err := w.svc.TestDraft(w.ctx(), w.sc, d, c.ID, connector.TestOptions{})
				return err
			},
			"an edit that activates": func() error {
				_, err := w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Active: ptr(true), Secrets: secret.Map{"password": hidden("new")}})
				return err
			},
		} {
			w.ok(mints())
			if drafts++; w.mint.drafts != drafts || w.mint.last() != own {
				w.Errorf("%s: %d drafts, want %d; the last other one minted as %+v", what, w.mint.drafts, drafts, w.mint.last())
			}
		}
	})
}

func TestRevocation(t *testing.T) {
	both(t, func(w *world) {
		c := w.oauth("a")
		w.tested(c.ID)
		_, err := w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
		w.ok(err)
		w.mint.away = fault.New(fault.Unavailable, "the issuer is away")
		_, err = w.svc.Deactivate(w.ctx(), w.sc, c.ID, connector.DeactivateOptions{Revoke: true})
		w.code(err, fault.Unavailable, "the issuer is away")
		if !w.get(c.ID).Active || w.grant(c.ID) != connector.GrantActive {
			w.Error("half of it was done")
		}
		out, err := w.svc.Deactivate(w.ctx(), w.sc, c.ID, connector.DeactivateOptions{})
		w.ok(err)
		if w.grant(c.ID) != connector.GrantActive || out.GrantRemoved {
			w.Error("revoked although nobody asked")
		}
		w.mint.away = nil
		out, err = w.svc.Deactivate(w.ctx(), w.sc, c.ID, connector.DeactivateOptions{Revoke: true})
		w.ok(err)
		if w.grant(c.ID) != connector.GrantNone || !out.GrantRemoved || out.Connector.State != connector.StateNeedsReauthorization || len(w.mint.revoked) != 1 || w.mint.revoked[0].Connector != c.ID {
			w.Errorf("grant %q, %+v, revoked %v", w.grant(c.ID), out.Connector, w.mint.revoked)
		}
		without := w.service(func(o *connector.ServiceOptions) { o.Tokens = nil })
		_, err = without.Deactivate(w.ctx(), w.sc, c.ID, connector.DeactivateOptions{Revoke: true})
		w.code(err, fault.Unavailable, "without tokens")
		// A kind without tokens has nothing to revoke.
		p := w.live("b", hq, false)
		_, err = without.Delete(w.ctx(), w.sc, p.ID, connector.DeleteOptions{Version: p.Version, Revoke: true})
		w.ok(err)
	})
}

// A grant that an issuer refuses becomes its connector's state, and back.
// sealedOff is a secret store that is away.
type sealedOff struct{ connector.Secrets }

func (sealedOff) Read(context.Context, connector.SecretRef) (connector.Bundle, error) {
	return connector.Bundle{}, fault.New(fault.Unavailable, "vault is away")
}

// An emergency does not wait for Vault.
func TestSwitchingOffNeedsNoSecrets(t *testing.T) {
	both(t, func(w *world) {
		a, b, idle := w.live("a", hq, false), w.live("b", hq, false), w.create("idle", hq)
		svc := w.service(func(o *connector.ServiceOptions) { o.Secrets = sealedOff{o.Secrets} })
		_, err := svc.Activate(w.ctx(), w.sc, idle.ID, connector.ActivateOptions{Force: true, Reason: "a try"})
		w.code(err, fault.Unavailable, "switching on does")
		_, err = svc.Deactivate(w.ctx(), w.sc, a.ID, connector.DeactivateOptions{Handover: connector.Handover{AllowNoDefault: true}})
		w.ok(err)
		if w.get(a.ID).Active {
			w.Error("still active")
		}
		_, err = svc.Delete(w.ctx(), w.sc, b.ID, connector.DeleteOptions{Version: w.get(b.ID).Version, Handover: connector.Handover{AllowNoDefault: true}})
		w.ok(err)
	})
}

func TestAlignGrant(t *testing.T) {
	both(t, func(w *world) {
		c := w.oauth("a")
		w.tested(c.ID)
		align := func() bool {
			w.Helper()
			drifts, err := w.store.DriftedGrants(w.ctx(), 10)
			w.ok(err)
			moved := false
			for _, d := range drifts {
				ok, err := w.svc.AlignGrant(w.ctx(), d)
				w.ok(err)
				moved = moved || ok
			}
			return moved
		}
		if align() {
			w.Error("there was nothing to align")
		}
		settle := func(version int64, status connector.GrantStatus) {
			w.Helper()
			_, err := w.store.SettleGrant(w.ctx(), acme, c.ID, version, status)
			w.ok(err)
		}
		settle(1, connector.GrantNeedsReauthorization)
		before := w.revision()
		if !align() || w.get(c.ID).State != connector.StateNeedsReauthorization || w.revision() == before {
			w.Errorf("refused: %s", w.get(c.ID).State)
		}
		if e := w.audited("connector.update", c.ID); len(e) == 0 || e[0].Actor != "system" || !slices.Contains(e[0].Fields, "state") {
			w.Errorf("%+v", e)
		}
		settle(2, connector.GrantActive)
		if !align() || w.get(c.ID).State != connector.StateUntested {
			w.Errorf("healed: %s", w.get(c.ID).State)
		}
		// A drift that was read before the user consented says nothing any more.
		before = w.revision()
		ok, err := w.svc.AlignGrant(w.ctx(), connector.GrantDrift{Tenant: acme, Connector: c.ID, Version: 1, Status: connector.GrantNeedsReauthorization})
		w.ok(err)
		if ok || w.get(c.ID).State != connector.StateUntested || w.revision() != before {
			w.Error("an old drift was believed")
		}
		ok, err = w.svc.AlignGrant(w.ctx(), connector.GrantDrift{Tenant: acme, Connector: connector.NewID()})
		if w.ok(err); ok {
			w.Error("an unknown connector was aligned")
		}
	})
}

// race runs functions at the same moment.
func race(fns ...func()) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for _, fn := range fns {
		wg.Go(func() { <-start; fn() })
	}
	close(start)
	wg.Wait()
}

// lost tells whether an error is a way to lose a race.
func lost(err error) bool {
	return slices.Contains([]fault.Code{fault.StaleVersion, fault.Conflict, fault.NotFound}, fault.CodeOf(err))
}

func TestTwoEditsAtOnce(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		for range 20 {
			before := w.get(c.ID)
			errs := make([]error, 2)
			edit := func(i int) func() {
				return func() {
					_, errs[i] = w.svc.Update(w.ctx(), w.sc, c.ID, before.Version, connector.Edit{
						Params: map[string]any{"note": fmt.Sprint(i)}, Secrets: secret.Map{"password": hidden(fmt.Sprintf("%d-%d", before.Version, i))}})
				}
			}
			race(edit(0), edit(1))
			won := slices.Index(errs, nil)
			if won < 0 || errs[1-won] == nil || fault.CodeOf(errs[1-won]) != fault.StaleVersion {
				w.Fatalf("%v", errs)
			}
			after := w.get(c.ID)
			if after.Version != before.Version+1 || after.Params["note"].Value != fmt.Sprint(won) || !w.bundle(after).Values["password"].Equal(hidden(fmt.Sprintf("%d-%d", before.Version, won))) {
				w.Fatal("config and secrets are of different edits")
			}
		}
	})
}

// Never active on a test of something else.
func TestActivateAgainstEdit(t *testing.T) {
	both(t, func(w *world) {
		for round := range 20 {
			c := w.create(fmt.Sprint(round), hq)
			w.tested(c.ID)
			var activated, edited error
			race(
				func() { _, activated = w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{}) },
				func() {
					_, edited = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Secrets: secret.Map{"password": hidden("new")}})
				},
			)
			if activated != nil && !lost(activated) || edited != nil && !lost(edited) {
				w.Fatalf("%v, %v", activated, edited)
			}
			// The edit names its version, so both can only win one after the other; an
			// active connector was connected when it was activated.
			if got := w.get(c.ID); got.Active && edited == nil && activated == nil {
				w.Errorf("active in version %d, state %s", got.Version, got.State)
			}
		}
	})
}

// A result is recorded for what was tested, or not at all.
func TestTestAgainstEdit(t *testing.T) {
	both(t, func(w *world) {
		for round := range 20 {
			c := w.create(fmt.Sprint(round), hq)
			var result connector.TestResult
			var tested, edited error
			race(
				func() { result, tested = w.svc.TestConnection(w.ctx(), w.sc, c.ID, connector.TestOptions{}) },
				func() {
					_, edited = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Secrets: secret.Map{"password": hidden("new")}})
				},
			)
			w.ok(tested)
			w.ok(edited)
			if got := w.get(c.ID); got.State == connector.StateConnected && result.Version != got.Version || result.Stale != (result.State == "") {
				w.Errorf("state %s by a test of version %d, now %d, stale %t", got.State, result.Version, got.Version, result.Stale)
			}
		}
	})
}

// A failing test between the look and the transaction is the last word.
func TestActivateAgainstAFailingTest(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		w.tested(c.ID)
		w.lab.hooks(func(_ context.Context, action string, _ providers.Config) error {
			report := fmt.Sprintf(`{"ok": false, "tested_at": %q, "version": %d}`, time.Now().Add(time.Minute).Format(time.RFC3339Nano), c.Version)
			return w.store.RecordTest(context.Background(), acme, c.ID, c.Version, connector.StateError, []byte(report))
		})
		_, err := w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
		w.code(err, fault.Conflict, "activate")
		if got := w.get(c.ID); got.Active || got.State != connector.StateError {
			w.Errorf("%+v", got)
		}
	})
}

// Fifty rounds of everything that moves a default, at once: never two, never one
// that is inactive or deleted.
func TestDefaultsUnderFire(t *testing.T) {
	both(t, func(w *world) {
		a, b := w.live("a", hq, true), w.live("b", hq, false)
		stop := make(chan struct{})
		var watching sync.WaitGroup
		watch := func() {
			list, err := w.store.Tenant(acme).List(w.ctx(), connector.Filter{Organization: &hq, IncludeDeleted: true})
			w.ok(err)
			n := 0
			for _, c := range list {
				if !c.Default {
					continue
				}
				if n++; !c.Active || !c.DeletedAt.IsZero() {
					t.Errorf("a default that is not live: %+v", c)
				}
			}
			if n > 1 {
				t.Errorf("%d defaults", n)
			}
		}
		watching.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					watch()
				}
			}
		})
		check := func(what string, err error) {
			if err != nil && !lost(err) {
				t.Errorf("%s: %v", what, err)
			}
		}
		for range 50 {
			race(
				func() { _, err := w.svc.SetDefault(w.ctx(), w.sc, a.ID, 0); check("default a", err) },
				func() { _, err := w.svc.SetDefault(w.ctx(), w.sc, b.ID, 0); check("default b", err) },
				func() {
					_, err := w.svc.Delete(w.ctx(), w.sc, a.ID, connector.DeleteOptions{Version: a.Version, Handover: connector.Handover{AllowNoDefault: true}})
					check("delete a", err)
				},
				func() {
					_, err := w.svc.Deactivate(w.ctx(), w.sc, b.ID, connector.DeactivateOptions{Handover: connector.Handover{Replacement: a.ID}})
					check("deactivate b", err)
				},
			)
			for _, c := range []*connector.Connector{&a, &b} {
				_, err := w.svc.Restore(w.ctx(), w.sc, c.ID, 0)
				w.ok(err)
				_, err = w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{Force: true, Reason: "round"})
				w.ok(err)
				*c = w.get(c.ID)
			}
		}
		close(stop)
		watching.Wait()
		watch()
	})
}
