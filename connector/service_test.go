package connector_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// verbs are all methods on one connector, as a scope would call them.
func verbs(svc *connector.Service, version int64) map[string]func(ctx context.Context, sc connector.Scope, id connector.ID) error {
	name := "renamed"
	return map[string]func(ctx context.Context, sc connector.Scope, id connector.ID) error{
		"Get": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.Get(ctx, sc, id)
			return err
		},
		"History": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.History(ctx, sc, id, 0, 200)
			return err
		},
		"Update": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.Update(ctx, sc, id, version, connector.Edit{Name: &name})
			return err
		},
		"Delete": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.Delete(ctx, sc, id, connector.DeleteOptions{Version: version})
			return err
		},
		"Restore": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.Restore(ctx, sc, id, 0)
			return err
		},
		"TestConnection": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.TestConnection(ctx, sc, id, connector.TestOptions{})
			return err
		},
		"TestDraft": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.TestDraft(ctx, sc, connector.Draft{Params: map[string]any{"host": "one.example"}}, id, connector.TestOptions{})
			return err
		},
		"Activate": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.Activate(ctx, sc, id, connector.ActivateOptions{Force: true, Reason: "r"})
			return err
		},
		"Deactivate": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.Deactivate(ctx, sc, id, connector.DeactivateOptions{})
			return err
		},
		"SetDefault": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.SetDefault(ctx, sc, id, 0)
			return err
		},
		"ClearDefault": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.ClearDefault(ctx, sc, id, connector.ClearOptions{})
			return err
		},
		"ImportConfig": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.ImportConfig(ctx, sc, id, version, map[string]any{"note": "n"})
			return err
		},
		"GetConfig": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.GetConfig(ctx, sc, id, true)
			return err
		},
		"RestoreRevision": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.RestoreRevision(ctx, sc, id, 1, version)
			return err
		},
		"Clone": func(ctx context.Context, sc connector.Scope, id connector.ID) error {
			_, err := svc.Clone(ctx, sc, id, connector.CloneOptions{Name: "copy", Organization: hq})
			return err
		},
	}
}

// Whoever is outside learns nothing, and nothing happens.
func TestScopeIsTheWall(t *testing.T) {
	both(t, func(w *world) {
		inHQ, everywhere := w.create("hq", hq), w.create("tenant-wide", whole)
		before := w.revision()
		for what, row := range map[string]struct {
			sc connector.Scope
			id connector.ID
		}{
			"another tenant":                {connector.Scope{Tenant: globex, AllOrganizations: true, Actor: "mallory"}, inHQ.ID},
			"another organization":          {connector.Scope{Tenant: acme, Organizations: []tenant.OrganizationID{labs, tenant.MustOrganizationID("hq2")}, Actor: "mallory"}, inHQ.ID},
			"no organization":               {connector.Scope{Tenant: acme, Actor: "mallory"}, inHQ.ID},
			"the whole tenant's, bound":     {connector.Scope{Tenant: acme, Organizations: []tenant.OrganizationID{hq, {}}, Actor: "mallory"}, everywhere.ID},
			"one that there never was":      {w.sc, connector.NewID()},
			"the zero id":                   {w.sc, connector.ID{}},
			"an unknown tenant":             {connector.Scope{Tenant: tenant.MustID("nobody"), AllOrganizations: true, Actor: "mallory"}, inHQ.ID},
			"the same id in another tenant": {connector.System(globex), everywhere.ID},
		} {
			for verb, call := range verbs(w.svc, inHQ.Version) {
				if verb == "TestDraft" && row.id.IsZero() {
					continue // a draft of its own
				}
				err := call(w.ctx(), row.sc, row.id)
				w.code(err, fault.NotFound, verb+" on "+what)
				if len(fault.Violations(err)) > 0 {
					w.Errorf("%s on %s tells more: %v", verb, what, err)
				}
			}
		}
		if w.revision() != before || w.lab.last() != nil {
			w.Error("something happened")
		}
		// The others of the scope's own are reached: the wall is no wall to them.
		bound := connector.Scope{Tenant: acme, Organizations: []tenant.OrganizationID{hq}, Actor: "ann"}
		_, err := w.svc.Get(w.ctx(), bound, inHQ.ID)
		w.ok(err)
		page, err := w.svc.List(w.ctx(), bound, connector.ListFilter{})
		w.ok(err)
		if len(page.Items) != 1 || page.Items[0].ID != inHQ.ID {
			w.Errorf("a bound scope lists %d connectors", len(page.Items))
		}
		page, err = w.svc.List(w.ctx(), bound, connector.ListFilter{Organization: &whole})
		w.ok(err)
		if len(page.Items) != 0 {
			w.Error("a bound scope lists the whole tenant's connectors")
		}
		_, err = w.svc.Create(w.ctx(), bound, w.draft("x", labs))
		w.code(err, fault.NotFound, "create for another organization")
		unknown := w.draft("x", tenant.MustOrganizationID("nowhere"))
		_, again := w.svc.Create(w.ctx(), w.sc, unknown)
		if w.code(again, fault.NotFound, "create for an unknown organization"); fault.Message(err) != fault.Message(again) {
			w.Errorf("%q and %q tell them apart", fault.Message(err), fault.Message(again))
		}
		_, err = w.svc.Create(w.ctx(), bound, w.draft("x", whole))
		w.code(err, fault.PermissionDenied, "create for the whole tenant")
		_, err = w.svc.Clone(w.ctx(), bound, inHQ.ID, connector.CloneOptions{Name: "copy", Organization: labs})
		w.code(err, fault.NotFound, "clone into another organization")
		for _, sc := range []connector.Scope{{Tenant: acme, AllOrganizations: true}, {AllOrganizations: true, Actor: "amy"}} {
			_, err = w.svc.Get(w.ctx(), sc, inHQ.ID)
			w.code(err, fault.InvalidArgument, "a scope without actor or tenant")
		}
	})
}

