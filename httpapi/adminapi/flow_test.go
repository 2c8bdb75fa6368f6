package adminapi_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/patchbay-dev/patchbay/tenant/devissuer"
)

// A connector's life, as automation leads it: every answer has the version that the
// next request names.
func TestLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	amy := w.as(adminClaims())
	made := amy.want(201, "POST", "/api/connectors", map[string]any{"name": "A", "kind": "laboratory", "organization_id": "hq",
		"params": map[string]any{"host": "one.example"}, "secrets": map[string]any{"password": canary}})
	id, path := made.text("id"), "/api/connectors/"+made.text("id")
	if made.header.Get("Location") != path || made.header.Get("ETag") != `"1"` || made.header.Get("X-Patchbay-Revision") == "" ||
		made.text("kind") != "lab" || made.at("secrets", "password", "configured") != true || made.at("secrets", "client_secret", "configured") != false || made.at("last_test") != nil {
		t.Fatalf("%v %s", made.header, made.body)
	}
	amy.want(409, "POST", path+"/activate", nil)
	tested := amy.want(200, "POST", path+"/test", map[string]any{"level": 1})
	if tested.at("ok") != true || tested.at("version") != 1.0 {
		t.Errorf("%s", tested.body)
	}
	if a := amy.want(200, "GET", path, nil); a.header.Get("ETag") != `"1"` || a.text("state") != "connected" || a.at("last_test", "ok") != true {
		t.Errorf("a test moves the version or leaves no trace: %s", a.body)
	}
	active := amy.want(200, "POST", path+"/activate", nil, "If-Match", `"1"`)
	amy.want(200, "POST", path+"/default", nil, "If-Match", active.header.Get("ETag"))
	if a := amy.want(200, "GET", "/api/connectors/resolve?category=storage&organization_id=hq&explain=true", nil); a.text("connector_id") != id || a.at("problem") != nil {
		t.Errorf("%s", a.body)
	}
	// Where a secret goes changes with the secret, or not at all.
	if a := amy.want(422, "PATCH", path, map[string]any{"params": map[string]any{"host": "two.example"}}, "If-Match", "*"); a.text("code") != "secret_required" || a.violations()[0] != "/secrets/password secret_required" {
		t.Errorf("%s", a.body)
	}
	moved := amy.want(200, "PATCH", path, map[string]any{"params": map[string]any{"host": "two.example", "note": "n"}, "secrets": map[string]any{"password": canary + "-2"}}, "If-Match", "*")
	if moved.at("secrets", "password", "version") != 2.0 {
		t.Errorf("%s", moved.body)
	}
	// PUT: what is omitted takes its default, secrets are kept.
	put := amy.want(200, "PUT", path, map[string]any{"name": "B", "params": map[string]any{"host": "two.example"}}, "If-Match", moved.header.Get("ETag"))
	if _, note := put.at("params").(map[string]any)["note"]; note || put.text("name") != "B" || put.at("secrets", "password", "version") != 2.0 {
		t.Errorf("%s", put.body)
	}
	amy.want(412, "PUT", path, map[string]any{"name": "C", "params": map[string]any{"host": "two.example"}}, "If-Match", moved.header.Get("ETag"))
	// The default goes to somebody, or nobody is said to follow.
	amy.want(409, "POST", path+"/deactivate", nil)
	other := amy.lab("other", "hq", func(m map[string]any) { m["active"] = true })
	swapped := amy.want(200, "POST", path+"/deactivate", map[string]any{"replacement": other})
	if swapped.at("active") != false || swapped.at("is_default") != false {
		t.Errorf("%s", swapped.body)
	}
	if a := amy.want(200, "GET", "/api/connectors/"+other, nil); a.at("is_default") != true || a.at("version") != 2.0 {
		t.Errorf("the replacement: %s", a.body)
	}
	amy.want(409, "DELETE", "/api/connectors/"+other, nil, "If-Match", "*")
	amy.want(204, "DELETE", "/api/connectors/"+other+"?allow_no_default=true", nil, "If-Match", "*")
	amy.want(404, "GET", "/api/connectors/"+other, nil)
	if a := amy.want(200, "GET", "/api/connectors?deleted=true", nil); len(a.json["items"].([]any)) != 1 {
		t.Errorf("%s", a.body)
	}
	amy.want(200, "POST", "/api/connectors/"+other+"/restore", nil)
	// Back to the first version, secrets and all.
	amy.want(200, "POST", path+"/revisions/1/restore", nil, "If-Match", "*")
	if a := amy.want(200, "GET", path+"/config?reveal=true", nil); a.text("secrets", "password") != canary || a.text("params", "host") != "one.example" || a.at("params", "port") != 443.0 {
		t.Errorf("%s", a.body)
	}
	if a := amy.want(200, "GET", path+"/config", nil); a.at("secrets", "password", "configured") != true {
		t.Errorf("%s", a.body)
	}
	history := amy.want(200, "GET", path+"/revisions?limit=2", nil)
	rest := amy.want(200, "GET", path+"/revisions?limit=2&cursor="+history.text("next_cursor"), nil)
	first := history.json["items"].([]any)[0].(map[string]any)
	pointers := []string{}
	for _, c := range first["changes"].([]any) {
		pointers = append(pointers, c.(map[string]any)["pointer"].(string))
	}
	if !slices.Equal(pointers, []string{"/name", "/params/host", "/secrets/password/version"}) || len(rest.json["items"].([]any)) != 2 {
		t.Errorf("%v\n%s", pointers, history.body)
	}
	copied := amy.want(201, "POST", path+"/clone", map[string]any{"name": "copy", "organization_id": "labs"})
	if copied.at("active") != false || copied.text("organization_id") != "labs" {
		t.Errorf("%s", copied.body)
	}
	amy.want(200, "POST", path+"/import-config", map[string]any{"file_data": "eyJub3RlIjogImZyb20gYSBmaWxlIn0="}, "If-Match", "*")
	failed := amy.want(200, "POST", "/api/connectors/test", map[string]any{"id": id, "params": map[string]any{"host": "broken.example"}})
	if failed.at("ok") != false || fmt.Sprint(failed.at("withheld")) != "[password]" {
		t.Errorf("%s", failed.body)
	}
	// A tenant's own admin finds all of it in the audit, without a value.
	trail := amy.want(200, "GET", "/api/audit?limit=200", nil)
	for _, action := range []string{"connector.create", "connector.test", "connector.activate", "connector.default", "connector.secrets_read", "connector.restore_revision", "connector.delete"} {
		if !strings.Contains(string(trail.body), `"`+action+`"`) {
			t.Errorf("the audit has no %s", action)
		}
	}
	exported := amy.want(200, "GET", "/api/audit/export", nil)
	if n := strings.Count(string(exported.body), "\n"); n != len(trail.json["items"].([]any)) {
		t.Errorf("%d lines, %d entries", n, len(trail.json["items"].([]any)))
	}
	for _, text := range []string{string(trail.body), string(exported.body), string(history.body), w.log.String()} {
		if strings.Contains(text, canary) {
			t.Errorf("a secret: %.300s", text)
		}
	}
}

