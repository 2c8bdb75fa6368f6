package adminapi_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/tenant/devissuer"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// row is what an operation needs and does, for the matrix below.
type row struct {
	permission string // "": public
	body       any
	// of whose the path speaks: "connector", "organization", "tenant"; "" of nobody's.
	of string
	// whole: it is about the whole tenant, so that who is bound to an organization is
	// refused.
	whole bool
	// good is what it answers to who may.
	good int
}

// Every operation of the document has a row; a new one without fails the test.
var rows = map[string]row{
	"list-connectors":      {"connectors.read", nil, "", false, 200},
	"create-connector":     {"connectors.write", map[string]any{"name": "n", "kind": "lab", "organization_id": "hq"}, "", false, 201},
	"get-connector":        {"connectors.read", nil, "connector", false, 200},
	"replace-connector":    {"connectors.write", map[string]any{"name": "n", "params": map[string]any{"host": "one.example"}}, "connector", false, 200},
	"patch-connector":      {"connectors.write", map[string]any{"name": "n"}, "connector", false, 200},
	"delete-connector":     {"connectors.write", nil, "connector", false, 204},
	"test-connector":       {"connectors.write", nil, "connector", false, 200},
	"test-draft":           {"connectors.write", map[string]any{"kind": "lab", "params": map[string]any{"host": "one.example"}}, "", false, 200},
	"activate-connector":   {"connectors.write", map[string]any{"force": true, "reason": "r"}, "connector", false, 200},
	"deactivate-connector": {"connectors.write", nil, "connector", false, 200},
	"set-default":          {"connectors.write", nil, "connector", false, 409},
	"clear-default":        {"connectors.write", nil, "connector", false, 200},
	"import-config":        {"connectors.write", map[string]any{"json_data": map[string]any{"note": "n"}}, "connector", false, 200},
	"restore-connector":    {"connectors.write", nil, "connector", false, 200},
	"clone-connector":      {"connectors.write", map[string]any{"name": "copy", "organization_id": "hq"}, "connector", false, 201},
	"get-config":           {"connectors.read", nil, "connector", false, 200},
	"resolve-default":      {"connectors.read", nil, "", false, 200},
	"list-revisions":       {"connectors.read", nil, "connector", false, 200},
	"restore-revision":     {"connectors.write", nil, "connector", false, 200},
	"list-kinds":           {"connectors.read", nil, "", false, 200},
	"get-kind":             {"connectors.read", nil, "", false, 200},
	"import-data-file":     {"connectors.write", "<patchbay/>", "", true, 200},
	"export-data-file":     {"connectors.read", nil, "", true, 200},
	"start-consent":        {"connectors.write", nil, "connector", false, 409},
	"consent-callback":     {"", nil, "", false, 404},
	"complete-consent":     {"connectors.write", map[string]any{"handle": "h"}, "connector", false, 409},
	"list-organizations":   {"connectors.read", nil, "", false, 200},
	"create-organization":  {"connectors.write", map[string]any{"id": "fresh"}, "", true, 201},
	"get-organization":     {"connectors.read", nil, "organization", false, 200},
	"patch-organization":   {"connectors.write", map[string]any{"name": "n"}, "organization", true, 200},
	"list-audit":           {"connectors.read", nil, "", false, 200},
	"export-audit":         {"connectors.read", nil, "", false, 200},
	"list-tenants":         {"platform.admin", nil, "", false, 200},
	"create-tenant":        {"platform.admin", map[string]any{"id": "fresh"}, "", false, 201},
	"get-tenant":           {"platform.admin", nil, "tenant", false, 200},
	"patch-tenant":         {"platform.admin", map[string]any{"name": "n"}, "tenant", false, 200},
	"delete-tenant":        {"platform.admin", nil, "tenant", false, 200},
	"suspend-tenant":       {"platform.admin", nil, "tenant", false, 200},
	"resume-tenant":        {"platform.admin", nil, "tenant", false, 200},
}