func TestSuspendedTenant(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		w.change(func(ctx context.Context, tx connector.TenantTx) error {
			return tx.UpdateTenant(ctx, func(t *connector.Tenant) error { t.Status = connector.StatusSuspended; return nil })
		})
		for verb, call := range verbs(w.svc, c.Version) {
			w.code(call(w.ctx(), w.sc, c.ID), fault.TenantSuspended, verb)
		}
		operator := w.sc
		operator.Platform = true
		_, err := w.svc.Get(w.ctx(), operator, c.ID)
		w.ok(err)
		_, err = w.svc.Resolve(w.ctx(), operator, hq, providers.Storage)
		w.code(err, fault.TenantSuspended, "resolve, even for the operator")
	})
}

func TestVersionsAreAskedFor(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		for verb, call := range verbs(w.svc, 0) {
			want := fault.Code("")
			if slices.Contains([]string{"Update", "Delete", "ImportConfig", "RestoreRevision"}, verb) {
				want = fault.PreconditionRequired
			} else if verb != "Get" && verb != "History" {
				continue
			}
			w.code(call(w.ctx(), w.sc, c.ID), want, verb+" without a version")
		}
		for verb, call := range verbs(w.svc, c.Version+1) {
			if slices.Contains([]string{"Update", "Delete", "ImportConfig", "RestoreRevision"}, verb) {
				w.code(call(w.ctx(), w.sc, c.ID), fault.StaleVersion, verb+" with another version")
			}
		}
		_, err := w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{Version: 7, Force: true, Reason: "r"})
		w.code(err, fault.StaleVersion, "activate with another version")
		_, err = w.svc.Deactivate(w.ctx(), w.sc, c.ID, connector.DeactivateOptions{Version: 7})
		w.code(err, fault.StaleVersion, "deactivate with another version")
		_, err = w.svc.SetDefault(w.ctx(), w.sc, c.ID, 7)
		w.code(err, fault.StaleVersion, "set default with another version")
		_, err = w.svc.ClearDefault(w.ctx(), w.sc, c.ID, connector.ClearOptions{Version: 7})
		w.code(err, fault.StaleVersion, "clear default with another version")
		if got := w.get(c.ID); got.Version != c.Version {
			w.Errorf("version %d after refusals", got.Version)
		}
	})
}

func TestCreate(t *testing.T) {
	both(t, func(w *world) {
		d := w.draft("Lab", hq)
		d.Kind, d.Category = "laboratory", "storage"
		d.Params = map[string]any{"server": "One.Example", "note": "n", "ratio": 2.0}
		out, err := w.svc.Create(w.ctx(), w.sc, d)
		w.ok(err)
		c := out.Connector
		if c.Kind != "lab" || c.State != connector.StateUntested || c.Active || c.Default || c.Version != 1 || c.Organization != hq || c.ExternalID != "" {
			w.Errorf("created %+v", c)
		}
		if out.Revision != w.revision() {
			w.Errorf("revision %d, the tenant's is %d", out.Revision, w.revision())
		}
		// What is set, under its own name; a default is not written down.
		if len(c.Params) != 3 || c.Params["host"].Writer != connector.WriterAPI || c.Params["note"].Value != "n" {
			w.Errorf("params %+v", c.Params)
		}
		if info := c.Secrets["password"]; len(c.Secrets) != 1 || info.Version != 1 || info.Writer != connector.WriterAPI || info.UpdatedAt.IsZero() {
			w.Errorf("secrets %+v", c.Secrets)
		}
		if b := w.bundle(c); !b.Values["password"].Equal(hidden("first")) || len(b.Values) != 1 {
			w.Errorf("bundle %v", b.Values)
		}
		// Everything at once, nothing written.
		before := w.revision()
		_, err = w.svc.Create(w.ctx(), w.sc, connector.Draft{Kind: "lab", Organization: hq, Default: true, Active: ptr(false),
			Params:  map[string]any{"prot": 1, "port": "x", "password": "p"},
			Secrets: secret.Map{"note": hidden("n"), "token": secret.New("********")}})
		w.violations(err, "a bad draft", "/name required", "/is_default conflict", "/params/prot unknown", "/params/port type",
			"/params/password secret_as_param", "/secrets/note secret_not_wanted", "/secrets/token masked")
		_, err = w.svc.Create(w.ctx(), w.sc, connector.Draft{Name: "x", Kind: "lap", Organization: hq})
		w.violations(err, "an unknown kind", "/kind unknown")
		_, err = w.svc.Create(w.ctx(), w.sc, connector.Draft{Name: "x", Kind: "lab", Category: "email", Organization: hq})
		w.violations(err, "another category", "/category conflict")
		for _, name := range []string{" ", strings.Repeat("x", 201), "a\nb", "a\x00b", "a\xff"} {
			d := w.draft(name, hq)
			if _, err := w.svc.Create(w.ctx(), w.sc, d); fault.CodeOf(err) != fault.InvalidArgument || fault.Violations(err)[0].Pointer != "/name" {
				w.Errorf("name %q: %v", name, err)
			}
		}
		if w.revision() != before {
			w.Error("a refused draft moved the revision")
		}
	})
}

