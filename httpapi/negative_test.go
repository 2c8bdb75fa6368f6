package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/sqlite"
	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
	"github.com/patchbay-dev/patchbay/vault/sealed"
)

// tells are the headers in which an answer says how far it can be trusted.
var tells = []string{"Age", "X-Patchbay-Source", "X-Patchbay-Revision", "X-Patchbay-Stale"}

// says compares those headers: none of them where nothing is wanted, "#" is any
// number.
func (w *world) says(what string, h http.Header, want ...string) {
	w.t.Helper()
	for i, k := range tells {
		got := h.Values(k)
		switch {
		case len(want) == 0 && len(got) == 0, len(want) != 0 && len(got) == 1 && got[0] == want[i]:
		case len(want) != 0 && want[i] == "#" && len(got) == 1 && number.MatchString(got[0]):
		default:
			w.t.Errorf("%s: %s is %q, want %q", what, k, got, want)
		}
	}
}

var number = regexp.MustCompile(`^\d+$`)

// count is a sample of the metrics page.
func (w *world) count(name string) (n int) {
	w.t.Helper()
	page := httptest.NewRecorder()
	w.reg.Handler().ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(page.Body.String()) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			var err error
			if n, err = strconv.Atoi(strings.TrimSpace(text)); err != nil {
				w.t.Fatal(err)
			}
			return n
		}
	}
	w.t.Fatalf("no metric %s", name)
	return 0
}

// TestNegativeAnswersTellTheirAge: whoever is told "no default" must see how old
// that is. What is no answer has no age, and a problem stays a problem.
func TestNegativeAnswersTellTheirAge(t *testing.T) {
	t.Parallel()
	told := resolver.Answer{Source: resolver.FromRedis, Revision: 7, Age: 90 * time.Second, Stale: true}
	for _, c := range []struct {
		code   fault.Code
		status int
		told   bool
	}{
		{fault.NotFound, 404, true},
		{fault.NoDefaultConnector, 404, true},
		{fault.TenantSuspended, 403, true},
		{fault.PermissionDenied, 403, true},
		{fault.NeedsReauthorization, 424, true},
		{fault.Inactive, 409, true},
		{fault.Conflict, 409, false},
		{fault.Unavailable, 503, false},
		{fault.DeadlineExceeded, 504, false},
	} {
		t.Run(string(c.code), func(t *testing.T) {
			t.Parallel()
			w := start(t, nil)
			if c.told {
				w.table.told = told
			}
			w.table.errs["storage"] = fault.New(c.code, "public").WithCause(io.EOF)
			conn, r := w.dial()
			ask := func(headers string) (*http.Response, string) {
				if _, err := io.WriteString(conn, "GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\n"+headers+"\r\n"); err != nil {
					t.Fatal(err)
				}
				return w.read(r)
			}
			auth := "Authorization: " + w.token() + "\r\n"
			res, body := ask(auth + "If-None-Match: *\r\n")
			w.problem(res, body, c.status, string(c.code))
			stale, answers := 0, 0
			if c.told {
				w.says("negative", res.Header, "90", "redis", "7", "true")
				stale, answers = 1, 1
			} else {
				w.says("no answer", res.Header)
			}
			if res.Header.Get("ETag") != "" || res.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("%v", res.Header)
			}
			if s, a := w.count("patchbay_stale_answers_total"), w.count(`patchbay_answers_total{source="redis"}`); s != stale || a != answers {
				t.Errorf("counted %d stale and %d in all", s, a)
			}
			// Nothing of it is left for the next one on the connection.
			res, body = ask("")
			w.problem(res, body, 401, "unauthenticated")
			w.says("unauthenticated", res.Header)
		})
	}
}

