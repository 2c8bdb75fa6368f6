package httpapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

const canary = "s3cr3t-canary"

// table is a resolver in memory: slots and ids with fixed answers.
type table struct {
	slots map[resolver.Slot]resolver.Answer
	ids   map[resolver.ByID]resolver.Answer
	errs  map[providers.Category]error
	told  resolver.Answer // what errors tell of themselves
	hang  bool
}

func (m *table) Resolve(ctx context.Context, s resolver.Slot, minimum int64) (resolver.Answer, error) {
	if m.hang {
		<-ctx.Done()
		return resolver.Answer{}, ctx.Err()
	}
	if err := m.errs[s.Category]; err != nil {
		return m.told, err
	}
	a, ok := m.slots[s]
	switch {
	case !ok:
		return resolver.Answer{}, fault.New(fault.NoDefaultConnector, "no default connector")
	case minimum > a.Revision:
		return resolver.Answer{}, fault.New(fault.Conflict, "the minimum is above the database's revision")
	}
	return a, nil
}

func (m *table) Connector(_ context.Context, q resolver.ByID, _ int64) (resolver.Answer, error) {
	if a, ok := m.ids[q]; ok {
		return a, nil
	}
	return resolver.Answer{}, fault.New(fault.NotFound, "there is no such connector")
}

func (m *table) ResolveAll(_ context.Context, s resolver.Slot, _ int64) (resolver.Set, error) {
	set := resolver.Set{Answers: map[providers.Category]resolver.Answer{}, Errors: m.errs, Revision: 7}
	for k, a := range m.slots {
		if k.Tenant == s.Tenant && k.Organization == s.Organization {
			set.Answers[k.Category] = a
		}
	}
	return set, nil
}

type categories []providers.Category

func (c categories) Category(name string) (providers.Category, bool) {
	for _, k := range c {
		if string(k) == name {
			return k, true
		}
	}
	return "", false
}

var connectorID = connector.NewID()

func answer(body string) resolver.Answer {
	return resolver.Answer{
		Body: secret.NewBody([]byte(body)), ETag: `"tag-` + body[6:8] + `"`, Source: resolver.FromMemory, Revision: 7,
	}
}