// An inactive connector may be incomplete; it can't become active, and becomes
// untested once it is whole.
func TestDraftState(t *testing.T) {
	both(t, func(w *world) {
		out, err := w.svc.Create(w.ctx(), w.sc, connector.Draft{Name: "d", Kind: "lab", Organization: hq, Params: map[string]any{"note": "n"}})
		w.ok(err)
		c := out.Connector
		if c.State != connector.StateDraft {
			w.Fatalf("state %s", c.State)
		}
		r := w.tested(c.ID)
		if r.OK || r.Code() != providers.CodeConfigIncomplete || !strings.Contains(r.Message, "params/host is required") {
			w.Errorf("%+v", r)
		}
		if got := w.get(c.ID); got.State != connector.StateDraft || got.LastTest == nil {
			w.Errorf("after a test: %s", got.State)
		}
		_, err = w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{Force: true, Reason: "r"})
		w.violations(err, "forced", "/params/host required", "/secrets/password required")
		_, err = w.svc.Create(w.ctx(), w.sc, connector.Draft{Name: "d", Kind: "lab", Organization: hq, Active: ptr(true)})
		w.violations(err, "active at once", "/params/host required", "/secrets/password required")
		out, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: map[string]any{"host": "h.example"}, Secrets: secret.Map{"password": hidden("p")}})
		w.ok(err)
		if out.Connector.State != connector.StateUntested {
			w.Errorf("completed: %s", out.Connector.State)
		}
		cfg, err := w.svc.GetConfig(w.ctx(), w.sc, c.ID, false)
		w.ok(err)
		if cfg.Params["port"] != int64(443) || !cfg.Secrets["password"].Configured || cfg.Secrets["token"].Configured || cfg.Values != nil {
			w.Errorf("%+v", cfg)
		}
	})
}

func TestEdits(t *testing.T) {
	both(t, func(w *world) {
		d := w.draft("a", hq)
		d.Params["note"], d.Params["region"], d.Secrets["token"] = "n", "eu", hidden("token")
		out, err := w.svc.Create(w.ctx(), w.sc, d)
		w.ok(err)
		c := out.Connector
		w.tested(c.ID)
		edit := func(e connector.Edit) connector.Written {
			w.Helper()
			out, err := w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, e)
			w.ok(err)
			c = out.Connector
			return out
		}
		// Nothing changes: no version, no revision, no secret written.
		pin := c.Pin
		edit(connector.Edit{Name: ptr("a"), Kind: ptr("laboratory"), Category: ptr("storage"), Organization: &hq,
			Params: map[string]any{"port": 443.0, "note": "n"}, Secrets: secret.Map{"password": hidden("first")}})
		if c.Version != 2 || c.Params["port"].Value != int64(443) { // a default that is written down is a param, and no other connection
			w.Errorf("version %d, port %v", c.Version, c.Params["port"].Value)
		}
		if c.State != connector.StateConnected || c.Pin != pin {
			w.Errorf("a default written down: %s, new pin %t", c.State, c.Pin != pin)
		}
		before := w.revision()
		if out := edit(connector.Edit{Params: map[string]any{"port": 443}}); c.Version != 2 || out.Revision != before || w.revision() != before {
			w.Errorf("an edit without a change: version %d, revision %d after %d", c.Version, out.Revision, before)
		}
		// A note does not affect the connection; the version moves, the test counts.
		if edit(connector.Edit{Params: map[string]any{"note": nil}}); c.State != connector.StateConnected || c.Version != 3 {
			w.Errorf("a note: %s, version %d", c.State, c.Version)
		}
		if _, there := c.Params["note"]; there {
			w.Error("null does not clear")
		}
		// A secret that affects it does.
		if edit(connector.Edit{Secrets: secret.Map{"password": hidden("second")}}); c.State != connector.StateUntested || c.Pin == pin {
			w.Errorf("a new password: %s", c.State)
		}
		if i := c.Secrets["password"]; i.Version != 2 || c.Secrets["token"].Version != 1 {
			w.Errorf("secret versions %+v", c.Secrets)
		}
		if b := w.bundle(c); !b.Values["password"].Equal(hidden("second")) || !b.Values["token"].Equal(hidden("token")) {
			w.Error("the whole map was not merged")
		}
		// The bundle of before is untouched.
		b, err := w.secrets.Read(w.ctx(), connector.SecretRef{Tenant: acme, Connector: c.ID, Pin: pin})
		w.ok(err)
		if !b.Values["password"].Equal(hidden("first")) {
			w.Error("an old pin was written to")
		}
		if edit(connector.Edit{Secrets: secret.Map{"token": {}}}); len(c.Secrets) != 1 || w.bundle(c).Values["token"].IsSet() {
			w.Errorf("null does not clear a secret: %v", c.Secrets)
		}
		// PUT: omitted params take their defaults, omitted secrets keep.
		if edit(connector.Edit{Name: ptr("b"), Replace: true, Params: map[string]any{"host": "one.example", "region": "eu"}}); len(c.Params) != 2 || c.Name != "b" || c.Secrets["password"].Version != 2 {
			w.Errorf("replaced: %+v", c)
		}
		_, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Replace: true, Kind: ptr("plain"), Category: ptr("email"), Organization: &labs,
			Params: map[string]any{"host": "one.example", "region": "us"}})
		w.violations(err, "what never changes", "/name required", "/kind immutable", "/category immutable", "/organization_id immutable", "/params/region immutable")
		_, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: map[string]any{"server": "", "prot": nil}})
		w.violations(err, "an unknown name", "/params/prot unknown")
		for _, r := range must(w.svc.History(w.ctx(), w.sc, c.ID, 0, 200))(w) {
			if strings.Contains(fmt.Sprintf("%+v", r), canary) {
				w.Error("history holds a secret")
			}
		}
	})
}

