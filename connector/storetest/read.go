package storetest

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

var (
	unknown    = tenant.MustID("nobody")
	unknownOrg = tenant.MustOrganizationID("nowhere")
)

func list(w *world) {
	mk := func(org tenant.OrganizationID, category providers.Category, kind providers.Kind, external string) connector.Connector {
		c := draft(org, category)
		c.Kind, c.ExternalID = kind, external
		return w.insert(w.a, c)
	}
	s3 := mk(w.hq, providers.Storage, "s3", "one")
	drive := mk(wholeTenant, providers.Storage, "google_drive", "")
	smtp := mk(w.lab, providers.Email, "smtp", "two")
	gone := mk(w.hq, providers.Email, "smtp", "three")
	gone = w.update(w.a, gone, func(c *connector.Connector) { c.DeletedAt = moment })
	w.insert(w.b, draft(w.hq, providers.Storage))
	broken := mk(w.lab, providers.Messaging, "slack", "")
	broken = w.update(w.a, broken, func(c *connector.Connector) { c.State = connector.StateError })
	first := live(w.lab, providers.Webhook)
	first = w.insert(w.a, first)
	yes, no := true, false
	ids := []connector.ID{s3.ID, drive.ID, smtp.ID, gone.ID, broken.ID, first.ID}
	slices.SortFunc(ids, func(a, b connector.ID) int { return strings.Compare(a.String(), b.String()) })
	none := wholeTenant
	for _, row := range []struct {
		name   string
		filter connector.Filter
		want   []connector.ID
	}{
		{"living", connector.Filter{}, []connector.ID{s3.ID, drive.ID, smtp.ID, broken.ID, first.ID}},
		{"deleted", connector.Filter{Deleted: true}, []connector.ID{gone.ID}},
		{"state", connector.Filter{State: connector.StateError}, []connector.ID{broken.ID}},
		{"defaults", connector.Filter{Default: &yes}, []connector.ID{first.ID}},
		{"no defaults", connector.Filter{Default: &no}, []connector.ID{s3.ID, drive.ID, smtp.ID, broken.ID}},
		{"bound", connector.Filter{Bound: true, Organizations: []tenant.OrganizationID{w.hq}}, []connector.ID{s3.ID}},
		{"bound to two", connector.Filter{Bound: true, Organizations: []tenant.OrganizationID{w.hq, w.lab}}, []connector.ID{s3.ID, smtp.ID, broken.ID, first.ID}},
		{"bound, deleted", connector.Filter{Bound: true, Organizations: []tenant.OrganizationID{w.hq}, Deleted: true}, []connector.ID{gone.ID}},
		{"bound to nothing", connector.Filter{Bound: true}, nil},
		{"bound, another organization", connector.Filter{Bound: true, Organizations: []tenant.OrganizationID{w.hq}, Organization: &w.lab}, nil},
		{"deleted too", connector.Filter{IncludeDeleted: true}, ids},
		{"category", connector.Filter{Category: providers.Storage}, []connector.ID{s3.ID, drive.ID}},
		{"kind", connector.Filter{Kind: "smtp"}, []connector.ID{smtp.ID}},
		{"organization", connector.Filter{Organization: &w.hq}, []connector.ID{s3.ID}},
		{"tenant-wide", connector.Filter{Organization: &none}, []connector.ID{drive.ID}},
		{"external id", connector.Filter{ExternalID: "two"}, []connector.ID{smtp.ID}},
		{"deleted external id", connector.Filter{ExternalID: "three"}, nil},
		{"several at once", connector.Filter{Category: providers.Storage, Kind: "s3", Organization: &w.hq, ExternalID: "one"}, []connector.ID{s3.ID}},
		{"nothing matches", connector.Filter{Category: providers.AI}, nil},
		{"after", connector.Filter{IncludeDeleted: true, After: ids[1]}, ids[2:]},
		{"limit", connector.Filter{IncludeDeleted: true, Limit: 2}, ids[:2]},
		{"after and limit", connector.Filter{IncludeDeleted: true, After: ids[0], Limit: 2}, ids[1:3]},
		{"after the last", connector.Filter{IncludeDeleted: true, After: ids[5]}, nil},
	} {
		got, err := w.store.Tenant(w.a).List(w.ctx(), row.filter)
		w.ok(err, row.name)
		var gotIDs []connector.ID
		for _, c := range got {
			gotIDs = append(gotIDs, c.ID)
		}
		want := slices.Clone(row.want)
		slices.SortFunc(want, func(a, b connector.ID) int { return strings.Compare(a.String(), b.String()) })
		if !slices.Equal(gotIDs, want) {
			w.Errorf("%s: got %v, want %v", row.name, gotIDs, want)
		}
	}
	// Values are the caller's own.
	got, err := w.store.Tenant(w.a).List(w.ctx(), connector.Filter{ExternalID: "one"})
	w.ok(err, "list")
	got[0].Name = "scribbled"
	if w.stored(w.a, s3.ID).Name != "Draft" {
		w.Error("a returned value is shared")
	}
}

