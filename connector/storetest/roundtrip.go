package storetest

import (
	"context"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// moment has the precision that every store keeps: microseconds.
var moment = time.Date(2026, 3, 29, 1, 59, 59, 123456000, time.UTC)

var (
	pinOne = mustPin("01J8ZQ4WZ0000000000000000A")
	pinTwo = mustPin("01J8ZQ4WZ0000000000000000B")
	pinOff = mustPin("01J8ZQ4WZ0000000000000000C")
)

func mustPin(s string) connector.Pin {
	p, err := connector.ParsePin(s)
	if err != nil {
		panic(err)
	}
	return p
}

// full has every field set.
func full(w *world) connector.Connector {
	return connector.Connector{
		ID: connector.NewID(), ExternalID: "connector.acme_s3 é", Name: "Acmé 存储 🗄 'quoted\" \\ <&>",
		Category: providers.Storage, Kind: "s3", SchemaVersion: 7, Organization: w.hq,
		State: connector.StateConnected, Active: true, Default: true, BlockPinned: true, NoUpdate: true,
		Params: map[string]connector.Param{
			"bucket": {Value: "acme-prod", Writer: connector.WriterImport, Imported: "acme-old", UpdatedAt: moment},
			"port":   {Value: int64(587), Writer: connector.WriterAPI, UpdatedAt: moment.Add(time.Microsecond)},
		},
		Secrets: map[string]connector.SecretInfo{
			"access_key_id":     {Version: 1, Writer: connector.WriterImport, UpdatedAt: moment},
			"secret_access_key": {Version: 12, Writer: connector.WriterAPI, UpdatedAt: moment.Add(time.Hour)},
		},
		Pin:      pinOne,
		LastTest: json.RawMessage(`{"ok": true, "message": "Connected", "steps": [{"name": "dns", "ms": 3}], "version": 1}`),
	}
}

// same compares what a store returned with what it was given, but for what the
// store itself sets (version, creation and update times).
func (w *world) same(doing string, got, want connector.Connector) {
	w.Helper()
	got.Version, got.CreatedAt, got.UpdatedAt = want.Version, want.CreatedAt, want.UpdatedAt
	w.identical(doing, got, want)
}

func (w *world) identical(doing string, got, want connector.Connector) {
	w.Helper()
	g, x := canonical(w, got), canonical(w, want)
	if !reflect.DeepEqual(g, x) {
		w.Fatalf("%s:\n got %#v\nwant %#v", doing, g, x)
	}
}

// canonical removes differences without meaning: nil and empty maps, and the
// spelling of the report, which is JSON. Times must be UTC already.
func canonical(w *world, c connector.Connector) connector.Connector {
	w.Helper()
	if len(c.Params) == 0 {
		c.Params = nil
	}
	if len(c.Secrets) == 0 {
		c.Secrets = nil
	}
	if len(c.LastTest) == 0 {
		c.LastTest = nil
	} else {
		var v any
		if err := json.Unmarshal(c.LastTest, &v); err != nil {
			w.Fatalf("last test is no JSON: %q", c.LastTest)
		}
		c.LastTest, _ = json.Marshal(v)
	}
	return c
}

func (w *world) sane(c connector.Connector, version int64) {
	w.Helper()
	if c.Version != version {
		w.Errorf("version %d, want %d", c.Version, version)
	}
	for name, at := range map[string]time.Time{"created": c.CreatedAt, "updated": c.UpdatedAt} {
		if at.Location() != time.UTC || time.Since(at).Abs() > time.Minute {
			w.Errorf("%s at %v, want the present in UTC", name, at)
		}
	}
}

func roundTrip(w *world) {
	want := full(w)
	given := want
	given.Version, given.CreatedAt, given.UpdatedAt = 77, moment, moment // the store's own to set
	got := w.insert(w.a, given)
	w.sane(got, 1)
	w.same("list", got, want)
	snapshot := w.answer(w.a, w.hq, providers.Storage)
	if snapshot.Connector == nil {
		w.Fatal("no default")
	}
	w.identical("default", *snapshot.Connector, got)
	bare := draft(wholeTenant, providers.Email)
	got = w.insert(w.a, bare)
	w.sane(got, 1)
	w.same("bare", got, bare)
	if got.LastTest != nil || !got.DeletedAt.IsZero() || !got.Pin.IsZero() || !got.Organization.IsZero() {
		w.Errorf("what was unset is %#v", got)
	}
	for _, state := range connector.States() {
		c := draft(w.lab, providers.AI)
		c.State = state
		w.same(string(state), w.insert(w.a, c), c)
	}
}

// roundTripValues holds that a value comes back with its very type: a kind's
// code asserts on it, and 2.0 that returns as 2 is another type.
func roundTripValues(w *world) {
	values := map[string]any{
		"string": "plain", "empty": "", "spaces": "  \t\n ", "unicode": "Zürich 東京 \u2028 🔑 e\u0301", "markup": `<a href="x">&amp;\</a>`,
		"looks_int": "42", "looks_bool": "true", "looks_null": "null", "looks_json": `{"a":1}`,
		"true": true, "false": false,
		"zero": int64(0), "int": int64(-42), "max": int64(math.MaxInt64), "min": int64(math.MinInt64), "beyond_float": int64(1<<53 + 1),
		"float": 3.25, "float_zero": 0.0, "float_whole": 2.0, "float_exp": 1e21, "float_exp_whole": 1e15, "float_huge": math.MaxFloat64,
		"float_tiny": math.SmallestNonzeroFloat64, "float_negative": -1e-7, "float_third": 1.0 / 3,
		"list": []any{"a", int64(1), 1.0, true, []any{}, map[string]any{}}, "list_empty": []any{},
		"map":       map[string]any{"k.with.dots": int64(1), "": "empty key", "nested": map[string]any{"deep": []any{map[string]any{"x": 1e300}}}},
		"map_empty": map[string]any{},
	}
	c := draft(w.hq, providers.Storage)
	c.Params = map[string]connector.Param{}
	for name, v := range values {
		c.Params[name] = connector.Param{Value: v, Imported: v, Writer: connector.WriterImport, UpdatedAt: moment}
	}
	got := w.insert(w.a, c)
	for name, want := range c.Params {
		if g := got.Params[name]; !reflect.DeepEqual(g, want) {
			w.Errorf("%s: got %#v, want %#v", name, g, want)
		}
	}
	if len(got.Params) != len(c.Params) {
		w.Errorf("%d params, want %d", len(got.Params), len(c.Params))
	}
	h, err := w.store.Tenant(w.a).History(w.ctx(), c.ID, 0, 0)
	w.ok(err, "history")
	if len(h) != 1 {
		w.Fatalf("%d revisions, want 1", len(h))
	}
	w.same("history", h[0].Connector, c)
}

func roundTripUpdate(w *world) {
	before := w.insert(w.a, full(w))
	want := before
	want.ExternalID, want.Name, want.SchemaVersion, want.State = "other", "Renamed", 8, connector.StateNeedsReauthorization
	want.Active, want.Default, want.BlockPinned, want.NoUpdate = false, false, false, false
	want.Params = map[string]connector.Param{
		"bucket": {Value: []any{int64(1)}, Writer: connector.WriterAPI, Imported: "acme-old", UpdatedAt: moment.Add(time.Second)},
		"prefix": {Value: "x/", Writer: connector.WriterAPI, UpdatedAt: moment},
	}
	want.Secrets = map[string]connector.SecretInfo{"session_token": {Version: 3, Writer: connector.WriterAPI, UpdatedAt: moment}}
	want.Pin, want.LastTest = pinTwo, json.RawMessage(`{"ok": false}`)
	got := w.update(w.a, before, func(c *connector.Connector) {
		w.identical("what fn is given", *c, before)
		*c = want
		c.Version, c.CreatedAt, c.UpdatedAt = 900, moment, moment // ignored: the store's own
	})
	w.sane(got, 2)
	w.same("update", got, want)
	if !got.CreatedAt.Equal(before.CreatedAt) || got.UpdatedAt.Before(before.UpdatedAt) {
		w.Errorf("created %v then %v, updated %v then %v", before.CreatedAt, got.CreatedAt, before.UpdatedAt, got.UpdatedAt)
	}
	empty := got
	empty.Params, empty.Secrets, empty.Pin, empty.LastTest, empty.ExternalID = nil, nil, connector.Pin{}, nil, ""
	w.same("emptied", w.update(w.a, got, func(c *connector.Connector) { *c = empty }), empty)
}

// cleared: a param that was cleared is not set, and what was imported is kept.
func cleared(w *world) {
	gone := connector.Param{Imported: []any{"acme-old", 1.0}, Writer: connector.WriterAPI, UpdatedAt: moment}
	want := full(w)
	want.Params["bucket"] = gone
	got := w.insert(w.a, want)
	w.same("inserted", got, want)
	got = w.update(w.a, got, func(c *connector.Connector) {
		if c.Params["bucket"].Value != nil || c.Params["bucket"].Imported == nil {
			w.Errorf("fn is given %+v", c.Params["bucket"])
		}
		port := c.Params["port"]
		port.Value, port.Imported = nil, port.Value
		c.Params["port"] = port
	})
	if len(got.Params) != 2 || got.Params["port"].Value != nil || got.Params["port"].Imported != int64(587) {
		w.Errorf("cleared: %+v", got.Params)
	}
	trail, err := w.store.Tenant(w.a).Audit(w.ctx(), connector.AuditFilter{Limit: 1})
	w.ok(err, "audit")
	if len(trail) != 1 || !slices.Equal(trail[0].Fields, []string{"params.port"}) {
		w.Errorf("the audit says %+v", trail)
	}
	h, err := w.store.Tenant(w.a).History(w.ctx(), got.ID, 0, 0)
	w.ok(err, "history")
	w.same("history", h[0].Connector, got)
	// Whoever resolves sees nothing of it.
	w.each(w.a, w.hq, got.ID, func(method string, s connector.Snapshot) {
		if s.Connector == nil || len(s.Connector.Params) != 0 || len(s.Connector.Secrets) != 2 {
			w.Errorf("%s: %+v", method, s.Connector)
		}
	})
	got = w.update(w.a, got, func(c *connector.Connector) {
		c.Params["bucket"] = connector.Param{Value: "acme-new", Imported: gone.Imported, Writer: connector.WriterAPI, UpdatedAt: moment}
		delete(c.Params, "port")
	})
	w.each(w.a, w.hq, got.ID, func(method string, s connector.Snapshot) {
		if s.Connector == nil || len(s.Connector.Params) != 1 || s.Connector.Params["bucket"].Value != "acme-new" {
			w.Errorf("%s, set again: %+v", method, s.Connector)
		}
	})
	// The last secret was cleared: the pin stays, because digests of what was
	// imported are under it.
	got = w.update(w.a, got, func(c *connector.Connector) { c.Secrets, c.Pin = nil, pinTwo })
	if got.Pin != pinTwo || len(got.Secrets) != 0 {
		w.Errorf("without secrets: pin %s, %v", got.Pin, got.Secrets)
	}
	w.code(w.tryUpdate(w.a, got.ID, got.Version, func(c *connector.Connector) {
		c.Params["port"] = connector.Param{Writer: connector.WriterAPI}
	}), fault.InvalidArgument, "neither set nor imported")
}

func organizations(w *world) {
	want := connector.Organization{ID: w.hq, ExternalID: "res.organization.hq", Name: "Häuptquartier", Active: false, NoUpdate: true}
	first, err := w.store.Tenant(w.a).Organizations(w.ctx(), connector.OrganizationFilter{})
	w.ok(err, "organizations")
	w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error { return tx.PutOrganization(ctx, want) })
	got, err := w.store.Tenant(w.a).Organizations(w.ctx(), connector.OrganizationFilter{})
	w.ok(err, "organizations")
	if len(first) != 2 || len(got) != 2 || got[0].ID != w.hq || got[1] != first[1] {
		w.Fatalf("organizations %v, then %v", first, got)
	}
	if !got[0].CreatedAt.Equal(first[0].CreatedAt) || got[0].UpdatedAt.Before(first[0].UpdatedAt) || got[0].UpdatedAt.Location() != time.UTC {
		w.Errorf("times of %v after %v", got[0], first[0])
	}
	want.CreatedAt, want.UpdatedAt = got[0].CreatedAt, got[0].UpdatedAt
	if got[0] != want {
		w.Errorf("got %v, want %v", got[0], want)
	}
}