// world is a running local API with its log.
type world struct {
	t     *testing.T
	kit   *tenanttest.Kit
	table *table
	local *Local
	addr  string
	log   *lockedBuffer
	reg   *obs.Registry
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func testLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func start(t *testing.T, change func(*LocalOptions)) *world {
	t.Helper()
	return startOn(t, "127.0.0.1:0", change)
}

// startOn is start on an address of one's choice.
func startOn(t *testing.T, address string, change func(*LocalOptions)) *world {
	t.Helper()
	w := &world{t: t, kit: tenanttest.New(t), log: &lockedBuffer{}, reg: obs.NewRegistry()}
	acme, org := tenant.MustID("acme"), tenant.MustOrganizationID("hq")
	w.table = &table{
		slots: map[resolver.Slot]resolver.Answer{
			{Tenant: acme, Organization: org, Category: "storage"}:                              answer(`{"s": "hq", "secret": "` + canary + `"}`),
			{Tenant: acme, Category: "storage"}:                                                 answer(`{"s": "no"}`),
			{Tenant: acme, Organization: tenant.MustOrganizationID("lab"), Category: "storage"}: answer(`{"s": "lab"}`),
		},
		ids:  map[resolver.ByID]resolver.Answer{{Tenant: acme, Organization: org, Connector: connectorID}: answer(`{"s": "id"}`)},
		errs: map[providers.Category]error{},
	}
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{w.kit.Issuer()}})
	if err != nil {
		t.Fatal(err)
	}
	o := LocalOptions{
		Verifier: v, Resolver: w.table, Categories: categories{"storage", "email"}, Registry: w.reg,
		Log: testLog(w.log),
	}
	if change != nil {
		change(&o)
	}
	l, err := NewLocal(o)
	if err != nil {
		t.Fatal(err)
	}
	w.local = l
	var ln net.Listener
	if o.UnixSocket {
		w.addr = filepath.Join(t.TempDir(), "s")
		ln, err = ListenUnix(t.Context(), w.addr)
	} else {
		ln, err = net.Listen("tcp", address)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !o.UnixSocket {
		w.addr = ln.Addr().String()
	}
	done := make(chan error, 1)
	go func() { done <- l.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := l.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return w
}

func (w *world) token() string {
	return w.kit.Token(tenanttest.Claims{Tenant: "acme", Organization: "hq", Organizations: []string{"hq", "lab"}})
}

// raw sends bytes as they are and reads one response.
func (w *world) raw(text string) (*http.Response, string) {
	w.t.Helper()
	network := "tcp"
	if strings.HasPrefix(w.addr, "/") {
		network = "unix"
	}
	conn, err := net.Dial(network, w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	// A server that has read enough answers and closes: the rest can't be written.
	_, _ = io.WriteString(conn, text)
	method, _, _ := strings.Cut(text, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("%.80q: %v", text, err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res, string(body)
}

// get sends a good GET with more header lines.
func (w *world) get(path string, lines ...string) (*http.Response, string) {
	w.t.Helper()
	return w.raw("GET " + path + " HTTP/1.1\r\n" + strings.Join(append([]string{"Host: localhost", "Authorization: Bearer " + w.token()}, lines...), "\r\n") + "\r\n\r\n")
}

func (w *world) problem(res *http.Response, body string, status int, code string) {
	w.t.Helper()
	var p problem.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil && res.Request.Method != "HEAD" {
		w.t.Errorf("not a problem: %d %q", res.StatusCode, body)
		return
	}
	if res.StatusCode != status || res.Request.Method != "HEAD" && (p.Code != code || p.Status != status || p.RequestID == "" || p.Type != "https://patchbay.dev/problems/"+code) {
		w.t.Errorf("got %d %s, want %d %s", res.StatusCode, body, status, code)
	}
	if ct := res.Header.Get("Content-Type"); ct != "application/problem+json" {
		w.t.Errorf("content type %q", ct)
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	res, body := w.get("/v1/resolve/storage")
	if res.StatusCode != 200 || body != `{"s": "hq", "secret": "`+canary+`"}` {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	for k, want := range map[string]string{
		"ETag": `"tag-"h"`, "Cache-Control": "no-store", "Age": "0", "X-Patchbay-Source": "memory",
		"X-Patchbay-Revision": "7", "X-Patchbay-Stale": "false", "Content-Type": "application/json",
	} {
		if got := res.Header.Get(k); got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
	// The bare JWT, as SDKs send it.
	res, _ = w.raw("GET /v1/resolve/storage HTTP/1.1\r\nHost: 127.0.0.1:1\r\nAuthorization: " + w.token() + "\r\n\r\n")
	if res.StatusCode != 200 {
		t.Errorf("bare JWT: %d", res.StatusCode)
	}
	res, body = w.get("/v1/connectors/" + connectorID.String())
	if res.StatusCode != 200 || body != `{"s": "id"}` {
		t.Errorf("connector: %d %s", res.StatusCode, body)
	}
	// RFC 9562, section 4: a reader of UUIDs takes both cases for the same id.
	lower := res.Header.Get("ETag")
	res, body = w.get("/v1/connectors/" + strings.ToUpper(connectorID.String()))
	if res.StatusCode != 200 || body != `{"s": "id"}` || res.Header.Get("ETag") != lower {
		t.Errorf("connector, in upper case: %d %s %s, want %s", res.StatusCode, body, res.Header.Get("ETag"), lower)
	}
	for _, choice := range [][]string{{"/v1/resolve/storage?organization=lab"}, {"/v1/resolve/storage", "X-Organization-Id: lab"}} {
		if _, body = w.get(choice[0], choice[1:]...); body != `{"s": "lab"}` {
			t.Errorf("%v: %s", choice, body)
		}
	}
	if strings.Contains(w.log.String(), canary) || strings.Contains(w.log.String(), "eyJ") {
		t.Error("a secret or token is in the log")
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	auth := "Authorization: Bearer " + w.token() + "\r\n"
	host := "Host: localhost\r\n"
	for name, row := range map[string]struct {
		request string
		status  int
		code    string
	}{
		"foreign host":         {"GET /v1/env HTTP/1.1\r\nHost: evil.example\r\n" + auth, 403, "permission_denied"},
		"host by suffix":       {"GET /v1/env HTTP/1.1\r\nHost: localhost.evil.example\r\n" + auth, 403, "permission_denied"},
		"host with bad port":   {"GET /v1/env HTTP/1.1\r\nHost: localhost:80x\r\n" + auth, 400, "invalid_argument"},
		"no host":              {"GET /v1/env HTTP/1.1\r\n" + auth, 403, "permission_denied"},
		"absolute target":      {"GET http://evil.example/v1/env HTTP/1.1\r\n" + host + auth, 403, "permission_denied"},
		"origin":               {"GET /v1/env HTTP/1.1\r\n" + host + auth + "Origin: http://localhost\r\n", 403, "permission_denied"},
		"origin null":          {"GET /v1/env HTTP/1.1\r\n" + host + auth + "origin: null\r\n", 403, "permission_denied"},
		"referer":              {"GET /v1/env HTTP/1.1\r\n" + host + auth + "Referer: http://x/\r\n", 403, "permission_denied"},
		"x-forwarded-for":      {"GET /v1/env HTTP/1.1\r\n" + host + auth + "X-Forwarded-For: 127.0.0.1\r\n", 403, "permission_denied"},
		"x-forwarded-anything": {"GET /v1/env HTTP/1.1\r\n" + host + auth + "x-forwarded-foo: 1\r\n", 403, "permission_denied"},
		"forwarded":            {"GET /v1/env HTTP/1.1\r\n" + host + auth + "Forwarded: for=1\r\n", 403, "permission_denied"},
		"guard before route":   {"GET /nowhere HTTP/1.1\r\nHost: evil.example\r\n", 403, "permission_denied"},
		"post":                 {"POST /v1/env HTTP/1.1\r\n" + host + auth + "Content-Length: 0\r\n", 405, "method_not_allowed"},
		"head":                 {"HEAD /v1/env HTTP/1.1\r\n" + host + auth, 405, "method_not_allowed"},
		"options":              {"OPTIONS /v1/env HTTP/1.1\r\n" + host + auth, 405, "method_not_allowed"},
		"unheard-of method":    {"BREW /v1/env HTTP/1.1\r\n" + host + auth, 405, "method_not_allowed"},
		"unknown route":        {"GET /v1/nowhere HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"route in upper case":  {"GET /V1/env HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"trailing slash":       {"GET /v1/env/ HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"oversized header":     {"GET /v1/env HTTP/1.1\r\n" + host + "X: " + strings.Repeat("x", 17<<10) + "\r\n", 431, "too_large"},
		"100 KB token":         {"GET /v1/env HTTP/1.1\r\n" + host + "Authorization: Bearer " + strings.Repeat("x", 100_000) + "\r\n", 431, "too_large"},
		"no token":             {"GET /v1/env HTTP/1.1\r\n" + host, 401, "unauthenticated"},
		"empty bearer":         {"GET /v1/env HTTP/1.1\r\n" + host + "Authorization: Bearer \r\n", 401, "unauthenticated"},
		"basic":                {"GET /v1/env HTTP/1.1\r\n" + host + "Authorization: Basic eDp5\r\n", 401, "unauthenticated"},
		"two tokens":           {"GET /v1/env HTTP/1.1\r\n" + host + auth + auth, 401, "unauthenticated"},
		"bad token":            {"GET /v1/env HTTP/1.1\r\n" + host + "Authorization: Bearer a.b.c\r\n", 401, "unauthenticated"},
		"unknown category":     {"GET /v1/resolve/nonsense HTTP/1.1\r\n" + host + auth, 404, "unknown_category"},
		"category in upper":    {"GET /v1/resolve/Storage HTTP/1.1\r\n" + host + auth, 404, "unknown_category"},
		"no default":           {"GET /v1/resolve/email HTTP/1.1\r\n" + host + auth, 404, "no_default_connector"},
		"bad id":               {"GET /v1/connectors/42 HTTP/1.1\r\n" + host + auth, 422, "invalid_argument"},
		"unknown id":           {"GET /v1/connectors/" + connector.NewID().String() + " HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"foreign organization": {"GET /v1/env HTTP/1.1\r\n" + host + auth + "X-Organization-Id: other\r\n", 403, "permission_denied"},
		"malformed org":        {"GET /v1/env?organization=../x HTTP/1.1\r\n" + host + auth, 422, "invalid_argument"},
		"empty org":            {"GET /v1/env?organization= HTTP/1.1\r\n" + host + auth, 422, "invalid_argument"},
		"org in both":          {"GET /v1/env?organization=hq HTTP/1.1\r\n" + host + auth + "X-Organization-Id: hq\r\n", 422, "invalid_argument"},
		"org twice in query":   {"GET /v1/env?organization=hq&organization=hq HTTP/1.1\r\n" + host + auth, 422, "invalid_argument"},
		"org twice in header":  {"GET /v1/env HTTP/1.1\r\n" + host + auth + "X-Organization-Id: hq\r\nX-Organization-Id: hq\r\n", 422, "invalid_argument"},
		"bad minimum":          {"GET /v1/resolve/storage HTTP/1.1\r\n" + host + auth + "X-Patchbay-Min-Revision: -1\r\n", 422, "invalid_argument"},
		"huge minimum":         {"GET /v1/resolve/storage HTTP/1.1\r\n" + host + auth + "X-Patchbay-Min-Revision: 99999999999999999999\r\n", 422, "invalid_argument"},
		"minimum above":        {"GET /v1/resolve/storage HTTP/1.1\r\n" + host + auth + "X-Patchbay-Min-Revision: 8\r\n", 409, "conflict"},
		"another format":       {"GET /v1/resolve/storage?format=xml HTTP/1.1\r\n" + host + auth, 406, "not_acceptable"},
		"not HTTP":             {"GET\r\n", 400, "invalid_argument"},

		"host twice":                {"GET /v1/env HTTP/1.1\r\nHost: evil.example\r\n" + host + auth, 400, "invalid_argument"},
		"host twice, equal":         {"GET /v1/env HTTP/1.1\r\n" + host + host + auth, 400, "invalid_argument"},
		"host twice in HTTP/1.0":    {"GET /v1/env HTTP/1.0\r\nHost: evil.example\r\n" + host + auth, 400, "invalid_argument"},
		"host with user":            {"GET /v1/env HTTP/1.1\r\nHost: localhost@evil.example\r\n" + auth, 403, "permission_denied"},
		"host with a dot":           {"GET /v1/env HTTP/1.1\r\nHost: localhost.\r\n" + auth, 403, "permission_denied"},
		"host of loopback by name":  {"GET /v1/env HTTP/1.1\r\nHost: 127.0.0.2\r\n" + auth, 403, "permission_denied"},
		"HTTP/1.0 without host":     {"GET /v1/env HTTP/1.0\r\n" + auth, 403, "permission_denied"},
		"HTTP/2 by hope":            {"PRI * HTTP/2.0\r\n" + host, 403, "permission_denied"},
		"target in two slashes":     {"GET //localhost/v1/env HTTP/1.1\r\n" + host + auth, 403, "permission_denied"},
		"target a star":             {"GET * HTTP/1.1\r\n" + host + auth, 403, "permission_denied"},
		"absolute target of ours":   {"GET http://localhost/v1/env HTTP/1.1\r\n" + host + auth, 403, "permission_denied"},
		"fragment":                  {"GET /v1/env#x HTTP/1.1\r\n" + host + auth, 400, "invalid_argument"},
		"space before a colon":      {"GET /v1/env HTTP/1.1\r\n" + host + auth + "Origin : http://x\r\n", 400, "invalid_argument"},
		"space in authorization":    {"GET /v1/env HTTP/1.1\r\n" + host + "Authorization : Bearer x\r\n", 400, "invalid_argument"},
		"origin empty":              {"GET /v1/env HTTP/1.1\r\n" + host + auth + "Origin:\r\n", 403, "permission_denied"},
		"origin in upper case":      {"GET /v1/env HTTP/1.1\r\n" + host + auth + "ORIGIN: x\r\n", 403, "permission_denied"},
		"x-forwarded-host":          {"GET /v1/env HTTP/1.1\r\n" + host + auth + "X-FORWARDED-HOST: localhost\r\n", 403, "permission_denied"},
		"put with a body":           {"PUT /v1/env HTTP/1.1\r\n" + host + auth + "Content-Length: 2\r\n\r\n{}", 405, "method_not_allowed"},
		"delete":                    {"DELETE /v1/connectors/x HTTP/1.1\r\n" + host + auth, 405, "method_not_allowed"},
		"get in lower case":         {"get /v1/env HTTP/1.1\r\n" + host + auth, 405, "method_not_allowed"},
		"post to nowhere":           {"POST /nowhere HTTP/1.1\r\n" + host + auth, 405, "method_not_allowed"},
		"long URL":                  {"GET /v1/resolve/" + strings.Repeat("a", 17<<10) + " HTTP/1.1\r\n" + host + auth, 431, "too_large"},
		"URL of 10 KB":              {"GET /v1/resolve/" + strings.Repeat("a", 10<<10) + " HTTP/1.1\r\n" + host + auth, 404, "unknown_category"},
		"many headers":              {"GET /v1/env HTTP/1.1\r\n" + host + auth + strings.Repeat("X-A: b\r\n", 3000), 431, "too_large"},
		"body too large":            {"GET /v1/env HTTP/1.1\r\n" + host + auth + "Content-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000), 413, "too_large"},
		"two lengths":               {"GET /v1/env HTTP/1.1\r\n" + host + auth + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400, "invalid_argument"},
		"unknown transfer encoding": {"GET /v1/env HTTP/1.1\r\n" + host + auth + "Transfer-Encoding: gzip\r\n", 400, "invalid_argument"},
		"NUL in a header":           {"GET /v1/env HTTP/1.1\r\n" + host + auth + "X: a\x00b\r\n", 400, "invalid_argument"},
		"escaped route":             {"GET /v1/%65nv HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"escaped slash":             {"GET /v1%2fenv HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"dots":                      {"GET /v1/x/../env HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"escaped dots":              {"GET /v1/resolve/%2e%2e/env HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"slashes within":            {"GET /v1//env HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"path parameter":            {"GET /v1/env;x=1 HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"resolve, trailing slash":   {"GET /v1/resolve/ HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"category, trailing slash":  {"GET /v1/resolve/storage/ HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"category escaped":          {"GET /v1/resolve/%73torage HTTP/1.1\r\n" + host + auth, 404, "unknown_category"},
		"category against grammar":  {"GET /v1/resolve/../../etc HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"category of signs":         {"GET /v1/resolve/st%00orage';-- HTTP/1.1\r\n" + host + auth, 404, "unknown_category"},
		"two bearers in one":        {"GET /v1/env HTTP/1.1\r\n" + host + "Authorization: Bearer Bearer " + w.token() + "\r\n", 401, "unauthenticated"},
		"bearer with a tab":         {"GET /v1/env HTTP/1.1\r\n" + host + "Authorization: Bearer\t" + w.token() + "\r\n", 401, "unauthenticated"},
		"empty authorization":       {"GET /v1/env HTTP/1.1\r\n" + host + "Authorization:\r\n", 401, "unauthenticated"},
		"15 KB token":               {"GET /v1/env HTTP/1.1\r\n" + host + "Authorization: Bearer " + strings.Repeat("x", 15<<10) + "\r\n", 401, "unauthenticated"},
		"bad token, bad id":         {"GET /v1/connectors/42 HTTP/1.1\r\n" + host + "Authorization: Bearer a.b.c\r\n", 401, "unauthenticated"},
		"id in braces":              {"GET /v1/connectors/{" + connectorID.String() + "} HTTP/1.1\r\n" + host + auth, 422, "invalid_argument"},
		"id without dashes":         {"GET /v1/connectors/" + strings.ReplaceAll(connectorID.String(), "-", "") + " HTTP/1.1\r\n" + host + auth, 422, "invalid_argument"},
		"id of version 4":           {"GET /v1/connectors/f47ac10b-58cc-4372-a567-0e02b2c3d479 HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"id of zeros":               {"GET /v1/connectors/00000000-0000-0000-0000-000000000000 HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"id, trailing slash":        {"GET /v1/connectors/" + connectorID.String() + "/ HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"no id":                     {"GET /v1/connectors/ HTTP/1.1\r\n" + host + auth, 404, "not_found"},
		"unknown parameter":         {"GET /v1/resolve/storage?organisation=lab HTTP/1.1\r\n" + host + auth, 422, "invalid_argument"},
		"parameter in upper case":   {"GET /v1/env?Organization=lab HTTP/1.1\r\n" + host + auth, 422, "invalid_argument"},
		"org as a NUL":              {"GET /v1/env?organization=lab%00 HTTP/1.1\r\n" + host + auth, 422, "invalid_argument"},
		"org of 64":                 {"GET /v1/env HTTP/1.1\r\n" + host + auth + "X-Organization-Id: " + strings.Repeat("a", 64) + "\r\n", 422, "invalid_argument"},
		"org in upper case":         {"GET /v1/env HTTP/1.1\r\n" + host + auth + "X-Organization-Id: HQ\r\n", 422, "invalid_argument"},
		"org a star":                {"GET /v1/env HTTP/1.1\r\n" + host + auth + "X-Organization-Id: *\r\n", 422, "invalid_argument"},
		"org a list":                {"GET /v1/env HTTP/1.1\r\n" + host + auth + "X-Organization-Id: hq, lab\r\n", 422, "invalid_argument"},
		"org empty in header":       {"GET /v1/env HTTP/1.1\r\n" + host + auth + "X-Organization-Id:\r\n", 422, "invalid_argument"},
		"format twice":              {"GET /v1/env?format=json&format=json HTTP/1.1\r\n" + host + auth, 422, "invalid_argument"},
		"minimum with a sign":       {"GET /v1/resolve/storage HTTP/1.1\r\n" + host + auth + "X-Patchbay-Min-Revision: +1\r\n", 422, "invalid_argument"},
		"minimum in hex":            {"GET /v1/resolve/storage HTTP/1.1\r\n" + host + auth + "X-Patchbay-Min-Revision: 0x1\r\n", 422, "invalid_argument"},
		"minimum twice":             {"GET /v1/resolve/storage HTTP/1.1\r\n" + host + auth + "X-Patchbay-Min-Revision: 1\r\nX-Patchbay-Min-Revision: 1\r\n", 422, "invalid_argument"},
		"minimum empty":             {"GET /v1/resolve/storage HTTP/1.1\r\n" + host + auth + "X-Patchbay-Min-Revision:\r\n", 422, "invalid_argument"},
		"minimum just too huge":     {"GET /v1/resolve/storage HTTP/1.1\r\n" + host + auth + "X-Patchbay-Min-Revision: 9223372036854775808\r\n", 422, "invalid_argument"},
		"minimum the greatest":      {"GET /v1/resolve/storage HTTP/1.1\r\n" + host + auth + "X-Patchbay-Min-Revision: 9223372036854775807\r\n", 409, "conflict"},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			res, body := w.raw(row.request + "\r\n")
			w.problem(res, body, row.status, row.code)
			if got := res.Header.Get("WWW-Authenticate"); (got == "Bearer") != (row.status == 401) {
				t.Errorf("WWW-Authenticate: %q", got)
			}
			if got := res.Header.Get("Allow"); (got == "GET") != (row.status == 405) {
				t.Errorf("Allow: %q", got)
			}
			if res.Header.Get("Cache-Control") != "no-store" {
				t.Error("a problem may be cached")
			}
			for _, echo := range []string{"evil", "eyJ", "xxxx", "nowhere", "organisation", "f47ac10b", ".."} {
				if strings.Contains(body, echo) {
					t.Errorf("the request is repeated: %s", body)
				}
			}
		})
	}
	if strings.Contains(w.log.String(), "eyJ") {
		t.Error("a token is in the log")
	}
}

func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	other := "Authorization: Bearer " + w.kit.Token(tenanttest.Claims{Tenant: "globex", Organization: "hq"}) + "\r\n"
	for _, path := range []string{"/v1/resolve/storage", "/v1/connectors/" + connectorID.String()} {
		res, body := w.raw("GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + other + "\r\n")
		if res.StatusCode != 404 || strings.Contains(body, canary) {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
}

func TestIfNoneMatch(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for line, want := range map[string]int{
		`"tag-"h"`: 304, `W/"tag-"h"`: 304, `"x", "tag-"h" , "y"`: 304, "*": 304, `"x"`: 200, `tag-"h`: 200, "": 200,
	} {
		res, body := w.get("/v1/resolve/storage", "If-None-Match: "+line)
		if res.StatusCode != want || (want == 304) != (body == "") {
			t.Errorf("%s: %d %s", line, res.StatusCode, body)
		}
		for _, k := range []string{"ETag", "Age", "X-Patchbay-Source", "X-Patchbay-Revision", "X-Patchbay-Stale", "Cache-Control"} {
			if res.Header.Get(k) == "" {
				t.Errorf("%d without %s", want, k)
			}
		}
	}
}

func TestStaleAndAge(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	s := resolver.Slot{Tenant: tenant.MustID("acme"), Organization: tenant.MustOrganizationID("hq"), Category: "storage"}
	a := w.table.slots[s]
	a.Stale, a.Age, a.Source = true, 90*time.Second, resolver.FromDatabase
	w.table.slots[s] = a
	res, _ := w.get("/v1/resolve/storage")
	if h := res.Header; h.Get("X-Patchbay-Stale") != "true" || h.Get("Age") != "90" || h.Get("X-Patchbay-Source") != "database" {
		t.Errorf("%v", h)
	}
}

func TestResolveAll(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.table.errs["email"] = fault.New(fault.Unavailable, "Vault is unreachable").WithCause(errors.New(canary))
	res, body := w.get("/v1/resolve")
	var got struct {
		Backends map[string]json.RawMessage `json:"backends"`
		Errors   map[string]problem.Problem `json:"errors"`
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || res.StatusCode != 200 {
		t.Fatalf("%d %s: %v", res.StatusCode, body, err)
	}
	if len(got.Backends) != 1 || len(got.Errors) != 1 || got.Errors["email"].Status != 503 || got.Errors["email"].RequestID == "" {
		t.Errorf("%s", body)
	}
	tag := res.Header.Get("ETag")
	if again, _ := w.get("/v1/resolve", "If-None-Match: "+tag); again.StatusCode != 304 {
		t.Errorf("the ETag of the same set moved: %d", again.StatusCode)
	}
	// The problem's request id leads to the cause, which only the log has.
	if log := w.log.String(); !strings.Contains(log, got.Errors["email"].RequestID) || !strings.Contains(log, "category email: Vault is unreachable: "+canary) {
		t.Errorf("the log doesn't say why a category is missing: %s", log)
	}
	w.table.errs["email"] = errors.New("something odd")
	if res, body = w.get("/v1/resolve"); res.StatusCode != 200 || !strings.Contains(body, problem.InternalDetail) || !strings.Contains(w.log.String(), `"level":"ERROR"`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	delete(w.table.errs, "email")
	if res, body = w.get("/v1/resolve", "If-None-Match: "+tag); res.StatusCode != 200 || !strings.HasSuffix(body, `},"errors":{}}`) {
		t.Errorf("%d %s", res.StatusCode, body)
	}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	_, body := w.get("/v1/env", "X-Organization-Id: lab")
	var got map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	orgs, _ := json.Marshal(got["organizations"])
	if got["tenant"] != "acme" || got["organization"] != "lab" || string(orgs) != `["hq","lab"]` || len(got) != 6 {
		t.Errorf("%s", body)
	}
	_, body = w.raw("GET /v1/env HTTP/1.1\r\nHost: [::1]:7411\r\nAuthorization: " + w.kit.Token(tenanttest.Claims{Tenant: "acme"}) + "\r\n\r\n")
	if !strings.Contains(body, `"organization":null,"organizations":[]`) || !strings.Contains(body, `"roles":[]`) {
		t.Errorf("%s", body)
	}
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *LocalOptions) { o.Deadline = 20 * time.Millisecond })
	w.table.hang = true
	res, body := w.get("/v1/resolve/storage")
	w.problem(res, body, 504, "deadline_exceeded")
}

func TestRetryAfterAndInternal(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	w.table.errs["storage"] = fault.New(fault.Unavailable, "the database is unreachable").WithRetryAfter(1500 * time.Millisecond)
	res, body := w.get("/v1/resolve/storage")
	w.problem(res, body, 503, "unavailable")
	if res.Header.Get("Retry-After") != "2" {
		t.Errorf("Retry-After: %q", res.Header.Get("Retry-After"))
	}
	w.table.errs["storage"] = errors.New("pq: " + canary)
	res, body = w.get("/v1/resolve/storage")
	w.problem(res, body, 500, "internal")
	if strings.Contains(body, canary) || !strings.Contains(body, problem.InternalDetail) {
		t.Errorf("%s", body)
	}
}

func TestForwarders(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *LocalOptions) {
		o.TrustedForwarders = []string{"127.0.0.0/8"}
		o.AllowedHosts = []string{"App.Internal"}
	})
	if res, body := w.get("/v1/env", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1"); res.StatusCode != 200 {
		t.Errorf("a trusted forwarder: %s", body)
	}
	if res, _ := w.get("/v1/env", "X-Forwarded-For: 1.2.3.4", "Origin: http://x"); res.StatusCode != 403 {
		t.Errorf("an Origin through a trusted forwarder: %d", res.StatusCode)
	}
	if res, _ := w.raw("GET /v1/env HTTP/1.1\r\nHost: app.internal:80\r\nAuthorization: " + w.token() + "\r\n\r\n"); res.StatusCode != 200 {
		t.Errorf("an allowed host: %d", res.StatusCode)
	}
	for _, hosts := range [][]string{{""}, {"http://app"}, {"*"}, {"*.app"}, {"a b"}, {"app:x"}} {
		if _, err := newGuard(hosts, nil, false); !errors.Is(err, fault.InvalidArgument) {
			t.Errorf("allowed hosts %q: %v", hosts, err)
		}
	}
	for _, forwarder := range []string{"", "app", "10.0.0.0/33", "10.0.0.1:80"} {
		if _, err := newGuard(nil, []string{forwarder}, false); !errors.Is(err, fault.InvalidArgument) {
			t.Errorf("forwarder %q: %v", forwarder, err)
		}
	}
	g, err := newGuard([]string{"App:7411", "[FD00::1]:80", "fd00::2", "[fd00::3]", "10.0.0.1:1"}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"app": true, "APP:1": true, "[fd00::1]": true, "[fd00::2]:5": true, "[fd00::3]:7411": true, "10.0.0.1": true,
		"app.evil": false, "xapp": false, "[fd00::4]": false, "fd00::2": false, "10.0.0.11": false, "app:123456": false, "app:1x": false, "app:": true,
	} {
		if g.allowed([]byte(host)) != want {
			t.Errorf("host %q: %v", host, !want)
		}
	}
	w = start(t, func(o *LocalOptions) { o.TrustedForwarders = []string{"10.0.0.1"} })
	if res, _ := w.get("/v1/env", "X-Forwarded-For: 10.0.0.1"); res.StatusCode != 403 {
		t.Errorf("what a peer says of itself counts: %d", res.StatusCode)
	}
}

func TestLocalToken(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	set := func(s string) {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("first\n")
	w := start(t, func(o *LocalOptions) { o.TokenFile = path })
	status := func(token string) int {
		res, _ := w.get("/v1/env", "X-Patchbay-Token: "+token)
		return res.StatusCode
	}
	if status("first") != 200 || status("second") != 401 || status("") != 401 {
		t.Error("the token is not compared")
	}
	set("")
	set("second")
	deadline := time.Now().Add(10 * time.Second)
	for status("second") != 200 {
		if time.Now().After(deadline) {
			t.Fatal("a changed token is never read")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if status("first") != 401 {
		t.Error("the old token still counts")
	}
	if _, err := NewLocal(LocalOptions{Verifier: badVerifier{}, Resolver: w.table, Categories: categories{}, TokenFile: path + "x"}); !errors.Is(err, fault.InvalidArgument) {
		t.Errorf("a missing token file: %v", err)
	}
}

type badVerifier struct{}

func (badVerifier) Verify(context.Context, string) (*tenant.Env, error) { panic(canary) }

func TestPanic(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *LocalOptions) { o.Verifier = badVerifier{} })
	res, body := w.get("/v1/env")
	w.problem(res, body, 500, "internal")
	if strings.Contains(w.log.String(), canary) {
		t.Error("a panic's value is in the log")
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *LocalOptions) { o.UnixSocket = true; o.TrustedForwarders = []string{"0.0.0.0/0"} })
	if st, err := os.Stat(w.addr); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("%v %v", st.Mode(), err)
	}
	if res, _ := w.raw("GET /v1/env HTTP/1.1\r\nHost: anything\r\nAuthorization: " + w.token() + "\r\n\r\n"); res.StatusCode != 200 {
		t.Errorf("the Host is checked on a socket: %d", res.StatusCode)
	}
	if res, _ := w.get("/v1/env", "X-Forwarded-For: 1"); res.StatusCode != 403 {
		t.Errorf("a socket's peer is trusted: %d", res.StatusCode)
	}
	if _, err := ListenUnix(t.Context(), w.addr); !errors.Is(err, fault.AlreadyExists) {
		t.Errorf("a living socket: %v", err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(t.Context(), file); !errors.Is(err, fault.Conflict) {
		t.Errorf("a file: %v", err)
	}
	if data, _ := os.ReadFile(file); string(data) != "mine" {
		t.Error("a file was removed")
	}
	dead := filepath.Join(dir, "dead")
	ln, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = ln.Close()
	ln, err = ListenUnix(t.Context(), dead)
	if err != nil {
		t.Fatalf("a leftover: %v", err)
	}
	_ = ln.Close()
}