func must[T any](v T, err error) func(w *world) T {
	return func(w *world) T { w.Helper(); w.ok(err); return v }
}

// What is active stays whole.
func TestActiveIsNeverIncomplete(t *testing.T) {
	both(t, func(w *world) {
		c := w.live("a", hq, false)
		_, err := w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Secrets: secret.Map{"password": {}}})
		w.violations(err, "without its password", "/secrets/password required")
		_, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: map[string]any{"host": nil}})
		w.violations(err, "without its host", "/params/host required")
		if got := w.get(c.ID); got.Version != c.Version {
			w.Errorf("%+v", got)
		}
	})
}

// What an import brought stays remembered through every edit, for params and for
// secrets, also for those that go.
func TestEditsKeepWhatTheImportBrought(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		pin := w.svcPin(c, connector.Bundle{Values: secret.Map{"password": hidden("first"), "token": hidden("t")},
			Imported: map[string]string{"password": "digest-1", "token": "digest-2"}})
		c = w.alter(c.ID, func(c *connector.Connector) {
			c.Pin = pin
			c.Secrets["token"] = connector.SecretInfo{Version: 1, Writer: connector.WriterImport}
			c.Params["note"] = connector.Param{Value: "file", Imported: "file", Writer: connector.WriterImport}
		})
		out, err := w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{
			Params: map[string]any{"note": nil}, Secrets: secret.Map{"password": hidden("mine"), "token": {}}})
		w.ok(err)
		c = out.Connector
		if p := c.Params["note"]; p.Value != nil || p.Imported != "file" || p.Writer != connector.WriterAPI {
			w.Errorf("cleared: %+v", p)
		}
		b := w.bundle(c)
		if b.Imported["password"] != "digest-1" || b.Imported["token"] != "digest-2" || len(b.Values) != 1 {
			w.Errorf("remembered: %v, values %v", b.Imported, b.Values.Names())
		}
		// A move to another host voids the rest, and the file must not send it there.
		out, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: map[string]any{"host": "two.example"}})
		w.ok(err)
		if b := w.bundle(out.Connector); len(b.Values) != 0 || b.Imported["password"] != "digest-1" || len(out.Connector.Secrets) != 0 {
			w.Errorf("after a move: %v %v", b.Values.Names(), b.Imported)
		}
	})
}

// svcPin writes a bundle past the service.
func (w *world) svcPin(c connector.Connector, b connector.Bundle) connector.Pin {
	w.Helper()
	pin := vault.NewPin()
	w.ok(w.secrets.Write(w.ctx(), connector.SecretRef{Tenant: acme, Connector: c.ID, Pin: pin}, b))
	return pin
}