func tenants(w *world) {
	all, err := w.store.Tenants(w.ctx(), connector.TenantFilter{})
	w.ok(err, "tenants")
	if len(all) != 2 || all[0].ID != w.a || all[1].ID != w.b || all[0].Name != "Acme" {
		w.Fatalf("tenants %v", all)
	}
	rev := w.change(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.UpdateTenant(ctx, func(t *connector.Tenant) error {
			if t.Name != "Acme" || t.ID != w.a {
				w.Errorf("fn is given %v", *t)
			}
			t.Name, t.ExternalID, t.Status, t.NoUpdate = "Acmé", "gateway.tenant.acme", connector.StatusSuspended, true
			return nil
		})
	})
	got, err := w.store.Tenant(w.a).Get(w.ctx())
	w.ok(err, "get")
	want := connector.Tenant{
		ID: w.a, Name: "Acmé", ExternalID: "gateway.tenant.acme", Status: connector.StatusSuspended, NoUpdate: true,
		Revision: rev, CreatedAt: all[0].CreatedAt, UpdatedAt: got.UpdatedAt,
	}
	if got != want || got.CreatedAt.Location() != time.UTC || got.UpdatedAt.Before(all[0].UpdatedAt) {
		w.Errorf("got %v, want %v", got, want)
	}
	all, err = w.store.Tenants(w.ctx(), connector.TenantFilter{})
	w.ok(err, "tenants")
	if all[0] != got {
		w.Errorf("the list says %v, the tenant %v", all[0], got)
	}
	_, err = w.store.Tenant(unknown).Get(w.ctx())
	w.code(err, fault.NotFound, "get an unknown tenant")
	_, err = w.try(w.a, func(ctx context.Context, tx connector.TenantTx) error {
		return tx.UpdateTenant(ctx, func(t *connector.Tenant) error { t.ID = w.b; return nil })
	})
	w.code(err, fault.InvalidArgument, "change a tenant's id")
}