// A consent by HTTP alone, as a browser without cookies makes it.
func TestConsentByHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	amy, eve := w.as(adminClaims()), w.as(adminClaims(func(c *devissuer.Claims) { c.Subject = "eve" }))
	id := amy.lab("mail", "hq", func(m map[string]any) { m["params"].(map[string]any)["mode"] = "oauth" })
	path := "/api/connectors/" + id + "/oauth/"
	begun := amy.want(200, "POST", path+"start", nil)
	to, err := url.Parse(begun.text("authorization_url"))
	must(t, err)
	state := to.Query().Get("state")
	if begun.text("redirect_uri") != "https://p.example/api/connectors/oauth/callback/lab" || to.Query().Get("redirect_uri") != begun.text("redirect_uri") {
		t.Errorf("%s", begun.body)
	}
	browser := &caller{w, ""}
	page := browser.want(404, "GET", "/api/connectors/oauth/callback/s3?code=c&state="+state, nil, "Accept", "text/html")
	if strings.Contains(string(page.body), "<script") {
		t.Errorf("a page for another kind's address has a script: %s", page.body)
	}
	// A replayed state, and one that the issuer refused, are of no use.
	handle := browser.want(200, "GET", "/api/connectors/oauth/callback/lab?iss=x&scope=y&code=c&state="+state, nil).text("handle")
	browser.want(404, "GET", "/api/connectors/oauth/callback/lab?code=c&state="+state, nil)
	if a := eve.want(422, "POST", path+"complete", map[string]any{"handle": handle}); a.violations()[0] != "/handle unknown" {
		t.Errorf("%s", a.body)
	}
	done := amy.want(200, "POST", path+"complete", map[string]any{"handle": handle})
	if done.text("connector", "state") != "connected" || done.at("test", "ok") != true || done.header.Get("X-Patchbay-Revision") == "" {
		t.Errorf("%s", done.body)
	}
	amy.want(422, "POST", path+"complete", map[string]any{"handle": handle})

	if a := amy.want(200, "POST", "/api/connectors/"+id+"/deactivate", map[string]any{"revoke": true}); a.header.Get("X-Patchbay-Revocation") != "revoked" || a.text("state") != "needs_reauthorization" {
		t.Errorf("%v %s", a.header, a.body)
	}
	again := amy.want(200, "POST", path+"start", nil)
	to, err = url.Parse(again.text("authorization_url"))
	must(t, err)
	denied := browser.want(409, "GET", "/api/connectors/oauth/callback/lab?error=access_denied&error_description=%3Cscript%3Ecanary&state="+to.Query().Get("state"), nil, "Accept", "text/html,*/*;q=0.8")
	if strings.Contains(string(denied.body), "canary") || !strings.Contains(string(denied.body), "refused, by the user") || strings.Contains(string(denied.body), "<script") {
		t.Errorf("%s", denied.body)
	}
	browser.want(404, "GET", "/api/connectors/oauth/callback/lab?code=c&state="+to.Query().Get("state"), nil)
	third := amy.want(200, "POST", path+"start", nil)
	to, err = url.Parse(third.text("authorization_url"))
	must(t, err)
	ok := browser.want(200, "GET", "/api/connectors/oauth/callback/lab?code=c&state="+to.Query().Get("state"), nil, "Accept", "text/html,*/*;q=0.8")
	policy := ok.header.Get("Content-Security-Policy")
	_, nonce, _ := strings.Cut(policy, "script-src 'nonce-")
	nonce, _, _ = strings.Cut(nonce, "'")
	if nonce == "" || !strings.Contains(string(ok.body), `<script nonce="`+nonce+`">`) || ok.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%s\n%s", policy, ok.body)
	}
}