// Who asks for what, and what they are told: every operation of the document for
// every kind of caller.
func TestAccess(t *testing.T) {
	t.Parallel()
	roles := func(names ...string) func(c *devissuer.Claims) { return func(c *devissuer.Claims) { c.Roles = names } }
	inLabs := func(c *devissuer.Claims) { c.Organization, c.Organizations = "labs", []string{"labs"} }
	inHQ := func(c *devissuer.Claims) { c.Organizations = []string{"hq"} }
	elsewhere := func(c *devissuer.Claims) { c.Tenant = "globex" }
	all := []string{"connectors.read", "connectors.write", "secrets.read", "platform.admin"}

	document := newWorld(t).document
	seen := map[string]bool{}
	for _, op := range document.Operations() {
		r, ok := rows[op.ID]
		if !ok {
			t.Errorf("%s (%s %s) has no row: say who may", op.ID, op.Method, op.Path)
			continue
		}
		seen[op.ID] = true
		if op.Public != (r.permission == "") {
			t.Errorf("%s: public is %v in the document", op.ID, op.Public)
		}
		t.Run(op.ID, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			owner := w.as(adminClaims())
			id := owner.lab("of hq", "hq")
			path := strings.NewReplacer("{id}", id, "{n}", "1", "{organization}", "hq", "{tenant}", "globex", "{kind}", "lab").Replace(op.Path)
			switch op.ID {
			case "resolve-default":
				path += "?category=storage&organization_id=hq"
			case "consent-callback":
				path += "?state=s&code=c"
			}
			headers := []string{"If-Match", "*"}
			if op.ID == "import-data-file" {
				headers = append(headers, "Content-Type", "application/xml")
			}
			is := func(who string, c *caller, want int) {
				t.Helper()
				h := headers
				if op.ID == "clear-default" || op.ID == "set-default" {
					h = nil
				}
				if a := c.do(op.Method, path, r.body, h...); a.status != want {
					t.Errorf("%s: %d, want %d: %s", who, a.status, want, a.body)
				} else if a.status == 401 && a.header.Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("%s: WWW-Authenticate is %q", who, a.header.Get("WWW-Authenticate"))
				}
			}
			if r.permission == "" {
				is("nobody", &caller{w, ""}, r.good)
				return
			}
			is("nobody", &caller{w, ""}, 401)
			is("garbage", &caller{w, "x.y.z"}, 401)
			is("expired", &caller{w, w.kit.Sign(map[string]any{"tenant_id": "acme", "org_ids": []string{"*"}, "roles": all, "exp": time.Now().Add(-time.Hour).Unix()})}, 401)
			is("another issuer", &caller{w, tenanttest.New(t).Token(adminClaims())}, 401)
			is("no role", w.as(adminClaims(roles())), 403)
			is("an unknown role", w.as(adminClaims(roles("connectors.admin", "*"))), 403)
			for _, p := range all {
				if p != r.permission && p != "platform.admin" {
					is("only "+p, w.as(adminClaims(roles(p))), 403)
				}
			}
			if r.permission != "platform.admin" {
				a := w.as(adminClaims(roles(r.permission), elsewhere)).do(op.Method, path, r.body, append([]string{"X-Tenant-Id", "acme"}, headers...)...)
				if a.status != 403 {
					t.Errorf("another tenant's admin who names this tenant: %d %s", a.status, a.body)
				}
				switch {
				case r.of == "connector":
					is("another tenant", w.as(adminClaims(elsewhere)), 404)
					is("another organization", w.as(adminClaims(inLabs)), 404)
				case r.of == "organization" && !r.whole:
					is("another organization", w.as(adminClaims(inLabs)), 404)
				case r.whole && r.of == "":
					is("one organization", w.as(adminClaims(inHQ)), 403)
				case op.ID == "create-connector", op.ID == "resolve-default":
					is("another organization", w.as(adminClaims(inLabs)), 404)
				}
				is("an unknown tenant", w.as(adminClaims(func(c *devissuer.Claims) { c.Tenant = "nobody" })), notFoundUnlessStatic(op.ID))
			}
			is("who may", w.as(adminClaims(roles(r.permission, "connectors.read"))), r.good)
		})
	}
	for id := range rows {
		if !seen[id] {
			t.Errorf("%s has a row, and is not in the document", id)
		}
	}
}

// notFoundUnlessStatic: the kinds are the build's, whoever asks.
func notFoundUnlessStatic(id string) int {
	if id == "list-kinds" || id == "get-kind" {
		return http.StatusOK
	}
	return http.StatusNotFound
}

// The operator reaches a tenant by its name, and never its secrets.
func TestPlatformReaches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.as(adminClaims()).lab("of hq", "hq")
	operator := w.as(devissuer.Claims{Tenant: "globex", Roles: []string{"platform.admin"}, Subject: "op", TTL: time.Hour})
	operator.want(404, "GET", "/api/connectors/"+id, nil)
	operator.want(200, "GET", "/api/connectors/"+id, nil, "X-Tenant-Id", "acme")
	operator.want(200, "PATCH", "/api/connectors/"+id, map[string]any{"name": "by the operator"}, "X-Tenant-Id", "acme", "If-Match", "*")
	operator.want(403, "GET", "/api/connectors/"+id+"/config?reveal=true", nil, "X-Tenant-Id", "acme")
	operator.want(404, "GET", "/api/connectors/"+id, nil, "X-Tenant-Id", "nobody")
	if a := operator.want(422, "GET", "/api/connectors/"+id, nil, "X-Tenant-Id", "../acme"); a.violations()[0] != "/header/X-Tenant-Id format" {
		t.Errorf("%s", a.body)
	}
	operator.want(200, "POST", "/api/tenants/acme/suspend", nil)
	w.as(adminClaims()).want(403, "GET", "/api/connectors/"+id, nil)
	operator.want(200, "GET", "/api/connectors/"+id, nil, "X-Tenant-Id", "acme")
	if code := w.as(adminClaims()).do("GET", "/api/connectors", nil).text("code"); code != "tenant_suspended" {
		t.Errorf("a suspended tenant's admin gets %s", code)
	}
	operator.want(200, "POST", "/api/tenants/acme/resume", nil)
	w.as(adminClaims()).want(200, "GET", "/api/connectors/"+id, nil)
}
