package adminapi_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/devissuer"
)

// A tenant that is being deleted for good refuses every write with an answer that
// the document knows, and leaves its audit to the operator.
func TestTenantOnItsWayOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	globex := tenant.MustID("globex")
	operator := w.as(devissuer.Claims{Tenant: "platform", Roles: []string{"platform.admin"}, Subject: "op", TTL: time.Hour})
	_, err := w.store.Change(t.Context(), connector.Change{Actor: "test", Tenants: []tenant.ID{globex}}, func(ctx context.Context, tx connector.Tx) error {
		return tx.Tenant(globex).UpdateTenant(ctx, func(t *connector.Tenant) error {
			t.Status, t.PurgeAt = connector.StatusSuspended, time.Now().Add(-time.Second)
			return nil
		})
	})
	must(t, err)
	must(t, w.store.BeginPurge(t.Context(), globex))
	for _, row := range []struct {
		method, path string
		body         any
	}{
		{http.MethodPost, "/api/tenants/globex/resume", nil},
		{http.MethodPost, "/api/tenants/globex/suspend", nil},
		{http.MethodDelete, "/api/tenants/globex", nil},
		{http.MethodPatch, "/api/tenants/globex", map[string]any{"name": "Back"}},
		{http.MethodPost, "/api/organizations", map[string]any{"id": "late"}},
		{http.MethodPatch, "/api/organizations/hq", map[string]any{"active": false}},
		{http.MethodPost, "/api/connectors", map[string]any{"name": "Late", "kind": "lab", "organization_id": "hq"}},
	} {
		a := operator.do(row.method, row.path, row.body, "X-Tenant-Id", "globex")
		if a.status != http.StatusConflict || a.text("code") != "conflict" {
			t.Errorf("%s %s: %d %s", row.method, row.path, a.status, a.body)
		}
	}
	for n := int64(1); n > 0; {
		n, err = w.store.PurgeRecords(t.Context(), globex, 100)
		must(t, err)
	}
	for n := 1; n > 0; {
		n, err = w.store.Relay(t.Context(), 100, func(context.Context, []connector.Message) error { return nil })
		must(t, err)
	}
	must(t, w.store.EndPurge(t.Context(), globex, "test"))
	for path, want := range map[string]int{"/api/tenants/globex": http.StatusNotFound, "/api/connectors": http.StatusNotFound, "/api/audit": http.StatusOK} {
		if a := operator.do(http.MethodGet, path, nil, "X-Tenant-Id", "globex"); a.status != want {
			t.Errorf("%s of what is gone: %d %s", path, a.status, a.body)
		}
	}
	if a := operator.do(http.MethodPost, "/api/tenants", map[string]any{"id": "globex"}); a.status != http.StatusConflict || a.text("code") != "already_exists" {
		t.Errorf("the id again: %d %s", a.status, a.body)
	}
	theirs := w.as(adminClaims(func(c *devissuer.Claims) { c.Tenant = "globex" }))
	if a := theirs.do(http.MethodGet, "/api/audit", nil); a.status != http.StatusNotFound {
		t.Errorf("its admin reads the audit: %d %s", a.status, a.body)
	}
}