// Two admins change one connector and one slot at once: nothing is lost, and there
// are never two defaults.
func TestTwoAdmins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	amy, bob := w.as(adminClaims()), w.as(adminClaims(func(c *devissuer.Claims) { c.Subject = "bob" }))
	counter := amy.lab("counter", "hq", func(m map[string]any) { m["params"].(map[string]any)["note"] = "0" })
	slots := []string{amy.lab("a", "hq", func(m map[string]any) { m["active"] = true }), amy.lab("b", "hq", func(m map[string]any) { m["active"] = true })}
	const each = 250
	var stale, edits atomic.Int64
	var wg sync.WaitGroup
	for _, who := range []*caller{amy, bob} {
		wg.Go(func() {
			for done := 0; done < each; {
				a := who.want(200, "GET", "/api/connectors/"+counter, nil)
				n, err := strconv.Atoi(a.text("params", "note"))
				must(t, err)
				switch b := who.do("PATCH", "/api/connectors/"+counter, map[string]any{"params": map[string]any{"note": strconv.Itoa(n + 1)}}, "If-Match", a.header.Get("ETag")); b.status {
				case 200:
					done++
					edits.Add(1)
				case 412:
					stale.Add(1)
				default:
					t.Errorf("%d %s", b.status, b.body)
					return
				}
			}
		})
		wg.Go(func() {
			for range each {
				if a := who.do("POST", "/api/connectors/"+slots[rand.N(2)]+"/default", nil); a.status != 200 && a.status != 412 {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
	wg.Wait()
	if a := amy.want(200, "GET", "/api/connectors/"+counter, nil); a.text("params", "note") != strconv.Itoa(2*each) || edits.Load() != 2*each {
		t.Errorf("%s edits of %d (%d stale): an update was lost", a.text("params", "note"), edits.Load(), stale.Load())
	}
	if a := amy.want(200, "GET", "/api/connectors?is_default=true", nil); len(a.json["items"].([]any)) != 1 {
		t.Errorf("defaults: %s", a.body)
	}
}

// Whatever is asked of an operation, as its description has it or not, the answer is
// one that the description knows, and never an internal error.
func TestAnything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	amy := w.as(adminClaims(func(c *devissuer.Claims) { c.Roles = append(c.Roles, "platform.admin") }))
	ids := []string{amy.lab("a", "hq"), amy.lab("b", "labs"), "01981a5c-6f3e-7b1a-8c6d-2f1e0a9b8c7d", "x", "%00", "..%2f"}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	pick := func(from ...any) any { return from[r.IntN(len(from))] }
	var anything func(depth int) any
	anything = func(depth int) any {
		switch n := r.IntN(10); {
		case n < 2 && depth > 0:
			m := map[string]any{}
			for range r.IntN(4) {
				m[fmt.Sprint(pick("host", "port", "name", "note", "password", "", "~/", "\u0000", "canary"))] = anything(depth - 1)
			}
			return m
		case n < 3 && depth > 0:
			return []any{anything(depth - 1)}
		}
		return pick(nil, true, false, "", "x", "****", strings.Repeat("y", 300), "\u2028", 0, -1, 1.5, 1e300, 70000, "one.example", "hq", "labs", ids[0])
	}
	// What a person would send, half of the time, so that it is not the first check
	// that everything ends at.
	sound := map[string]any{"name": "A name", "id": "fresh-org", "kind": "lab", "category": "storage", "organization_id": "hq", "params": map[string]any{"host": "one.example"},
		"secrets": map[string]any{"password": canary}, "active": true, "is_default": false, "force": true, "reason": "because", "level": 1, "note": "n",
		"json_data": map[string]any{"note": "n"}, "handle": "h", "allow_no_default": true, "block_pinned": true}
	generate := func(schema map[string]any, well bool) map[string]any {
		if well {
			schema = w.document.Resolve(schema)
			out := map[string]any{}
			if list, ok := schema["oneOf"].([]any); ok {
				schema = w.document.Resolve(list[0].(map[string]any))
			}
			properties, _ := schema["properties"].(map[string]any)
			for name := range properties {
				if v, ok := sound[name]; ok && (r.IntN(2) == 0 || name == "name" || name == "kind" || name == "params" || name == "force" || name == "reason" || name == "json_data") {
					out[name] = v
				}
			}
			return out
		}
		schema = w.document.Resolve(schema)
		if list, ok := schema["oneOf"].([]any); ok {
			schema = w.document.Resolve(list[r.IntN(len(list))].(map[string]any))
		}
		out := map[string]any{}
		properties, _ := schema["properties"].(map[string]any)
		for name, p := range properties {
			if r.IntN(3) == 0 {
				continue
			}
			out[name] = anything(2)
			of, _ := p.(map[string]any)
			if values, ok := of["enum"].([]any); ok && r.IntN(4) > 0 {
				out[name] = values[r.IntN(len(values))]
			} else if of["type"] == "string" && r.IntN(2) == 0 {
				out[name] = pick("x", "hq", "lab", ids[0], "A name", canary)
			}
		}
		if r.IntN(6) == 0 {
			out[fmt.Sprint(pick("unknown", "nam", ""))] = anything(1)
		}
		return out
	}
	rounds := 150
	if testing.Short() {
		rounds = 5
	}
	operations := w.document.Operations()
	for round := range rounds {
		ids[0] = amy.lab(fmt.Sprintf("round %d", round), "hq", func(m map[string]any) { m["active"] = true })
		for _, op := range operations {
			path, well := op.Path, r.IntN(2) == 0
			for _, p := range []string{"id", "n", "organization", "tenant", "kind"} {
				value := fmt.Sprint(pick("hq", "fresh", "lab", "1", "-1", "9999999999999999999", ids[r.IntN(len(ids))]))
				if p == "id" {
					value = ids[r.IntN(len(ids))]
				}
				if well {
					value = map[string]string{"id": ids[0], "n": "1", "organization": "hq", "tenant": "globex", "kind": "lab"}[p]
				}
				path = strings.ReplaceAll(path, "{"+p+"}", value)
			}
			query := url.Values{}
			parameters, _ := op.Raw["parameters"].([]any)
			for _, p := range parameters {
				p, _ := p.(map[string]any)
				name, _ := p["name"].(string)
				if p["in"] == "query" && (!well && r.IntN(3) == 0 || well && name == "category") {
					query.Set(name, fmt.Sprint(pick("", "true", "false", "1", "0", "-5", "abc", "hq", "storage", "xml", "2026-01-01T00:00:00Z", "\x00", "a,b", ids[0])))
				}
				if well && name == "category" {
					query.Set(name, "storage")
				}
			}
			if len(query) > 0 {
				path += "?" + query.Encode()
			}
			var body any
			headers := []string{"If-Match", fmt.Sprint(pick("*", `"1"`, `"2"`, "x"))}
			if well {
				headers[1] = "*"
			}
			if b, ok := op.Raw["requestBody"].(map[string]any); ok {
				content, _ := b["content"].(map[string]any)
				for mediaType, m := range content {
					m, _ := m.(map[string]any)
					schema, _ := m["schema"].(map[string]any)
					body = generate(schema, well)
					if schema["type"] == "string" {
						body = pick("<patchbay/>", "records: []", "<", "\x00", "{}")
					} else if !well && r.IntN(20) == 0 {
						body = pick("{", "", "[1]", `"x"`, "null")
					}
					headers = append(headers, "Content-Type", mediaType)
					break
				}
			}
			if r.IntN(8) == 0 {
				headers = append(headers, "Idempotency-Key", fmt.Sprint(pick("0123456789abcdef", "short", strings.Repeat("k", 300))))
			}
			// Its transport fails the test for a status or body that is not described.
			if a := amy.do(op.Method, path, body, headers...); a.status >= 500 && a.status != 503 && a.status != 504 {
				text, _ := json.Marshal(body)
				t.Errorf("%s %s %s: %d %s", op.Method, path, text, a.status, a.body)
			}
			if op.ID == "suspend-tenant" || op.ID == "delete-tenant" {
				amy.do("POST", "/api/tenants/acme/resume", nil)
			}
		}
	}
	for _, op := range operations {
		good := 0
		for _, status := range []int{200, 201, 204} {
			good += w.document.Seen(op.ID, status)
		}
		if good == 0 && op.ID != "start-consent" && op.ID != "complete-consent" && op.ID != "consent-callback" && !testing.Short() {
			t.Errorf("%s was never asked well: the test sees too little of it", op.ID)
		}
	}
}