// A stored secret never goes to a place that it was not meant for.
func TestBoundSecrets(t *testing.T) {
	both(t, func(w *world) {
		for name, row := range map[string]struct {
			params map[string]any
			bound  []string // of password and token
		}{
			"another host":              {map[string]any{"host": "evil.example"}, []string{"password", "token"}},
			"another host by its alias": {map[string]any{"server": "evil.example"}, []string{"password", "token"}},
			"another port":              {map[string]any{"port": 8443}, []string{"password"}},
			"a cleared port":            {map[string]any{"port": nil}, []string{"password"}},
			"without tls":               {map[string]any{"tls": false}, []string{"password"}},
			"where there was none":      {map[string]any{"proxy": "evil.example"}, []string{"password"}},
			"the same":                  {map[string]any{"host": "one.example", "port": 444, "tls": true}, nil},
		} {
			d := w.draft(name, hq)
			d.Params["port"], d.Secrets["token"] = 444, hidden("token")
			out, err := w.svc.Create(w.ctx(), w.sc, d)
			w.ok(err)
			c := out.Connector
			w.tested(c.ID)
			_, err = w.svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
			w.ok(err)
			c = w.get(c.ID)
			var want []string
			for _, b := range row.bound {
				want = append(want, "/secrets/"+b+" secret_required")
			}
			_, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: row.params})
			if len(want) == 0 {
				w.ok(err)
				continue
			}
			w.code(err, fault.SecretRequired, name)
			w.violations(err, name, want...)
			if got := w.get(c.ID); got.Version != c.Version || got.Pin != c.Pin {
				w.Errorf("%s: changed although refused", name)
			}
			if e := w.audited("connector.update", c.ID); len(e) == 0 || e[0].Outcome != "secret_required" || len(e[0].Fields) != 1 {
				w.Errorf("%s: audited as %+v", name, e)
			}
			// Inactive in the same breath does not help.
			_, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: row.params, Active: ptr(false)})
			w.code(err, fault.SecretRequired, name+", deactivating")
			// A draft's test with the id gets none of them either.
			params := map[string]any{"host": "one.example", "port": 444}
			for k, v := range row.params {
				if delete(params, map[string]string{"server": "host"}[k]); v != nil {
					params[k] = v
				} else {
					delete(params, k)
				}
			}
			_, err = w.svc.TestDraft(w.ctx(), w.sc, connector.Draft{Params: params}, c.ID, connector.TestOptions{})
			w.violations(err, name+", draft", "/secrets/password secret_required")
			r, err := w.svc.TestDraft(w.ctx(), w.sc, connector.Draft{Params: params, Secrets: secret.Map{"password": hidden("typed")}}, c.ID, connector.TestOptions{})
			w.ok(err)
			seen := w.lab.last()
			if !seen["password"].Equal(hidden("typed")) || seen["token"].IsSet() == slices.Contains(row.bound, "token") {
				w.Errorf("%s: the draft's test got %v", name, seen.Names())
			}
			if slices.Contains(r.Withheld, "token") != slices.Contains(row.bound, "token") {
				w.Errorf("%s: withheld %v", name, r.Withheld)
			}
			// With all that is bound the change is made.
			given := secret.Map{}
			for _, b := range row.bound {
				given[b] = hidden("new-" + b)
			}
			out, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: row.params, Secrets: given})
			w.ok(err)
			if len(out.Voided) != 0 || !w.bundle(out.Connector).Values["password"].Equal(hidden("new-password")) {
				w.Errorf("%s: voided %v", name, out.Voided)
			}
			// Inactive: voided, named, gone.
			_, err = w.svc.Deactivate(w.ctx(), w.sc, c.ID, connector.DeactivateOptions{})
			w.ok(err)
			c = w.get(c.ID)
			out, err = w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: map[string]any{"host": "third.example", "port": 1}})
			w.ok(err)
			if !slices.Equal(out.Voided, []string{"password", "token"}) || len(out.Connector.Secrets) != 0 || out.Connector.State != connector.StateDraft || !out.Connector.Pin.IsZero() {
				w.Errorf("%s: inactive: voided %v, %+v", name, out.Voided, out.Connector)
			}
		}
	})
}

// A mode switch that hides the host, and one that brings it back, are changes.
func TestBoundSecretsOfAHiddenParam(t *testing.T) {
	both(t, func(w *world) {
		r, err := w.svc.TestDraft(w.ctx(), w.sc, w.draft("x", hq), connector.ID{}, connector.TestOptions{})
		w.ok(err)
		if !r.OK || r.Version != 0 || len(must(w.svc.List(w.ctx(), w.sc, connector.ListFilter{}))(w).Items) != 0 {
			w.Errorf("%+v", r)
		}
		c := w.create("a", hq)
		_, err = w.svc.TestDraft(w.ctx(), w.sc, connector.Draft{Kind: "plain"}, c.ID, connector.TestOptions{})
		w.violations(err, "another kind", "/kind immutable")
		before := w.get(c.ID)
		_, err = w.svc.TestDraft(w.ctx(), w.sc, connector.Draft{Params: map[string]any{"host": "one.example"}}, c.ID, connector.TestOptions{})
		w.ok(err)
		if !w.lab.last()["password"].Equal(hidden("first")) {
			w.Error("the stored secret did not stand in")
		}
		after := w.get(c.ID)
		if after.LastTest != nil || after.State != before.State || after.Version != before.Version {
			w.Error("a draft's test was recorded")
		}
		_, err = w.svc.TestDraft(w.ctx(), w.sc, connector.Draft{Params: map[string]any{"host": "one.example"}, Secrets: secret.Map{"password": {}}}, c.ID, connector.TestOptions{})
		w.violations(err, "a cleared secret", "/secrets/password required")
	})
}

// An upgrade of the kind between two builds is made by the next edit.
func TestEditsUpgrade(t *testing.T) {
	both(t, func(w *world) {
		d := w.draft("a", hq)
		d.Params["note"], d.Secrets["token"] = "n", hidden("token")
		out, err := w.svc.Create(w.ctx(), w.sc, d)
		w.ok(err)
		c := out.Connector
		w.lab = newLab(2)
		svc := w.service(nil)
		cfg, err := svc.GetConfig(w.ctx(), w.sc, c.ID, true)
		w.ok(err)
		if cfg.Params["remark"] != "n" || !cfg.Values["bearer"].Equal(hidden("token")) {
			w.Errorf("%v %v", cfg.Params, cfg.Values)
		}
		out, err = svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: map[string]any{"ratio": 0.5}})
		w.ok(err)
		c = out.Connector
		if c.SchemaVersion != 2 || c.Params["remark"].Value != "n" || c.Secrets["bearer"].Version != 1 || len(c.Secrets) != 2 || len(c.Params) != 3 {
			w.Errorf("%+v", c)
		}
		if b := w.bundle(c); !b.Values["bearer"].Equal(hidden("token")) || len(b.Values) != 2 {
			w.Errorf("%v", b.Values)
		}
		// Back to what the old build wrote.
		out, err = svc.RestoreRevision(w.ctx(), w.sc, c.ID, 1, c.Version)
		w.ok(err)
		c = out.Connector
		if _, ratio := c.Params["ratio"]; ratio || c.Params["remark"].Value != "n" || c.SchemaVersion != 2 || !w.bundle(c).Values["bearer"].Equal(hidden("token")) {
			w.Errorf("restored %+v", c)
		}
	})
}

