package adminapi_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/httpapi/adminapi"
	"github.com/patchbay-dev/patchbay/tenant/devissuer"
)

// What is wrong is named at its place, nothing of it is done, and nothing of it is
// repeated.
func TestBadBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	amy := w.as(adminClaims())
	id := amy.lab("stored", "hq")
	deep := `{"name": "n", "kind": "lab", "params": {"note": ` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}}`
	for name, row := range map[string]struct {
		method, path, body string
		status             int
		want               []string
	}{
		"no body":            {"POST", "/api/connectors", "", 400, nil},
		"no JSON":            {"POST", "/api/connectors", `{"name": canary-secret-value`, 400, nil},
		"a list":             {"POST", "/api/connectors", `[]`, 422, []string{" type"}},
		"two values":         {"POST", "/api/connectors", `{} {}`, 400, nil},
		"deep":               {"POST", "/api/connectors", deep, 400, nil},
		"no UTF-8":           {"POST", "/api/connectors", "{\"name\": \"\xff\"}", 400, nil},
		"half a surrogate":   {"POST", "/api/connectors", `{"name": "\ud800"}`, 400, nil},
		"unknown keys":       {"POST", "/api/connectors", `{"name": "n", "kind": "lab", "parms": {}, "org_id": "x"}`, 422, []string{"/org_id unknown", "/parms unknown"}},
		"twice":              {"POST", "/api/connectors", `{"name": "a", "name": "b", "kind": "lab", "secrets": {"password": "canary-secret-value", "password": "x"}}`, 422, []string{"/name duplicate", "/secrets/password duplicate"}},
		"types":              {"POST", "/api/connectors", `{"name": 7, "kind": null, "active": "yes", "params": [], "secrets": {"password": 9}, "organization_id": {}}`, 422, []string{"/active type", "/kind type", "/name type", "/organization_id type", "/params type", "/secrets/password type"}},
		"nothing in it":      {"POST", "/api/connectors", `{}`, 422, []string{"/kind required"}},
		"no such kind":       {"POST", "/api/connectors", `{"name": "n", "kind": "labb"}`, 422, []string{"/kind unknown"}},
		"a wrong category":   {"POST", "/api/connectors", `{"name": "n", "kind": "lab", "category": "email"}`, 422, []string{"/category conflict"}},
		"a bad organization": {"POST", "/api/connectors", `{"name": "n", "kind": "lab", "organization_id": "../hq"}`, 422, []string{"/organization_id format"}},
		"params":             {"POST", "/api/connectors", `{"name": "n", "kind": "lab", "params": {"hots": "x", "port": 70000, "mode": "k"}}`, 422, []string{"/params/hots unknown", "/params/mode enum", "/params/port format"}},
		"a mask":             {"POST", "/api/connectors", `{"name": "n", "kind": "lab", "secrets": {"password": "********"}}`, 422, []string{"/secrets/password masked"}},
		"a dotted mask":      {"PATCH", "/api/connectors/" + id, `{"secrets": {"password": "••••••"}}`, 422, []string{"/secrets/password masked"}},
		"an unknown secret":  {"POST", "/api/connectors", `{"name": "n", "kind": "lab", "secrets": {"pasword": "canary-secret-value"}}`, 422, []string{"/secrets/pasword unknown"}},
		"another kind":       {"PATCH", "/api/connectors/" + id, `{"kind": "s3"}`, 422, []string{"/kind immutable"}},
		"another category":   {"PUT", "/api/connectors/" + id, `{"name": "n", "category": "email"}`, 422, []string{"/category immutable"}},
		"another owner":      {"PATCH", "/api/connectors/" + id, `{"organization_id": "labs"}`, 422, []string{"/organization_id immutable"}},
		"the whole tenant's": {"PATCH", "/api/connectors/" + id, `{"organization_id": null}`, 422, []string{"/organization_id immutable"}},
		"a name of nothing":  {"PATCH", "/api/connectors/" + id, `{"name": " "}`, 422, []string{"/name required"}},
		"a null for params":  {"PATCH", "/api/connectors/" + id, `{"params": null}`, 422, []string{"/params type"}},
		"a bad replacement":  {"PATCH", "/api/connectors/" + id, `{"active": false, "replacement": "x"}`, 422, []string{"/replacement format"}},
		"no reason":          {"POST", "/api/connectors/" + id + "/activate", `{"force": true}`, 422, []string{"/reason required"}},
		"no such level":      {"POST", "/api/connectors/" + id + "/test", `{"level": 9}`, 422, []string{"/level range"}},
		"a header":           {"POST", "/api/connectors/" + id + "/test", `{"recipient": "a@b.c\r\nBcc: x@y.z"}`, 422, []string{"/recipient format"}},
		"no file":            {"POST", "/api/connectors/" + id + "/import-config", `{}`, 422, []string{"/json_data required"}},
		"two files":          {"POST", "/api/connectors/" + id + "/import-config", `{"json_data": {}, "file_data": "e30="}`, 422, []string{"/json_data required"}},
		"no base64":          {"POST", "/api/connectors/" + id + "/import-config", `{"file_data": "%%"}`, 422, []string{"/file_data format"}},
		"a file of nothing":  {"POST", "/api/connectors/" + id + "/import-config", `{"file_data": "Y2FuYXJ5"}`, 422, []string{"/file_data format"}},
		"another handle":     {"POST", "/api/connectors/" + id + "/oauth/complete", `{"hndle": "x"}`, 422, []string{"/hndle unknown"}},
		"no organization id": {"POST", "/api/organizations", `{"name": "n"}`, 422, []string{"/id required"}},
	} {
		headers := []string{"If-Match", "*"}
		a := amy.do(row.method, row.path, row.body, headers...)
		got := a.violations()
		slices.Sort(got)
		if a.status != row.status || !slices.Equal(got, row.want) {
			t.Errorf("%s: %d %v, want %d %v: %s", name, a.status, got, row.status, row.want, a.body)
		}
		if strings.Contains(string(a.body), "canary") {
			t.Errorf("%s: the answer repeats a value: %s", name, a.body)
		}
	}
	if a := amy.want(200, "GET", "/api/connectors/"+id, nil); a.at("version") != 1.0 {
		t.Errorf("something was written: %s", a.body)
	}
	if list := amy.want(200, "GET", "/api/connectors", nil); len(list.json["items"].([]any)) != 1 {
		t.Errorf("something was made: %s", list.body)
	}
	if strings.Contains(w.log.String(), canary) {
		t.Error("the log holds a secret")
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	amy := w.as(adminClaims())
	id := amy.lab("stored", "hq")
	theirs := w.as(adminClaims(func(c *devissuer.Claims) { c.Tenant = "globex" })).lab("of globex", "hq")
	body := map[string]any{"name": "n"}
	for name, row := range map[string]struct {
		method, path string
		body         any
		headers      []string
		status       int
		want         []string
	}{
		"an unknown parameter":       {"GET", "/api/connectors?categroy=email", nil, nil, 422, []string{"/query/categroy unknown"}},
		"a parameter twice":          {"GET", "/api/connectors?q=a&q=b", nil, nil, 422, []string{"/query/q duplicate"}},
		"no such state":              {"GET", "/api/connectors?state=broken", nil, nil, 422, []string{"/query/state invalid"}},
		"a large page":               {"GET", "/api/connectors?limit=201", nil, nil, 422, []string{"/query/limit invalid"}},
		"a page of text":             {"GET", "/api/connectors?limit=canary", nil, nil, 422, []string{"/query/limit invalid"}},
		"a cursor of nothing":        {"GET", "/api/connectors?cursor=AAAA", nil, nil, 422, []string{"/query/cursor format"}},
		"another list's cursor":      {"GET", "/api/connectors?cursor=YXVkaXQ6Mjk", nil, nil, 422, []string{"/query/cursor format"}},
		"a bad organization":         {"GET", "/api/connectors?organization_id=..%2Fhq", nil, nil, 422, []string{"/query/organization_id format"}},
		"both":                       {"GET", "/api/connectors?organization_id=hq&tenant_wide=true", nil, nil, 422, []string{"/query/tenant_wide conflict"}},
		"no category":                {"GET", "/api/connectors/resolve", nil, nil, 422, []string{"/query/category invalid"}},
		"an unknown category":        {"GET", "/api/connectors/resolve?category=fax", nil, nil, 404, nil},
		"no id":                      {"GET", "/api/connectors/..%2f..%2fx", nil, nil, 404, nil},
		"another tenant's id":        {"GET", "/api/connectors/" + theirs, nil, nil, 404, nil},
		"no If-Match":                {"PATCH", "/api/connectors/" + id, body, nil, 428, nil},
		"another version":            {"PATCH", "/api/connectors/" + id, body, []string{"If-Match", `"7"`}, 412, nil},
		"a weak tag":                 {"PATCH", "/api/connectors/" + id, body, []string{"If-Match", `W/"1"`}, 412, nil},
		"a malformed tag":            {"PATCH", "/api/connectors/" + id, body, []string{"If-Match", `1`}, 412, nil},
		"another's id and any tag":   {"PATCH", "/api/connectors/" + theirs, body, []string{"If-Match", `"7"`}, 404, nil},
		"another's id and no tag":    {"PATCH", "/api/connectors/" + theirs, body, nil, 428, nil},
		"a stale activation":         {"POST", "/api/connectors/" + id + "/activate", nil, []string{"If-Match", `"7"`}, 412, nil},
		"a replacement out of reach": {"DELETE", "/api/connectors/" + id + "/default?replacement=" + theirs, nil, nil, 200, nil}, // it is no default: nothing goes
		"a draft of another's":       {"POST", "/api/connectors/test", map[string]any{"id": theirs}, nil, 404, nil},
		"a clone of another's":       {"POST", "/api/connectors/" + theirs + "/clone", body, nil, 404, nil},
		"text":                       {"POST", "/api/connectors", body, []string{"Content-Type", "text/plain"}, 415, nil},
		"another charset":            {"POST", "/api/connectors", body, []string{"Content-Type", "application/json; charset=utf-16"}, 415, nil},
		"a merge patch that is none": {"PUT", "/api/connectors/" + id, body, []string{"If-Match", "*", "Content-Type", "application/merge-patch+json"}, 415, nil},
		"another type wanted":        {"GET", "/api/connectors", nil, []string{"Accept", "text/html"}, 406, nil},
		"a short key":                {"POST", "/api/connectors", body, []string{"Idempotency-Key", "short"}, 422, []string{"/header/Idempotency-Key format"}},
		"a key with a space":         {"POST", "/api/connectors", body, []string{"Idempotency-Key", "0123456789 abcdefgh"}, 422, []string{"/header/Idempotency-Key format"}},
		"no such kind":               {"GET", "/api/connectors/types/s33", nil, nil, 404, nil},
		"an unknown state":           {"GET", "/api/connectors/oauth/callback/lab?state=x&code=canary-secret-value", nil, nil, 404, nil},
		"a callback of nothing":      {"GET", "/api/connectors/oauth/callback/lab", nil, nil, 422, []string{"/query/state required"}},
		"a bad time":                 {"GET", "/api/audit?from=yesterday", nil, nil, 422, []string{"/query/from invalid"}},
		"a file that reads":          {"POST", "/api/connectors/import", `<patchbay><record id="a" model="ir.connector"><field name="kind">lab</field><field name="config" eval="{'host': '$ENV:HOME', 'password': '$FILE:/etc/passwd'}"/></record></patchbay>`, []string{"Content-Type", "application/xml"}, 422, []string{" invalid_argument", " invalid_argument"}},
		"a file that suspends":       {"POST", "/api/connectors/import", `<patchbay><record id="t" model="gateway.tenant"><field name="key">acme</field><field name="status">suspended</field></record></patchbay>`, []string{"Content-Type", "application/xml"}, 422, []string{" invalid_argument"}},
		"another tenant's file":      {"POST", "/api/connectors/import", `<patchbay><record id="t" model="gateway.tenant"><field name="key">globex</field></record></patchbay>`, []string{"Content-Type", "application/xml"}, 422, []string{" invalid_argument"}},
	} {
		a := amy.do(row.method, row.path, row.body, row.headers...)
		if got := a.violations(); a.status != row.status || row.want != nil && !slices.Equal(got, row.want) {
			t.Errorf("%s: %d %v, want %d %v: %s", name, a.status, got, row.status, row.want, a.body)
		}
		if strings.Contains(string(a.body), "canary") || strings.Contains(string(a.body), "globex") && strings.Contains(name, "another's") {
			t.Errorf("%s: the answer repeats too much: %s", name, a.body)
		}
	}
	if a := amy.want(200, "GET", "/api/connectors/"+id, nil); a.at("version") != 1.0 {
		t.Errorf("something was written: %s", a.body)
	}
	for method, status := range map[string]int{"TRACE": 405, "BREW": 405, "PUT": 405, "HEAD": 405} {
		if a := amy.do(method, "/api/connectors", nil); a.status != status {
			t.Errorf("%s: %d", method, a.status)
		}
	}
	for _, path := range []string{"/api", "/api/", "/api/connectors/", "/API/connectors", "/api/nothing", "/api/connectors/" + id + "/nothing"} {
		if a := amy.do("GET", path, nil); a.status != 404 || a.text("code") != "not_found" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

// A large body is not read of who shows no token, and not taken of anybody.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	amy := w.as(adminClaims())
	large := `{"name": "` + strings.Repeat("x", 2<<20) + `"}`
	for what, row := range map[string]struct{ token, body string }{"2 MiB": {amy.token, large}, "64 KiB of nobody": {"", large[:64<<10]}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.base+"/api/connectors", strings.NewReader(row.body))
		must(t, err)
		req.Header.Set("Content-Type", "application/json")
		if row.token != "" {
			req.Header.Set("Authorization", "Bearer "+row.token)
		}
		res, err := w.client.Do(req)
		if err != nil { // hung up on while it still wrote, which is a refusal as well
			continue
		}
		if _ = res.Body.Close(); res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d", what, res.StatusCode)
		}
	}
	if list := amy.want(200, "GET", "/api/connectors", nil); len(list.json["items"].([]any)) != 0 {
		t.Errorf("something was made: %s", list.body)
	}
	if a := amy.do("POST", "/api/connectors/import", "<patchbay>"+strings.Repeat(" ", 2<<20)+"</patchbay>", "Content-Type", "application/xml"); a.status != 200 {
		t.Errorf("a data file of 2 MiB: %d %.300s", a.status, a.body)
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *adminapi.Options) { o.RequestsPerSecond, o.Burst = 1, 3 })
	amy, theirs := w.as(adminClaims()), w.as(adminClaims(func(c *devissuer.Claims) { c.Tenant = "globex" }))
	refused := 0
	for range 8 {
		if a := amy.do("GET", "/api/connectors", nil); a.status == 429 {
			refused++
			if a.header.Get("Retry-After") == "" || a.text("code") != "rate_limited" {
				t.Errorf("%v %s", a.header, a.body)
			}
		}
	}
	if refused < 3 {
		t.Errorf("%d of 8 refused", refused)
	}
	theirs.want(200, "GET", "/api/connectors", nil)
}
