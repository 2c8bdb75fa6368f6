package httpapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// dial opens a connection that ends with the test.
func (w *world) dial() (net.Conn, *bufio.Reader) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn, bufio.NewReader(conn)
}

// read reads one answer to a GET.
func (w *world) read(r *bufio.Reader) (*http.Response, string) {
	w.t.Helper()
	res, err := http.ReadResponse(r, &http.Request{Method: "GET"})
	if err == nil && res.StatusCode == http.StatusContinue {
		res, err = http.ReadResponse(r, &http.Request{Method: "GET"})
	}
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res, string(body)
}

// TestAuthorizationForms walks how a JWT may be sent.
func TestAuthorizationForms(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	for _, prefix := range []string{"", "Bearer ", "bearer ", "BEARER ", "Bearer    "} {
		res, body := w.raw("GET /v1/env HTTP/1.1\r\nHost: localhost\r\nauthorization: " + prefix + w.token() + "  \r\n\r\n")
		if res.StatusCode != 200 {
			t.Errorf("%q: %s", prefix, body)
		}
	}
}

// TestBadTokens: what is wrong with a token is 401 with its challenge, what it
// must not do 403, over the wire.
func TestBadTokens(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	stranger := tenanttest.New(t)
	past := time.Now().Add(-time.Hour).Unix()
	for name, c := range map[string]struct {
		token  string
		status int
		code   string
	}{
		"alg none":                 {"eyJhbGciOiJub25lIn0.eyJpc3MiOiJwYXRjaGJheS1kZXYiLCJ0ZW5hbnRfaWQiOiJhY21lIn0.", 401, "unauthenticated"},
		"wrong key":                {stranger.Token(tenanttest.Claims{Tenant: "acme"}), 401, "unauthenticated"},
		"wrong issuer":             {w.kit.Sign(map[string]any{"tenant_id": "acme", "iss": "x"}), 401, "unauthenticated"},
		"wrong audience":           {w.kit.Sign(map[string]any{"tenant_id": "acme", "aud": "x"}), 401, "unauthenticated"},
		"expired":                  {w.kit.Sign(map[string]any{"tenant_id": "acme", "exp": past}), 401, "unauthenticated"},
		"not yet valid":            {w.kit.Sign(map[string]any{"tenant_id": "acme", "nbf": time.Now().Add(time.Hour).Unix()}), 401, "unauthenticated"},
		"no exp":                   {w.kit.Sign(map[string]any{"tenant_id": "acme", "exp": nil}), 401, "unauthenticated"},
		"no dots":                  {strings.ReplaceAll(w.token(), ".", ""), 401, "unauthenticated"},
		"no tenant":                {w.kit.Sign(map[string]any{}), 401, "unauthenticated"},
		"tenant a number":          {w.kit.Sign(map[string]any{"tenant_id": 1}), 401, "unauthenticated"},
		"tenant a list":            {w.kit.Sign(map[string]any{"tenant_id": []string{"acme"}}), 401, "unauthenticated"},
		"tenant ../x":              {w.kit.Sign(map[string]any{"tenant_id": "../x"}), 401, "unauthenticated"},
		"tenant in upper case":     {w.kit.Sign(map[string]any{"tenant_id": "Acme"}), 401, "unauthenticated"},
		"tenant of 64 characters":  {w.kit.Sign(map[string]any{"tenant_id": strings.Repeat("a", 64)}), 401, "unauthenticated"},
		"organization not allowed": {w.kit.Sign(map[string]any{"tenant_id": "acme", "org_id": "hq", "org_ids": []string{"lab"}}), 403, "permission_denied"},
	} {
		res, body := w.raw("GET /v1/env HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + c.token + "\r\n\r\n")
		w.problem(res, body, c.status, c.code)
		if got := res.Header.Get("WWW-Authenticate"); (got == "Bearer") != (c.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q", name, got)
		}
		if strings.Contains(body, c.token) {
			t.Errorf("%s: the token is repeated", name)
		}
	}
	if strings.Contains(w.log.String(), "eyJ") {
		t.Error("a token is in the log")
	}
}

// TestPinnedIssuerOverTheWire: an issuer that is pinned speaks for no other
// tenant, and without keys nobody is told that a good token is bad.
func TestPinnedIssuerOverTheWire(t *testing.T) {
	t.Parallel()
	kit := tenanttest.New(t)
	pinned := kit.Issuer()
	pinned.Tenant = "globex"
	never := tenant.Issuer{Issuer: "https://never.example", JWKSURL: "http://127.0.0.1:1/", Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}}
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{pinned, never}})
	if err != nil {
		t.Fatal(err)
	}
	w := start(t, func(o *LocalOptions) { o.Verifier = v })
	ask := func(token string) (*http.Response, string) {
		return w.raw("GET /v1/env HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + token + "\r\n\r\n")
	}
	res, body := ask(kit.Token(tenanttest.Claims{Tenant: "acme"}))
	w.problem(res, body, 403, "permission_denied")
	res, body = ask(kit.Sign(map[string]any{"tenant_id": "acme", "iss": "https://never.example"}))
	w.problem(res, body, 503, "unavailable")
	if res.Header.Get("Retry-After") == "" {
		t.Error("a 503 without Retry-After")
	}
	if res, body := ask(kit.Sign(map[string]any{})); res.StatusCode != 200 || !strings.Contains(body, `"tenant":"globex"`) {
		t.Errorf("without a tenant claim the pin speaks: %s", body)
	}
}