// listSearch looks for text that holds what other searches read as a wildcard, and
// letters that not every database knows the cases of.
func listSearch(w *world) {
	names := []string{"100% Über_Mail", "100 percent", `a[b]*c?d\e`, "İstanbul", "plain (x|y)"}
	ids := map[string]string{}
	for _, name := range names {
		c := draft(w.hq, providers.Email)
		c.Name, c.Kind = name, "smtp"
		if name == "plain (x|y)" {
			c.ExternalID, c.Kind = "External.One", "sendgrid"
		}
		ids[w.insert(w.a, c).ID.String()] = name
	}
	var one string
	for id, name := range ids {
		if name == "İstanbul" {
			one = id
		}
	}
	for query, want := range map[string][]string{
		"über": {names[0]}, "ÜBER_m": {names[0]}, "0% ": {names[0]}, "100 P": {names[1]}, "100%": {names[0]}, "_": {names[0]}, "%": {names[0]},
		"[B]*C": {names[2]}, "?D": {names[2]}, `\E`: {names[2]}, "*": {names[2]}, "x|y": {names[4]}, "(x": {names[4]}, ".": {names[4]},
		"İST": {names[3]}, "EXTERNAL.one": {names[4]}, "SMTP": names[:4], "sendGRID": {names[4]}, one: {names[3]}, strings.ToUpper(one[9:]): {names[3]},
		"nowhere": nil, "^a": nil, "d$": nil, "1.0": nil,
	} {
		got, err := w.store.Tenant(w.a).List(w.ctx(), connector.Filter{Query: query})
		w.ok(err, query)
		var found []string
		for _, c := range got {
			found = append(found, c.Name)
		}
		want = slices.Clone(want)
		slices.Sort(found)
		slices.Sort(want)
		if !slices.Equal(found, want) {
			w.Errorf("%q finds %q, want %q", query, found, want)
		}
	}
	for _, query := range []string{"\x00", "\xff"} {
		_, err := w.store.Tenant(w.a).List(w.ctx(), connector.Filter{Query: query})
		w.code(err, fault.InvalidArgument, "what no text holds")
	}
}

func listOrganizations(w *world) {
	off := tenant.MustOrganizationID("off")
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.PutOrganization(ctx, connector.Organization{ID: off, Name: "Closed [Shop]"})
	})
	yes, no := true, false
	for _, row := range []struct {
		name   string
		filter connector.OrganizationFilter
		want   []tenant.OrganizationID
	}{
		{"all", connector.OrganizationFilter{}, []tenant.OrganizationID{w.hq, w.lab, off}},
		{"active", connector.OrganizationFilter{Active: &yes}, []tenant.OrganizationID{w.hq, w.lab}},
		{"inactive", connector.OrganizationFilter{Active: &no}, []tenant.OrganizationID{off}},
		{"search", connector.OrganizationFilter{Query: "D [sh"}, []tenant.OrganizationID{off}},
		{"search an id", connector.OrganizationFilter{Query: "HQ"}, []tenant.OrganizationID{w.hq}},
		{"bound", connector.OrganizationFilter{Bound: true, Organizations: []tenant.OrganizationID{off, unknownOrg}}, []tenant.OrganizationID{off}},
		{"bound to nothing", connector.OrganizationFilter{Bound: true}, nil},
		{"after", connector.OrganizationFilter{After: w.hq}, []tenant.OrganizationID{w.lab, off}},
		{"after and limit", connector.OrganizationFilter{After: w.hq, Limit: 1}, []tenant.OrganizationID{w.lab}},
	} {
		got, err := w.store.Tenant(w.a).Organizations(w.ctx(), row.filter)
		w.ok(err, row.name)
		var ids []tenant.OrganizationID
		for _, o := range got {
			ids = append(ids, o.ID)
		}
		if !slices.Equal(ids, row.want) {
			w.Errorf("%s: %v, want %v", row.name, ids, row.want)
		}
	}
	if got, err := w.store.Tenant(w.b).Organizations(w.ctx(), connector.OrganizationFilter{Bound: true, Organizations: []tenant.OrganizationID{off}}); err != nil || len(got) != 0 {
		w.Errorf("another tenant's: %v, %v", got, err)
	}
}