func TestImportConfig(t *testing.T) {
	both(t, func(w *world) {
		c := w.live("a", hq, false)
		file := map[string]any{"lab": map[string]any{"port": "443", "note": "from the file", "ratio": nil}}
		out, err := w.svc.ImportConfig(w.ctx(), w.sc, c.ID, c.Version, file)
		w.ok(err)
		c = out.Connector
		if c.Params["note"].Value != "from the file" || c.Params["host"].Value != "one.example" || c.Params["port"].Value != int64(443) || c.Secrets["password"].Version != 1 {
			w.Errorf("%+v", c)
		}
		if out, err = w.svc.ImportConfig(w.ctx(), w.sc, c.ID, c.Version, map[string]any{"note": nil, "token": nil}); err != nil || out.Connector.Params["note"].Value == nil {
			w.Errorf("a file's null clears: %v", err)
		}
		_, err = w.svc.ImportConfig(w.ctx(), w.sc, c.ID, c.Version, map[string]any{"server": "two.example"})
		w.violations(err, "another host", "/secrets/password secret_required")
		out, err = w.svc.ImportConfig(w.ctx(), w.sc, c.ID, c.Version, map[string]any{"server": "two.example", "password": hidden("two").Reveal()})
		w.ok(err)
		c = out.Connector
		if !w.bundle(c).Values["password"].Equal(hidden("two")) || c.State != connector.StateUntested {
			w.Errorf("%s", c.State)
		}
		_, err = w.svc.ImportConfig(w.ctx(), w.sc, c.ID, c.Version, map[string]any{"nonsense": 1})
		w.violations(err, "nonsense", "/params/nonsense unknown")
		if e := w.audited("connector.import_config", c.ID); len(e) != 3 || e[0].Outcome != "ok" || e[1].Outcome != "secret_required" {
			w.Errorf("%+v", e)
		}
		w.lab.hooks(func(context.Context, string, providers.Config) error { return errBoom })
		_, err = w.svc.ImportConfig(w.ctx(), w.sc, c.ID, c.Version, file)
		if fault.CodeOf(err) != fault.InvalidArgument || strings.Contains(fault.Message(err), canary) {
			w.Errorf("a file that the kind can't read: %v", err)
		}
		w.lab.hooks(func(context.Context, string, providers.Config) error { panic(errBoom) })
		_, err = w.svc.ImportConfig(w.ctx(), w.sc, c.ID, c.Version, file)
		w.code(err, fault.Internal, "a kind that panics")
	})
}

func TestGetConfigRevealsOnlyWhatIsAudited(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		masked, err := w.svc.GetConfig(w.ctx(), w.sc, c.ID, false)
		w.ok(err)
		if s := masked.Secrets["password"]; masked.Values != nil || !s.Configured || s.Version != 1 || s.UpdatedAt.IsZero() || len(masked.Secrets) != 2 {
			w.Errorf("%+v", masked)
		}
		if len(w.audited("connector.secrets_read", c.ID)) != 0 {
			w.Error("a masked read is audited as a read of secrets")
		}
		open, err := w.svc.GetConfig(w.ctx(), w.sc, c.ID, true)
		w.ok(err)
		if !open.Values["password"].Equal(hidden("first")) {
			w.Error("not revealed")
		}
		if e := w.audited("connector.secrets_read", c.ID); len(e) != 1 || e[0].Actor != w.sc.Actor || e[0].RequestID != "req-1" || !slices.Equal(e[0].Fields, []string{"secrets.password"}) {
			w.Errorf("%+v", e)
		}
		mute := w.service(func(o *connector.ServiceOptions) { o.Store = unaudited{w.store} })
		got, err := mute.GetConfig(w.ctx(), w.sc, c.ID, true)
		if w.code(err, fault.Unavailable, "without an audit"); got.Values != nil || got.Params != nil {
			w.Error("revealed without an audit entry")
		}
		w.alter(c.ID, func(c *connector.Connector) { c.Active, c.Default = true, true })
		res, err := mute.Resolve(w.ctx(), w.sc, hq, providers.Storage)
		if w.code(err, fault.Unavailable, "resolve without an audit"); res.Backend.Secrets != nil {
			w.Error("resolved without an audit entry")
		}
	})
}

// unaudited is a store whose audit is away.
type unaudited struct{ connector.Store }

func (unaudited) RecordAudit(context.Context, tenant.ID, string, string, connector.AuditEntry) error {
	return fault.New(fault.Unavailable, "no audit today")
}