// TestKeepAlive: one connection carries good and bad requests, and only what
// can't be told apart from its successor ends it.
func TestKeepAlive(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	conn, r := w.dial()
	send := func(text string) (*http.Response, string) {
		t.Helper()
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		return w.read(r)
	}
	good := "GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + w.token() + "\r\n"
	for _, c := range []struct {
		text   string
		status int
	}{
		{good + "\r\n", 200},
		{"GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\n\r\n", 401}, // nothing is left of the one before
		{good + "X-Organization-Id: lab\r\n\r\n", 200},
		{good + "If-None-Match: *\r\n\r\n", 304},
		{good + "\r\n", 200},
		{"GET /v1/env HTTP/1.1\r\nHost: evil\r\n\r\n", 403},
		{"POST /v1/env HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nGET ", 405},
		{good + "Content-Length: 4\r\n\r\nGET ", 200}, // a body is read, and ignored
		{good + "Transfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n", 200},
		{good + "Expect: 100-continue\r\nAccept-Encoding: gzip, br\r\n\r\n", 200},
		{good + "X-Organization-Id: x\r\n\r\n", 403},
		{good + "\r\n", 200},
	} {
		res, body := send(c.text)
		if res.StatusCode != c.status || res.Close {
			t.Fatalf("%.60q...: %d %s, close %v", c.text, res.StatusCode, body, res.Close)
		}
		if want := `{"s": "lab"}`; strings.Contains(c.text, "lab") && body != want {
			t.Errorf("%s", body)
		}
		if res.Header.Get("Content-Encoding") != "" {
			t.Error("an answer is compressed, which lengths give away")
		}
	}
	if res, _ := send(good + "Origin : x\r\n\r\n"); res.StatusCode != 400 || !res.Close {
		t.Errorf("%d, close %v: a request that readers understand differently must end its connection", res.StatusCode, res.Close)
	}
	if _, err := r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("it is said to be closed, and isn't: %v", err)
	}
}

// TestPipelining: requests that come in one packet are answered in order, each
// with its own env.
func TestPipelining(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	conn, r := w.dial()
	var all strings.Builder
	orgs := []string{"hq", "lab", "hq", "x", "lab"}
	for _, o := range orgs {
		all.WriteString("GET /v1/env HTTP/1.1\r\nHost: localhost\r\nX-Organization-Id: " + o + "\r\nAuthorization: " + w.token() + "\r\n\r\n")
	}
	if _, err := io.WriteString(conn, all.String()); err != nil {
		t.Fatal(err)
	}
	for i, o := range orgs {
		res, body := w.read(r)
		if o == "x" {
			w.problem(res, body, 403, "permission_denied")
		} else if !strings.Contains(body, `"organization":"`+o+`"`) {
			t.Errorf("answer %d: %s", i, body)
		}
	}
}