func listTenants(w *world) {
	w.change(w.b, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.UpdateTenant(ctx, func(t *connector.Tenant) error {
			t.Name, t.Status = "Ä 100%", connector.StatusSuspended
			return nil
		})
	})
	for _, row := range []struct {
		name   string
		filter connector.TenantFilter
		want   []tenant.ID
	}{
		{"all", connector.TenantFilter{}, []tenant.ID{w.a, w.b}},
		{"status", connector.TenantFilter{Status: connector.StatusSuspended}, []tenant.ID{w.b}},
		{"search", connector.TenantFilter{Query: "ä 100%"}, []tenant.ID{w.b}},
		{"search an id", connector.TenantFilter{Query: "ACM"}, []tenant.ID{w.a}},
		{"nothing", connector.TenantFilter{Query: "_"}, nil},
		{"limit", connector.TenantFilter{Limit: 1}, []tenant.ID{w.a}},
		{"after", connector.TenantFilter{After: w.a, Limit: 1}, []tenant.ID{w.b}},
	} {
		got, err := w.store.Tenants(w.ctx(), row.filter)
		w.ok(err, row.name)
		var ids []tenant.ID
		for _, t := range got {
			ids = append(ids, t.ID)
		}
		if !slices.Equal(ids, row.want) {
			w.Errorf("%s: %v, want %v", row.name, ids, row.want)
		}
	}
}

// answers checks a snapshot's connector and whether it is inherited. The zero
// id stands for no connector.
func (w *world) answers(doing string, s connector.Snapshot, want connector.ID, inherited bool) {
	w.Helper()
	var got connector.ID
	if s.Connector != nil {
		got = s.Connector.ID
	}
	if got != want || s.Inherited != inherited {
		w.Errorf("%s: got %q inherited %v, want %q inherited %v", doing, got, s.Inherited, want, inherited)
	}
}

func defaultPrecedence(w *world) {
	none := connector.ID{}
	w.answers("nothing there", w.answer(w.a, w.hq, providers.Storage), none, false)
	idle := draft(w.hq, providers.Storage)
	idle.Active = true
	w.insert(w.a, idle)
	w.answers("active, no default", w.answer(w.a, w.hq, providers.Storage), none, false)

	wide := w.insert(w.a, live(wholeTenant, providers.Storage))
	w.answers("inherited", w.answer(w.a, w.hq, providers.Storage), wide.ID, true)
	w.answers("unknown organization inherits", w.answer(w.a, unknownOrg, providers.Storage), wide.ID, true)
	w.answers("no organization", w.answer(w.a, wholeTenant, providers.Storage), wide.ID, true)

	own := w.insert(w.a, live(w.hq, providers.Storage))
	w.answers("own comes first", w.answer(w.a, w.hq, providers.Storage), own.ID, false)
	w.answers("another organization still inherits", w.answer(w.a, w.lab, providers.Storage), wide.ID, true)
	w.answers("no organization sees no organization's own", w.answer(w.a, wholeTenant, providers.Storage), wide.ID, true)
	w.answers("another category", w.answer(w.a, w.hq, providers.Email), none, false)
	w.answers("another tenant", w.answer(w.b, w.hq, providers.Storage), none, false)

	own = w.update(w.a, own, func(c *connector.Connector) { c.Active, c.Default = false, false })
	w.answers("deactivated", w.answer(w.a, w.hq, providers.Storage), wide.ID, true)
	own = w.update(w.a, own, func(c *connector.Connector) { c.Active, c.Default = true, true })
	w.answers("back", w.answer(w.a, w.hq, providers.Storage), own.ID, false)
	w.update(w.a, own, func(c *connector.Connector) { c.DeletedAt = moment })
	w.answers("deleted", w.answer(w.a, w.hq, providers.Storage), wide.ID, true)
	w.update(w.a, wide, func(c *connector.Connector) { c.DeletedAt = moment })
	w.answers("both deleted", w.answer(w.a, w.hq, providers.Storage), none, false)

	// State does not decide who answers.
	broken := live(w.hq, providers.Storage)
	broken.State = connector.StateNeedsReauthorization
	w.insert(w.a, broken)
	w.answers("any state", w.answer(w.a, w.hq, providers.Storage), broken.ID, false)
}