func TestResolveAndExplain(t *testing.T) {
	both(t, func(w *world) {
		_, err := w.svc.Resolve(w.ctx(), w.sc, hq, providers.Storage)
		w.code(err, fault.NoDefaultConnector, "nothing")
		wide := w.live("wide", whole, true)
		own, idle, off := w.live("own", hq, true), w.live("idle", hq, false), w.create("off", hq)
		res, err := w.svc.Resolve(w.ctx(), w.sc, hq, providers.Storage)
		w.ok(err)
		if res.Connector.ID != own.ID || res.Inherited || !res.Backend.Secrets["password"].Equal(hidden("first")) || res.Backend.Params["port"] != int64(443) || res.Revision != w.revision() {
			w.Errorf("%+v", res)
		}
		res, err = w.svc.Resolve(w.ctx(), w.sc, labs, providers.Storage)
		w.ok(err)
		if res.Connector.ID != wide.ID || !res.Inherited {
			w.Errorf("labs: %s", res.Connector.Name)
		}
		reasons := func(sc connector.Scope, org tenant.OrganizationID) map[connector.ID]connector.Reason {
			w.Helper()
			x, err := w.svc.Explain(w.ctx(), sc, org, providers.Storage)
			w.ok(err)
			out := map[connector.ID]connector.Reason{}
			for _, c := range x.Candidates {
				out[c.ID] = c.Reason
			}
			if strings.Contains(fmt.Sprintf("%+v", x), canary) {
				w.Error("an explanation holds a secret")
			}
			return out
		}
		want := map[connector.ID]connector.Reason{own.ID: connector.ReasonAnswers, idle.ID: connector.ReasonNotDefault, off.ID: connector.ReasonInactive, wide.ID: connector.ReasonOverridden}
		if got := reasons(w.sc, hq); fmt.Sprint(got) != fmt.Sprint(want) {
			w.Errorf("%v, want %v", got, want)
		}
		if got := reasons(w.sc, whole); len(got) != 1 || got[wide.ID] != connector.ReasonAnswers {
			w.Errorf("%v", got)
		}
		bound := connector.Scope{Tenant: acme, Organizations: []tenant.OrganizationID{labs}, Actor: "lee"}
		if got := reasons(bound, labs); len(got) != 1 || got[wide.ID] != connector.ReasonAnswers {
			w.Errorf("%v", got)
		}
		bound.Organizations = []tenant.OrganizationID{hq}
		if got := reasons(bound, hq); len(got) != 3 || got[wide.ID] != "" {
			w.Errorf("a bound scope is told of %v", got)
		}
		_, err = w.svc.Explain(w.ctx(), bound, labs, providers.Storage)
		w.code(err, fault.NotFound, "another organization")
		_, err = w.svc.Resolve(w.ctx(), bound, labs, providers.Storage)
		w.code(err, fault.NotFound, "another organization")
		_, err = w.svc.Resolve(w.ctx(), w.sc, hq, "nonsense")
		w.code(err, fault.UnknownCategory, "an unknown category")
		w.change(func(ctx context.Context, tx connector.TenantTx) error {
			return tx.PutOrganization(ctx, connector.Organization{ID: hq, Name: "HQ"})
		})
		_, err = w.svc.Resolve(w.ctx(), w.sc, hq, providers.Storage)
		w.code(err, fault.PermissionDenied, "a deactivated organization")
		if got := reasons(w.sc, hq); got[own.ID] != connector.ReasonBlocked {
			w.Errorf("%v", got)
		}
	})
}

func TestListPages(t *testing.T) {
	both(t, func(w *world) {
		var all []connector.ID
		for i := range 12 {
			org := []tenant.OrganizationID{hq, labs, whole}[i%3]
			all = append(all, w.create(fmt.Sprintf("Number %02d", i), org).ID)
		}
		plain, err := w.svc.Create(w.ctx(), w.sc, connector.Draft{Name: "Plain", Kind: "plain", Organization: hq})
		w.ok(err)
		walk := func(sc connector.Scope, f connector.ListFilter) (ids []connector.ID) {
			w.Helper()
			for {
				page, err := w.svc.List(w.ctx(), sc, f)
				w.ok(err)
				if len(page.Items) > f.Limit {
					w.Fatalf("a page of %d", len(page.Items))
				}
				for _, c := range page.Items {
					ids = append(ids, c.ID)
				}
				if page.Next.IsZero() {
					return ids
				}
				f.After = page.Next
			}
		}
		if got := walk(w.sc, connector.ListFilter{Limit: 5}); len(got) != 13 {
			w.Errorf("%d", len(got))
		}
		two := connector.Scope{Tenant: acme, Organizations: []tenant.OrganizationID{hq, labs}, Actor: "ann"}
		if got := walk(two, connector.ListFilter{Limit: 3, Kind: "laboratory"}); len(got) != 8 {
			w.Errorf("two organizations: %d", len(got))
		}
		for what, row := range map[string]struct {
			f connector.ListFilter
			n int
		}{
			"category":  {connector.ListFilter{Category: providers.Email}, 0},
			"kind":      {connector.ListFilter{Kind: "plain"}, 1},
			"state":     {connector.ListFilter{State: connector.StateUntested}, 13},
			"default":   {connector.ListFilter{Default: ptr(true)}, 0},
			"query":     {connector.ListFilter{Query: "nUMBER 0"}, 10},
			"query id":  {connector.ListFilter{Query: all[0].String()}, 1},
			"wide":      {connector.ListFilter{Organization: &whole}, 4},
			"deleted":   {connector.ListFilter{Deleted: true}, 0},
			"unrelated": {connector.ListFilter{Query: canary}, 0},
		} {
			row.f.Limit = 200
			if got := walk(w.sc, row.f); len(got) != row.n {
				w.Errorf("%s: %d, want %d", what, len(got), row.n)
			}
		}
		_, err = w.svc.Delete(w.ctx(), w.sc, plain.Connector.ID, connector.DeleteOptions{Version: 1})
		w.ok(err)
		if got := walk(w.sc, connector.ListFilter{Limit: 9, Deleted: true}); len(got) != 1 {
			w.Errorf("deleted: %d", len(got))
		}
		for _, limit := range []int{-1, 201} {
			_, err := w.svc.List(w.ctx(), w.sc, connector.ListFilter{Limit: limit})
			w.code(err, fault.InvalidArgument, "a limit out of bounds")
		}
	})
}

