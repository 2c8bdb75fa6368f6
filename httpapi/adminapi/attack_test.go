package adminapi_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/httpapi/adminapi"
	"github.com/patchbay-dev/patchbay/tenant/devissuer"
)

// The operator is shown no other tenant's secrets, whatever else their token can.
func TestOperatorSeesNoSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := w.as(adminClaims()).lab("of hq", "hq")
	operator := w.as(devissuer.Claims{Tenant: "globex", Organizations: []string{"*"}, Roles: []string{"platform.admin", "secrets.read"}, Subject: "op", TTL: time.Hour})
	if a := operator.want(403, "GET", "/api/connectors/"+id+"/config?reveal=true", nil, "X-Tenant-Id", "acme"); strings.Contains(string(a.body), canary) {
		t.Errorf("%s", a.body)
	}
	own := w.as(adminClaims(func(c *devissuer.Claims) { c.Tenant = "globex" })).lab("of globex", "hq")
	operator.want(200, "GET", "/api/connectors/"+own+"/config?reveal=true", nil)
}

// Whatever version is there is meant by "*", also while others write.
func TestAnyVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	amy := w.as(adminClaims())
	id := amy.lab("busy", "hq")
	var wg sync.WaitGroup
	for who := range 4 {
		wg.Go(func() {
			for n := range 20 {
				if a := amy.do("PATCH", "/api/connectors/"+id, map[string]any{"params": map[string]any{"note": fmt.Sprint(who, n)}}, "If-Match", "*"); a.status != 200 {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
	if a := amy.want(200, "GET", "/api/connectors/"+id, nil); a.at("version") != 81.0 {
		t.Errorf("%s", a.body)
	}
	// A deleted one is not there, whatever version is named.
	amy.want(204, "DELETE", "/api/connectors/"+id, nil, "If-Match", "*")
	for _, tag := range []string{"*", `"1"`, `"82"`} {
		amy.want(404, "PATCH", "/api/connectors/"+id, map[string]any{"name": "n"}, "If-Match", tag)
	}
	amy.want(412, "POST", "/api/connectors/"+id+"/restore", nil, "If-Match", `"1"`)
	amy.want(200, "POST", "/api/connectors/"+id+"/restore", nil, "If-Match", `"82"`)
}

// Several import one file at once: one of them makes what is in it, and says so.
func TestConcurrentImports(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	amy := w.as(adminClaims())
	for round := range 4 {
		file := fmt.Sprintf(`<patchbay><record id="r%d" model="ir.connector"><field name="kind">lab</field><field name="config" eval="{'host': 'one.example'}"/></record></patchbay>`, round)
		var mu sync.Mutex
		made := 0
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				a := amy.do("POST", "/api/connectors/import", file, "Content-Type", "application/xml")
				mu.Lock()
				defer mu.Unlock()
				switch {
				case a.status == 409:
				case a.status != 200:
					t.Errorf("%d %s", a.status, a.body)
				case a.at("created") == 1.0:
					made++
					if a.at("changed") != true || a.header.Get("X-Patchbay-Revision") == "" {
						t.Errorf("%v %s", a.header, a.body)
					}
				case a.at("changed") != false || a.header.Get("X-Patchbay-Revision") != "":
					t.Errorf("%v %s", a.header, a.body)
				}
			})
		}
		wg.Wait()
		if made != 1 {
			t.Errorf("%d say that they made it", made)
		}
	}
}

// Places are where they are, nothing that the caller wrote is in the log, and odd
// bytes are refused before a database sees them.
func TestPlacesAndLogs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	amy := w.as(adminClaims())
	id := amy.lab("a", "hq", func(m map[string]any) { m["active"], m["is_default"] = true, true })
	other := amy.lab("b", "labs")
	for path, want := range map[string]string{
		"/api/connectors/" + id + "?force=true":                        "/query/reason required",
		"/api/connectors/" + id + "?replacement=" + other:              "/query/replacement replacement",
		"/api/connectors/" + id + "/default?replacement=" + other:      "/query/replacement replacement",
		"/api/connectors/" + id + "?replacement=x":                     "/query/replacement format",
		"/api/connectors/" + id + "?reason=" + url.QueryEscape("\x00"): "/query/reason format",
	} {
		headers := []string{"If-Match", "*"}
		if a := amy.want(422, "DELETE", path, nil, headers...); a.violations()[0] != want {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	for _, path := range []string{"/api/connectors?kind=%ff", "/api/audit?actor=%00", "/api/connectors?q=a%0ab"} {
		if a := amy.want(422, "GET", path, nil); !strings.HasSuffix(a.violations()[0], " format") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	amy.want(422, "GET", "/api/connectors?"+canary+"=1", nil)
	amy.want(422, "POST", "/api/connectors", map[string]any{canary: 1})
	if strings.Contains(w.log.String(), canary) {
		t.Error("the log repeats a name that the caller wrote")
	}
	if a := amy.want(400, "POST", "/api/connectors/import", "<odoo", "Content-Type", "application/xml"); len(a.violations()) == 0 {
		t.Errorf("%s", a.body)
	}
}

// Who may not ask takes nothing from the tenant's share, and a suspended tenant's file
// is not looked at.
func TestShares(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *adminapi.Options) { o.RequestsPerSecond, o.Burst = 1, 5 })
	app := w.as(adminClaims(func(c *devissuer.Claims) { c.Roles = nil }))
	for range 20 {
		app.want(403, "GET", "/api/connectors", nil)
	}
	amy := w.as(adminClaims())
	amy.want(200, "GET", "/api/connectors", nil)
	operator := w.as(devissuer.Claims{Tenant: "globex", Roles: []string{"platform.admin"}, Subject: "op", TTL: time.Hour})
	operator.want(200, "POST", "/api/tenants/acme/suspend", nil)
	if a := amy.do("POST", "/api/connectors/import?dry_run=true", "<odoo", "Content-Type", "application/xml"); a.status != 403 || a.text("code") != "tenant_suspended" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A consent that came back to another kind's address ends nothing, and one needs a user.
func TestConsentNeedsItsUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	amy := w.as(adminClaims())
	id := amy.lab("mail", "hq", func(m map[string]any) { m["params"].(map[string]any)["mode"] = "oauth" })
	to, err := url.Parse(amy.want(200, "POST", "/api/connectors/"+id+"/oauth/start", nil).text("authorization_url"))
	must(t, err)
	state := to.Query().Get("state")
	(&caller{w, ""}).want(409, "GET", "/api/connectors/oauth/callback/s3?error=access_denied&state="+state, nil)
	(&caller{w, ""}).want(200, "GET", "/api/connectors/oauth/callback/lab?code=c&state="+state, nil)
	w.as(adminClaims(func(c *devissuer.Claims) { c.Subject = "" })).want(403, "POST", "/api/connectors/"+id+"/oauth/start", nil)
}