func (w *world) facts(doing string, s connector.Snapshot, status connector.Status, org connector.OrganizationStatus, revision int64) {
	w.Helper()
	if s.Tenant != status || s.Organization != org || s.Revision != revision {
		w.Errorf("%s: tenant %q, organization %q, revision %d; want %q, %q, %d",
			doing, s.Tenant, s.Organization, s.Revision, status, org, revision)
	}
	if s.At.Location() != time.UTC || time.Since(s.At).Abs() > time.Minute {
		w.Errorf("%s: read at %v, want the present in UTC", doing, s.At)
	}
}

// each runs fn with the snapshot of every reading of a slot.
func (w *world) each(t tenant.ID, org tenant.OrganizationID, id connector.ID, fn func(method string, s connector.Snapshot)) {
	w.Helper()
	fn("Default", w.answer(t, org, providers.Storage))
	all, err := w.store.Tenant(t).Defaults(w.ctx(), org)
	w.ok(err, "Defaults")
	if len(all) == 0 {
		w.Fatal("Defaults has no snapshot at all")
	}
	for _, s := range all {
		fn("Defaults", s)
	}
	s, err := w.store.Tenant(t).Connector(w.ctx(), org, id)
	w.ok(err, "Connector")
	fn("Connector", s)
}

func defaultStatuses(w *world) {
	c := w.insert(w.a, live(w.hq, providers.Storage))
	check := func(name string, t tenant.ID, org tenant.OrganizationID, status connector.Status, os connector.OrganizationStatus) {
		w.Helper()
		w.each(t, org, c.ID, func(method string, s connector.Snapshot) {
			w.Helper()
			w.facts(name+", "+method, s, status, os, w.revision(t))
			if status == connector.StatusMissing && (s.Connector != nil || s.Inherited) {
				w.Errorf("%s, %s: a missing tenant has a connector", name, method)
			}
		})
	}
	check("ready", w.a, w.hq, connector.StatusReady, connector.OrganizationActive)
	check("no organization", w.a, wholeTenant, connector.StatusReady, connector.OrganizationUnknown)
	check("unknown organization", w.a, unknownOrg, connector.StatusReady, connector.OrganizationUnknown)
	check("missing tenant", unknown, w.hq, connector.StatusMissing, connector.OrganizationUnknown)
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.PutOrganization(ctx, connector.Organization{ID: w.hq, Name: "hq"})
	})
	check("inactive organization", w.a, w.hq, connector.StatusReady, connector.OrganizationInactive)
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.UpdateTenant(ctx, func(t *connector.Tenant) error { t.Status = connector.StatusSuspended; return nil })
	})
	check("suspended tenant", w.a, w.lab, connector.StatusSuspended, connector.OrganizationActive)
	check("the other tenant", w.b, w.hq, connector.StatusReady, connector.OrganizationActive)
}