// TestHTTP10 is a client of the last century, with a Host.
func TestHTTP10(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	res, body := w.raw("GET /v1/env HTTP/1.0\r\nHost: localhost\r\nAuthorization: " + w.token() + "\r\n\r\n")
	if res.StatusCode != 200 || !res.Close {
		t.Errorf("%d %s, close %v", res.StatusCode, body, res.Close)
	}
}

// TestSlowClient: neither a request that dribbles in nor a connection that says
// nothing is waited for without end, and a fast one beside them is served.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *LocalOptions) {
		o.timeouts = timeouts{read: 500 * time.Millisecond, idle: time.Second}
	})
	silent, silentReader := w.dial()
	_ = silent
	slow, slowReader := w.dial()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for _, b := range []byte("GET /v1/env HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("x", 1<<20)) {
			if _, err := slow.Write([]byte{b}); err != nil {
				return
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	idle, idleReader := w.dial()
	if _, err := io.WriteString(idle, "GET /v1/env HTTP/1.1\r\nHost: localhost\r\nAuthorization: "+w.token()+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if res, body := w.read(idleReader); res.StatusCode != 200 {
		t.Errorf("beside slow ones: %s", body)
	}
	if _, err := idleReader.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("an idle connection: %v", err)
	}
	if rest, err := io.ReadAll(slowReader); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a slow request is waited for: %q %v", rest, err)
	}
	if rest, err := io.ReadAll(silentReader); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a silent connection is waited for: %q %v", rest, err)
	}
	close(stop)
	wg.Wait()
}