func TestClone(t *testing.T) {
	both(t, func(w *world) {
		c := w.live("a", hq, true)
		out, err := w.svc.Clone(w.ctx(), w.sc, c.ID, connector.CloneOptions{Name: "copy", Organization: labs})
		w.ok(err)
		n := out.Connector
		if n.ID == c.ID || n.Active || n.Default || n.State != connector.StateUntested || n.Organization != labs || n.Params["host"].Value != "one.example" || n.Secrets["password"].Version != 1 {
			w.Errorf("%+v", n)
		}
		if !w.bundle(n).Values["password"].Equal(hidden("first")) || n.Pin == c.Pin {
			w.Error("the secrets did not come along, to a path of their own")
		}
		if got := w.get(c.ID); got.Version != c.Version {
			w.Error("the original moved")
		}
	})
}

func TestRestoreRevision(t *testing.T) {
	both(t, func(w *world) {
		c := w.live("a", hq, true)
		pin := w.svcPin(c, connector.Bundle{Values: secret.Map{"password": hidden("first")}, Imported: map[string]string{"password": "digest"}})
		c = w.alter(c.ID, func(c *connector.Connector) { c.Pin = pin }) // an import agreed
		good := c.Version
		out, err := w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Name: ptr("b"),
			Params: map[string]any{"host": "two.example", "note": "x"}, Secrets: secret.Map{"password": hidden("second"), "token": hidden("t")}})
		w.ok(err)
		c = out.Connector
		out, err = w.svc.RestoreRevision(w.ctx(), w.sc, c.ID, 1, c.Version)
		w.ok(err)
		c = out.Connector
		if c.Name != "a" || c.Params["host"].Value != "one.example" || len(c.Params) != 1 || !c.Active || !c.Default || c.State != connector.StateUntested {
			w.Errorf("%+v", c)
		}
		b := w.bundle(c)
		if !b.Values["password"].Equal(hidden("first")) || len(b.Values) != 1 || b.Imported["password"] != "digest" {
			w.Errorf("%v %v", b.Values, b.Imported)
		}
		if c.Secrets["password"].Version != 3 || len(c.Secrets) != 1 {
			w.Errorf("%+v", c.Secrets)
		}
		before := w.revision()
		if out, err = w.svc.RestoreRevision(w.ctx(), w.sc, c.ID, good, c.Version); err != nil || out.Connector.Version != c.Version || w.revision() != before {
			w.Errorf("what is there already: %v, version %d", err, out.Connector.Version)
		}
		_, err = w.svc.RestoreRevision(w.ctx(), w.sc, c.ID, 99, c.Version)
		w.code(err, fault.NotFound, "an unknown revision")
		history, err := w.svc.History(w.ctx(), w.sc, c.ID, 0, 200)
		w.ok(err)
		for _, r := range history {
			if r.Version == 3 {
				w.ok(w.secrets.Delete(w.ctx(), connector.SecretRef{Tenant: acme, Connector: c.ID, Pin: r.Connector.Pin}))
			}
		}
		_, err = w.svc.RestoreRevision(w.ctx(), w.sc, c.ID, 3, c.Version)
		w.code(err, fault.Conflict, "secrets that are gone")
	})
}

func TestServiceNeedsItsParts(t *testing.T) {
	t.Parallel()
	if _, err := connector.NewService(connector.ServiceOptions{}); fault.CodeOf(err) != fault.InvalidArgument {
		t.Error(err)
	}
}

// A write that loses its race leaves nothing half-done but a bundle for the sweeper.
func TestLostRaceLeavesNothing(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		racing := w.service(func(o *connector.ServiceOptions) {
			o.Secrets = overtaken{o.Secrets, func() { w.alter(c.ID, func(c *connector.Connector) { c.Name = "theirs" }) }}
		})
		_, err := racing.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Name: ptr("mine"), Secrets: secret.Map{"password": hidden("mine")}})
		w.code(err, fault.StaleVersion, "overtaken")
		if got := w.get(c.ID); got.Name != "theirs" || got.Pin != c.Pin || got.Secrets["password"].Version != 1 {
			w.Errorf("%+v", got)
		}
	})
}

// overtaken lets somebody else write while the secrets are being written.
type overtaken struct {
	connector.Secrets
	first func()
}

func (o overtaken) Write(ctx context.Context, ref connector.SecretRef, b connector.Bundle) error {
	o.first()
	return o.Secrets.Write(ctx, ref, b)
}

// late is a secret store that takes longer than a transaction may wait for it.
func TestSecretsAreWrittenBeforeTheirTransaction(t *testing.T) {
	both(t, func(w *world) {
		slow := w.service(func(o *connector.ServiceOptions) {
			o.Now = func() time.Time { return time.Now().Add(-2 * connector.MaxSecretAge) }
		})
		_, err := slow.Create(w.ctx(), w.sc, w.draft("a", hq))
		w.code(err, fault.DeadlineExceeded, "a transaction long after its secrets")
	})
}