func defaults(w *world) {
	all := func(org tenant.OrganizationID) map[providers.Category]connector.Snapshot {
		w.Helper()
		list, err := w.store.Tenant(w.a).Defaults(w.ctx(), org)
		w.ok(err, "defaults")
		out := map[providers.Category]connector.Snapshot{}
		for _, s := range list {
			if s.Connector == nil {
				if len(list) != 1 {
					w.Fatalf("an empty snapshot among %d", len(list))
				}
				out[""] = s
				continue
			}
			if _, twice := out[s.Connector.Category]; twice {
				w.Fatalf("two answers for %s", s.Connector.Category)
			}
			out[s.Connector.Category] = s
		}
		return out
	}
	none := all(w.hq)
	w.answers("none", none[""], connector.ID{}, false)
	w.facts("none", none[""], connector.StatusReady, connector.OrganizationActive, w.revision(w.a))

	storage := w.insert(w.a, live(w.hq, providers.Storage))
	wideStorage := w.insert(w.a, live(wholeTenant, providers.Storage))
	wideEmail := w.insert(w.a, live(wholeTenant, providers.Email))
	w.insert(w.a, live(w.lab, providers.AI))
	w.insert(w.a, draft(w.hq, providers.Messaging))
	gone := w.insert(w.a, live(w.hq, providers.API))
	w.update(w.a, gone, func(c *connector.Connector) { c.DeletedAt = moment })
	w.insert(w.b, live(w.hq, providers.Webhook))

	got := all(w.hq)
	if len(got) != 2 {
		w.Fatalf("%d answers, want storage and email: %v", len(got), got)
	}
	w.answers("own", got[providers.Storage], storage.ID, false)
	w.answers("inherited", got[providers.Email], wideEmail.ID, true)
	for category, s := range got {
		w.facts(string(category), s, connector.StatusReady, connector.OrganizationActive, w.revision(w.a))
		if !s.At.Equal(got[providers.Storage].At) {
			w.Error("the answers are of several moments")
		}
	}
	w.identical("same record as by slot", *got[providers.Storage].Connector, storage)
	got = all(wholeTenant)
	w.answers("no organization", got[providers.Storage], wideStorage.ID, true)
	if len(got) != 2 {
		w.Errorf("%d answers without organization, want 2", len(got))
	}
}

func byID(w *world) {
	own := w.insert(w.a, full(w))
	wide := w.insert(w.a, draft(wholeTenant, providers.Email))
	gone := w.insert(w.a, live(w.hq, providers.AI))
	gone = w.update(w.a, gone, func(c *connector.Connector) { c.DeletedAt = moment })
	read := func(t tenant.ID, org tenant.OrganizationID, id connector.ID) connector.Snapshot {
		w.Helper()
		s, err := w.store.Tenant(t).Connector(w.ctx(), org, id)
		w.ok(err, "connector")
		return s
	}
	for _, row := range []struct {
		name      string
		tenant    tenant.ID
		org       tenant.OrganizationID
		id, want  connector.ID
		inherited bool
	}{
		{"own organization", w.a, w.hq, own.ID, own.ID, false},
		{"another organization", w.a, w.lab, own.ID, connector.ID{}, false},
		{"no organization", w.a, wholeTenant, own.ID, connector.ID{}, false},
		{"unknown organization", w.a, unknownOrg, own.ID, connector.ID{}, false},
		{"another tenant", w.b, w.hq, own.ID, connector.ID{}, false},
		{"missing tenant", unknown, w.hq, own.ID, connector.ID{}, false},
		{"tenant-wide, inactive", w.a, w.hq, wide.ID, wide.ID, true},
		{"tenant-wide, unknown organization", w.a, unknownOrg, wide.ID, wide.ID, true},
		{"tenant-wide, no organization", w.a, wholeTenant, wide.ID, wide.ID, true},
		{"tenant-wide, another tenant", w.b, w.hq, wide.ID, connector.ID{}, false},
		{"deleted", w.a, w.hq, gone.ID, connector.ID{}, false},
		{"unknown id", w.a, w.hq, connector.NewID(), connector.ID{}, false},
	} {
		w.answers(row.name, read(row.tenant, row.org, row.id), row.want, row.inherited)
	}
	w.identical("record", *read(w.a, w.hq, own.ID).Connector, own)
	off := w.update(w.a, own, func(c *connector.Connector) { c.Active, c.Default = false, false })
	s := read(w.a, w.hq, own.ID)
	w.answers("deactivated", s, own.ID, false)
	w.identical("deactivated", *s.Connector, off)
	w.facts("revision", s, connector.StatusReady, connector.OrganizationActive, w.revision(w.a))
}