// TestDeadReader: a client that reads nothing of its answers is let go.
func TestDeadReader(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *LocalOptions) { o.timeouts = timeouts{write: 150 * time.Millisecond} })
	slot := resolver.Slot{Tenant: tenant.MustID("acme"), Organization: tenant.MustOrganizationID("hq"), Category: "storage"}
	w.table.slots[slot] = answer(`{"s": "` + strings.Repeat("x", 32<<20) + `"}`)
	conn, _ := w.dial()
	if _, err := io.WriteString(conn, "GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\nAuthorization: "+w.token()+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil { // the answer is on its way
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for w.local.app.Server().GetOpenConnectionsCount() > 0 {
		if time.Now().After(deadline) {
			t.Fatal("the connection is held for ever")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestPanicKillsNobody: the connection and the others live on, and what the
// request had prepared doesn't go out.
func TestPanicKillsNobody(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *LocalOptions) { o.Verifier = badVerifier{} })
	conn, r := w.dial()
	for range 3 {
		if _, err := io.WriteString(conn, "GET /v1/env HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, body := w.read(r)
		w.problem(res, body, 500, "internal")
	}
}

// TestRequestID: a harmless one is taken over, any other is replaced.
func TestRequestID(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	seen := map[string]bool{}
	for given, taken := range map[string]bool{
		"4bf92f35-77b3.4da6_A": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false, "": false,
		`x"} {"level":"ERROR`: false, "a b": false, "ä": false, w.token(): false, "<script>": false,
	} {
		_, body := w.get("/nowhere", "X-Request-Id: "+given)
		var p problem.Problem
		if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Fatal(err)
		}
		if (p.RequestID == given) != taken || p.RequestID == "" || seen[p.RequestID] {
			t.Errorf("%q became %q", given, p.RequestID)
		}
		seen[p.RequestID] = true
		if !strings.Contains(w.log.String(), p.RequestID) {
			t.Errorf("%q is not in the log", p.RequestID)
		}
	}
}

// TestLocalTokenElsewhere: the second token is not asked for where the AWS SDKs
// come, which can't send it, and on no other spelling of that path.
func TestLocalTokenElsewhere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("local-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, func(o *LocalOptions) { o.TokenFile = path })
	for target, status := range map[string]int{
		"/v1/aws/credentials":                 404, // asked for nothing, and there is no such route yet
		"/v1/aws/credentials?organization=hq": 404, "/v1/aws/credentials/": 401, "/v1/aws/../aws/credentials": 401,
		"/v1/aws/Credentials": 401, "/v1/env?x=/v1/aws/credentials": 401, "/nowhere": 401,
	} {
		if res, body := w.get(target); res.StatusCode != status {
			t.Errorf("%s: %d %s", target, res.StatusCode, body)
		}
	}
	for name, lines := range map[string][]string{
		"twice":           {"X-Patchbay-Token: local-token", "X-Patchbay-Token: local-token"},
		"wrong, right":    {"X-Patchbay-Token: x", "X-Patchbay-Token: local-token"},
		"in another case": {"X-Patchbay-Token: LOCAL-TOKEN"},
		"a prefix":        {"X-Patchbay-Token: local-toke"},
		"longer":          {"X-Patchbay-Token: local-token1"},
	} {
		res, body := w.get("/v1/env", lines...)
		w.problem(res, body, 401, "unauthenticated")
		if strings.Contains(body, "local-token") {
			t.Errorf("%s: the token is repeated", name)
		}
	}
	if res, body := w.get("/v1/env", "x-patchbay-token: local-token"); res.StatusCode != 200 {
		t.Errorf("%s", body)
	}
	// The guard stands before it: a web page learns nothing of the token.
	if res, _ := w.get("/v1/env", "Origin: http://x", "X-Patchbay-Token: x"); res.StatusCode != 403 {
		t.Errorf("%d", res.StatusCode)
	}
	if log := w.log.String(); strings.Contains(log, "local-token") || strings.Contains(log, "LOCAL-TOKEN") {
		t.Error("the local token is in the log")
	}
}

// TestLocalTokenReload: a file that can't be used keeps the token that was.
func TestLocalTokenReload(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "token")
	set := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("good")
	var log lockedBuffer
	token, err := newLocalToken(path, testLog(&log))
	if err != nil {
		t.Fatal(err)
	}
	try := func(text string) bool {
		token.next.Store(0) // due
		return token.check(value{[]byte(text), 1}) == nil
	}
	for name, spoil := range map[string]func(){
		"empty":     func() { set("") },
		"blank":     func() { set(" \n") },
		"too large": func() { set(strings.Repeat("x", maxToken+1)) },
		"gone":      func() { _ = os.Remove(path) },
		"a folder":  func() { _ = os.Remove(path); _ = os.Mkdir(path, 0o700) },
	} {
		spoil()
		if !try("good") || try("") || try(" ") {
			t.Errorf("%s: the last good token is lost", name)
		}
		_ = os.RemoveAll(path)
	}
	if !strings.Contains(log.String(), "local token") {
		t.Error("nothing is logged")
	}
	set("new")
	if try("good") || !try("new") {
		t.Error("a good file after bad ones is not read")
	}
}

// TestStaleNotModified: 304 tells all that 200 does.
func TestStaleNotModified(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	slot := resolver.Slot{Tenant: tenant.MustID("acme"), Organization: tenant.MustOrganizationID("hq"), Category: "storage"}
	a := w.table.slots[slot]
	a.Stale, a.Age = true, 90*time.Second
	w.table.slots[slot] = a
	res, body := w.get("/v1/resolve/storage", "If-None-Match: "+`"other"`, "If-None-Match: "+a.ETag)
	if res.StatusCode != 304 || body != "" || res.ContentLength > 0 {
		t.Fatalf("%d %q", res.StatusCode, body)
	}
	for k, want := range map[string]string{
		"ETag": a.ETag, "Age": "90", "Cache-Control": "no-store", "X-Patchbay-Stale": "true", "X-Patchbay-Revision": "7", "X-Patchbay-Source": "memory",
	} {
		if got := res.Header.Values(k); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
}

// TestEnvShape is the answer of /v1/env, word for word.
func TestEnvShape(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	exp := time.Now().Add(time.Hour).Truncate(time.Second)
	for name, c := range map[string]struct {
		claims map[string]any
		want   string
	}{
		"all": {map[string]any{"org_id": "hq", "org_ids": []string{"hq", "lab"}, "sub": "ann", "roles": "a b"},
			`{"tenant":"acme","organization":"hq","organizations":["hq","lab"],"subject":"ann","roles":["a","b"],"expires_at":%q}`},
		"least": {nil, `{"tenant":"acme","organization":null,"organizations":[],"subject":"","roles":[],"expires_at":%q}`},
		"star":  {map[string]any{"org_ids": []string{"*"}}, `{"tenant":"acme","organization":null,"organizations":["*"],"subject":"","roles":[],"expires_at":%q}`},
	} {
		claims := map[string]any{"tenant_id": "acme", "exp": exp.Unix()}
		maps.Copy(claims, c.claims)
		res, body := w.raw("GET /v1/env HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + w.kit.Sign(claims) + "\r\n\r\n")
		if want := fmt.Sprintf(c.want, exp.UTC().Format(time.RFC3339)); res.StatusCode != 200 || body != want {
			t.Errorf("%s: %d %s, want %s", name, res.StatusCode, body, want)
		}
		if res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %v", name, res.Header)
		}
	}
}

// TestStringsOutliveTheirRequest: what a handler keeps must be its own. The
// resolver keeps what it is asked, while connections reuse their buffers.
func TestStringsOutliveTheirRequest(t *testing.T) {
	t.Parallel()
	kept := &keeper{}
	w := start(t, func(o *LocalOptions) { o.Resolver = kept })
	token := w.kit.Sign(map[string]any{"tenant_id": "acme", "org_ids": []string{"*"}})
	var wg sync.WaitGroup
	for n := range 4 {
		conn, r := w.dial()
		wg.Go(func() {
			for i := range 50 {
				org := fmt.Sprintf("org-%d-%03d", n, i)
				if _, err := io.WriteString(conn, "GET /v1/resolve/storage?organization="+org+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: "+token+"\r\n\r\n"); err != nil {
					t.Error(err)
					return
				}
				if res, err := http.ReadResponse(r, nil); err != nil {
					t.Error(err)
					return
				} else if _, err := io.Copy(io.Discard, res.Body); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, s := range kept.slots {
		if s.Tenant.String() != "acme" || s.Category != "storage" {
			t.Fatalf("%+v", s)
		}
		seen[s.Organization.String()] = true
	}
	for n := range 4 {
		for i := range 50 {
			if org := fmt.Sprintf("org-%d-%03d", n, i); !seen[org] {
				t.Fatalf("%s became something else", org)
			}
		}
	}
}

// keeper is a resolver that keeps the slots it is asked for.
type keeper struct {
	table
	mu    sync.Mutex
	slots []resolver.Slot
}

func (k *keeper) Resolve(_ context.Context, s resolver.Slot, _ int64) (resolver.Answer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.slots = append(k.slots, s)
	return resolver.Answer{}, fault.New(fault.NoDefaultConnector, "none")
}

// TestDeadlineIsPerRequest: a caller waits as long as configured and no longer,
// and the context that a resolver holds ends with it.
func TestDeadlineIsPerRequest(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *LocalOptions) { o.Deadline = 50 * time.Millisecond })
	w.table.hang = true
	conn, r := w.dial()
	for range 3 { // the second must not inherit the first one's end
		began := time.Now()
		if _, err := io.WriteString(conn, "GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\nAuthorization: "+w.token()+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, body := w.read(r)
		w.problem(res, body, 504, "deadline_exceeded")
		if took := time.Since(began); took < 45*time.Millisecond {
			t.Errorf("gave up after %v", took)
		}
	}
}

// TestResponsesAreWhole: a large answer over a keep-alive connection, whose
// deadlines are armed late, arrives whole.
func TestResponsesAreWhole(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	slot := resolver.Slot{Tenant: tenant.MustID("acme"), Organization: tenant.MustOrganizationID("hq"), Category: "storage"}
	big := `{"s": "` + strings.Repeat("x", 1<<20) + `"}`
	w.table.slots[slot] = answer(big)
	conn, r := w.dial()
	for range 5 {
		if _, err := io.WriteString(conn, "GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\nAuthorization: "+w.token()+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if res, body := w.read(r); body != big || res.Header.Get("Content-Length") != strconv.Itoa(len(big)) {
			t.Fatalf("%d of %d bytes", len(body), len(big))
		}
	}
}