// TestSetIsAsOldAsItsNegativeParts: that nothing else answers is a part of what a
// set says.
func TestSetIsAsOldAsItsNegativeParts(t *testing.T) {
	t.Parallel()
	set := resolver.Set{
		Answers:  map[providers.Category]resolver.Answer{"storage": answer(`{"s": "hq"}`)},
		Negative: []resolver.Answer{{Source: resolver.FromRedis, Revision: 7, Age: 90 * time.Second, Stale: true}},
		Revision: 7,
	}
	w := start(t, func(o *LocalOptions) { o.Resolver = sets{set, nil} })
	res, body := w.get("/v1/resolve")
	if res.StatusCode != 200 || body != `{"backends":{"storage":{"s": "hq"}},"errors":{}}` {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	w.says("a set", res.Header, "90", "redis", "7", "true")
	tag := res.Header.Get("ETag")
	set.Negative = nil
	w = start(t, func(o *LocalOptions) { o.Resolver = sets{set, nil} })
	if res, _ = w.get("/v1/resolve", "If-None-Match: "+tag); res.StatusCode != 304 {
		t.Errorf("the tag covers how old an answer is: %d", res.StatusCode)
	}
	w.says("a fresh set", res.Header, "0", "memory", "7", "false")
}

// sets is a resolver whose every set is this one.
type sets struct {
	set resolver.Set
	err error
}

func (s sets) ResolveAll(context.Context, resolver.Slot, int64) (resolver.Set, error) {
	return s.set, s.err
}

func (s sets) Resolve(context.Context, resolver.Slot, int64) (resolver.Answer, error) {
	return resolver.Answer{}, s.err
}

func (s sets) Connector(context.Context, resolver.ByID, int64) (resolver.Answer, error) {
	return resolver.Answer{}, s.err
}

// TestNegativeAnswersEndToEnd: the same with a real resolver over a real store,
// which is then taken away.
func TestNegativeAnswersEndToEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() }) // the test closes it too
	secrets, err := sealed.Open(dir, sealed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kinds, err := builtin.Registry()
	if err != nil {
		t.Fatal(err)
	}
	with := func(ttl time.Duration) *world {
		answers, err := resolver.New(resolver.Options{Database: store, Secrets: secrets, Kinds: kinds, NegativeTTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		return start(t, func(o *LocalOptions) { o.Resolver, o.Categories = answers, kinds })
	}
	w, keeps := with(time.Nanosecond), with(time.Hour)

	acme, gone := tenant.MustID("acme"), tenant.MustID("suspended")
	hq, shut := tenant.MustOrganizationID("hq"), tenant.MustOrganizationID("shut")
	smtp := func(change func(*connector.Connector)) connector.Connector {
		c := connector.Connector{
			ID: connector.NewID(), Name: "SMTP", Category: providers.Email, Kind: "smtp", SchemaVersion: 1, State: connector.StateUntested,
			Params: map[string]connector.Param{"host": {Value: "mail.example.com", Writer: connector.WriterAPI}},
		}
		change(&c)
		return c
	}
	blocked := smtp(func(c *connector.Connector) { c.BlockPinned = true })
	pending := smtp(func(c *connector.Connector) {
		c.Organization, c.Active, c.Default, c.State = hq, true, true, connector.StateNeedsReauthorization
	})
	revisions, err := store.Change(t.Context(), connector.Change{Actor: "test", Create: []connector.Tenant{
		{ID: acme, Name: "Acme", Status: connector.StatusReady}, {ID: gone, Name: "Gone", Status: connector.StatusSuspended},
	}}, func(ctx context.Context, tx connector.Tx) error {
		for org, active := range map[tenant.OrganizationID]bool{hq: true, shut: false} {
			if err := tx.Tenant(acme).PutOrganization(ctx, connector.Organization{ID: org, Name: "O", Active: active}); err != nil {
				return err
			}
		}
		for _, c := range []connector.Connector{blocked, pending} {
			if err := tx.Tenant(acme).Insert(ctx, c); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	token := func(id, org string) string {
		return w.kit.Token(tenanttest.Claims{Tenant: id, Organization: org})
	}
	ask := func(path, token string, lines ...string) (*http.Response, string) {
		t.Helper()
		return w.raw("GET " + path + " HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + token + "\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n")
	}
	now := strconv.FormatInt(revisions[acme], 10)
	walk := func(source, stale string) {
		t.Helper()
		for _, c := range []struct {
			path, token string
			status      int
			code        string
			revision    string
		}{
			{"/v1/resolve/storage", token("acme", "hq"), 404, "no_default_connector", now},
			{"/v1/resolve/email", token("acme", "hq"), 424, "needs_reauthorization", now},
			{"/v1/resolve/storage", token("acme", "shut"), 403, "permission_denied", now},
			{"/v1/resolve/storage", token("suspended", ""), 403, "tenant_suspended", strconv.FormatInt(revisions[gone], 10)},
			{"/v1/resolve/storage", token("nobody", ""), 404, "not_found", "0"}, // no record, no revision yet
			{"/v1/connectors/" + blocked.ID.String(), token("acme", "hq"), 409, "inactive", now},
			{"/v1/connectors/" + connectorID.String(), token("acme", "hq"), 404, "not_found", now},
			{"/v1/resolve", token("acme", "shut"), 403, "permission_denied", now},
			{"/v1/resolve", token("suspended", ""), 403, "tenant_suspended", strconv.FormatInt(revisions[gone], 10)},
		} {
			res, body := ask(c.path, c.token)
			w.problem(res, body, c.status, c.code)
			w.says(source+" "+c.path+" "+c.code, res.Header, "#", source, c.revision, stale)
		}
		res, body := ask("/v1/resolve", token("acme", "hq"))
		var all struct {
			Backends map[string]any
			Errors   map[string]problem.Problem
		}
		if err := json.Unmarshal([]byte(body), &all); err != nil || res.StatusCode != 200 || len(all.Backends) != 0 || len(all.Errors) != 1 || all.Errors["email"].Status != 424 {
			t.Errorf("%d %s: %v", res.StatusCode, body, err)
		}
		w.says(source+" set", res.Header, "#", source, now, stale)
	}
	walk("database", "false")

	// Read your own writes: "no default" at revision N is no older than N, although
	// an older one is held and fresh.
	held := "GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + keeps.token() + "\r\n"
	for _, source := range []string{"database", "memory"} {
		res, _ := keeps.raw(held + "\r\n")
		keeps.says("held", res.Header, "#", source, now, "false")
	}
	later, err := store.Change(t.Context(), connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(ctx context.Context, tx connector.Tx) error {
		return tx.Tenant(acme).PutOrganization(ctx, connector.Organization{ID: tenant.MustOrganizationID("lab"), Name: "L", Active: true})
	})
	if err != nil {
		t.Fatal(err)
	}
	now = strconv.FormatInt(later[acme], 10)
	for path, code := range map[string]string{"/v1/resolve/storage": "no_default_connector", "/v1/connectors/" + connectorID.String(): "not_found"} {
		res, body := ask(path, token("acme", "hq"), "X-Patchbay-Min-Revision: "+now)
		w.problem(res, body, 404, code)
		w.says("its own write", res.Header, "#", "database", now, "false")
		res, body = ask(path, token("acme", "hq"), "X-Patchbay-Min-Revision: "+strconv.FormatInt(later[acme]+1, 10))
		w.problem(res, body, 409, "conflict")
		w.says("more than there is", res.Header)
	}
	res, body := keeps.raw(held + "\r\n")
	keeps.problem(res, body, 404, "no_default_connector")
	keeps.says("without a minimum", res.Header, "#", "memory", strconv.FormatInt(revisions[acme], 10), "false")
	res, body = keeps.raw(held + "X-Patchbay-Min-Revision: " + now + "\r\n\r\n")
	keeps.problem(res, body, 404, "no_default_connector")
	keeps.says("with one", res.Header, "#", "database", now, "false")
	walk("database", "false") // everything is held at this revision

	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	before := w.count("patchbay_stale_answers_total")
	walk("memory", "true")
	if n := w.count("patchbay_stale_answers_total") - before; n != 10 {
		t.Errorf("%d stale answers are counted, 10 were given", n)
	}
	// A minimum holds in an outage too: what is held is older, and nothing else is known.
	res, body = ask("/v1/resolve/storage", token("acme", "hq"), "X-Patchbay-Min-Revision: "+strconv.FormatInt(later[acme]+1, 10))
	w.problem(res, body, 503, "unavailable")
	w.says("an outage", res.Header)
	res, body = ask("/v1/resolve/storage", token("acme", "lab"))
	w.problem(res, body, 503, "unavailable")
	w.says("nothing held", res.Header)
}
