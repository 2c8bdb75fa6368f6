package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The same file, imported into real servers and into dev, resolves to the same
// JSON but for ids.
func TestRealServersAnswerAsDevDoes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	f.importFile(exampleFile(t), exampleVariables...).ok(t)
	real := f.serve()
	dataDir := filepath.Join(f.dir, "data")
	dev := f.start(exampleVariables, "dev", "--data-dir", dataDir)
	dev.ready()

	for _, who := range [][2]string{{"acme", "acme"}, {"acme", "acme_labs"}, {"acme", ""}, {"globex", "globex"}} {
		devToken := strings.TrimSpace(f.run(nil, "token", "--data-dir", dataDir, "--tenant", who[0], "--org", who[1]).ok(t).out)
		for _, path := range []string{"/v1/resolve/storage", "/v1/resolve/email", "/v1/resolve/messaging", "/v1/resolve/nonsense", "/v1/resolve", "/v1/env"} {
			a, b := real.get(path, f.token(who[0], who[1])), dev.get(path, devToken)
			if a.code != b.code || !reflect.DeepEqual(anonymous(t, a.body), anonymous(t, b.body)) {
				t.Errorf("%v %s: real servers %d %s\ndev %d %s", who, path, a.code, a.body, b.code, b.body)
			}
			for _, h := range []string{"Content-Type", "Cache-Control", "X-Patchbay-Stale", "Age"} {
				if a.header.Get(h) != b.header.Get(h) {
					t.Errorf("%v %s: %s is %q, and %q from dev", who, path, h, a.header.Get(h), b.header.Get(h))
				}
			}
		}
	}
	a := real.get("/v1/resolve/storage", f.token("acme", "acme"))
	if a.Config["access_key_id"] != "AKIAEXAMPLE" || a.Config["secret_access_key"] != "s3-secret" || a.Config["bucket"] != "acme-prod" {
		t.Errorf("%s", a.body)
	}
	f.run(nil, "check", "--config", f.config("sidecar", "sidecar", "")).ok(t)
}

// anonymous is a JSON document without what differs from one installation to
// the next: ids, and when a token or a request was made.
func anonymous(t testing.TB, body []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	var strip func(v any)
	strip = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			delete(v, "request_id")
			if _, isConnector := v["kind"]; isConnector {
				delete(v, "id")
			}
			if _, isEnv := v["subject"]; isEnv {
				delete(v, "expires_at")
			}
			for e := range maps.Values(v) {
				strip(e)
			}
		case []any:
			for _, e := range v {
				strip(e)
			}
		}
	}
	strip(v)
	return v
}

// Importing again changes nothing; a changed secret is served within a second
// by a connected sidecar, whether the import announces it or leaves that to the
// relay.
func TestReimportAndRotation(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	f.importFile(exampleFile(t), exampleVariables...).ok(t)
	s := f.serve()
	token := f.token("acme", "acme")
	before := s.get("/v1/resolve/storage", token)
	if out := f.importFile(exampleFile(t), exampleVariables...).ok(t).out; !strings.Contains(out, "0 to create, 0 to update") {
		t.Errorf("the second import's plan:\n%s", out)
	}
	again := s.get("/v1/resolve/storage", token)
	if again.revision(t) != before.revision(t) || again.header.Get("ETag") != before.header.Get("ETag") || f.revision("acme") != before.revision(t) {
		t.Errorf("an import that changes nothing moved revision %d to %d", before.revision(t), again.revision(t))
	}

	changed := append([]string{}, exampleVariables...)
	for _, row := range []struct {
		announcer, login string
		env              []string
	}{
		{"the import", "admin", nil},
		{"the relay: the import's login may not", "importer", nil},
		{"the relay: the import reaches no Redis", "admin", []string{"PATCHBAY_REDIS_URL_FILE=" + f.file("nowhere", "redis://127.0.0.1:1/0")}},
	} {
		secret := "announced by " + row.announcer
		changed[1] = "S3_SECRET=" + secret
		f.importAs(row.login, exampleFile(t), append(row.env, changed...)...).ok(t)
		committed := f.committed("acme")
		f.eventually("the rotated secret is served", func() bool {
			asked := time.Now()
			a := s.get("/v1/resolve/storage", token)
			served := a.Config["secret_access_key"] == secret
			if !served && asked.Sub(committed) > promise+a.age(t) {
				t.Fatalf("%s: not served %s after it was committed", secret, asked.Sub(committed))
			}
			return served
		})
	}
	after := s.get("/v1/resolve/storage", token)
	if after.revision(t) <= before.revision(t) || after.header.Get("ETag") == before.header.Get("ETag") {
		t.Errorf("revision %d, then %d; ETag %s", before.revision(t), after.revision(t), after.header.Get("ETag"))
	}
	// Read your own writes, and a minimum that the database has never seen.
	if a := s.get("/v1/resolve/storage", token, fmt.Sprintf("X-Patchbay-Min-Revision: %d", f.revision("acme"))); a.code != http.StatusOK {
		t.Errorf("the database's own revision as minimum: %d %s", a.code, a.body)
	}
	if a := s.get("/v1/resolve/storage", token, fmt.Sprintf("X-Patchbay-Min-Revision: %d", f.revision("acme")+1)); a.code != http.StatusConflict {
		t.Errorf("a minimum above the database's: %d %s", a.code, a.body)
	}
}

// A writer changes a param and a secret together; no reader of two sidecars ever
// sees one without the other, none goes back, and none is late.
func TestConfigAndSecretNeverTear(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	p := f.newPair("initech")
	sidecars := []*process{f.serve(), f.serve()}
	w := p.watch(3, nil, sidecars...)
	const writes = 15
	for n := 1; n <= writes; n++ {
		committed := p.write(n)
		if n == writes {
			for _, s := range sidecars {
				p.heard(s, n, committed)
			}
		}
	}
	answers, inTime := w.end()
	// A busy machine may cut a sidecar off for a moment; never for most of the time.
	if answers < 10*writes || inTime < writes {
		t.Errorf("%d answers, %d of %d changes heard in time", answers, inTime, 2*writes)
	}
}

// Several people import at once: each import happens as a whole or says that it
// did not, and the last one that was acknowledged is the truth.
func TestImportsMeet(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	p := f.newPair("initech")
	s := f.serve()
	w := p.watchAny(s)
	const rounds, writers = 3, 4
	done := 0
	for round := range rounds {
		outcomes := make([]outcome, writers)
		var wg sync.WaitGroup
		for i := range writers {
			n := 1 + round*writers + i
			path := f.file(fmt.Sprintf("writer-%d.xml", i), bucketFile("initech", n))
			wg.Go(func() { outcomes[i] = f.importFile(path) })
		}
		wg.Wait()
		for _, o := range outcomes {
			switch {
			case o.code == 0:
				done++
			case o.code != 1 || o.err == "":
				t.Errorf("exit %d: %s", o.code, o.err)
			}
		}
		minimum := fmt.Sprintf("X-Patchbay-Min-Revision: %d", f.revision("initech"))
		a := s.get("/v1/resolve/storage", p.token, minimum)
		n, err := number(a)
		if err != nil || n <= round*writers || n > (round+1)*writers {
			t.Errorf("after round %d: %d %v", round, n, err)
		}
	}
	w.end()
	if done < rounds {
		t.Errorf("%d of %d imports were acknowledged", done, rounds*writers)
	}
}

// What is above an organization's connectors is heard too: a tenant that is
// suspended, an organization that is deactivated, another default.
func TestStatusIsHeard(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	p := f.newPair("initech")
	s := f.serve()
	p.heard(s, 0, time.Now())
	for _, row := range []struct {
		name, model, field, off, on string
		code                        int
		problem                     string
	}{
		{"suspended", "gateway.tenant", "status", "suspended", "ready", http.StatusForbidden, "tenant_suspended"},
		{"deactivated", "res.organization", "active", "false", "true", http.StatusForbidden, "permission_denied"},
		{"no default", "ir.connector", "is_default", "false", "true", http.StatusNotFound, "no_default_connector"},
	} {
		for _, value := range []string{row.off, row.on} {
			line := fmt.Sprintf(`<field name="%s">%s</field></record>`, row.field, value)
			// The fields of the model's one record, and this one.
			body := bucketFile("initech", 0)
			body = strings.Replace(body, `<field name="is_default">true</field>`, "", 1)
			at := strings.Index(body, row.model)
			end := at + strings.Index(body[at:], "</record>")
			body = body[:end] + line + body[end+len("</record>"):]
			if row.field != "is_default" {
				body = strings.Replace(body, `<field name="config"`, `<field name="is_default">true</field><field name="config"`, 1)
			}
			f.importFile(f.file("status.xml", body)).ok(t)
			committed := time.Now()
			f.eventually(row.name+": "+value, func() bool {
				asked := time.Now()
				a := s.get("/v1/resolve/storage", p.token)
				done := value == row.on && a.code == http.StatusOK || value == row.off && a.code == row.code && a.Code == row.problem
				if !done && a.code == http.StatusOK && asked.Sub(committed) > promise+a.age(t) {
					t.Fatalf("%s: %d %s", row.name, a.code, a.body)
				}
				return done
			})
		}
	}
}

// A thousand callers of one cold slot cost one read of the database and one of
// Vault.
func TestStampede(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	gate := newVaultGate(t, f)
	s := f.serve(gate.env(), "PATCHBAY_LOCAL_DEADLINE=20s")
	// A flight of 5 s that is half way to its end may be dead, and whoever comes
	// then begins another. So a crowd that a busy machine lets come one by one proves
	// nothing, and the next one comes to another slot.
	for n := range 5 {
		if stampede(t, f, s, gate, f.newPair(fmt.Sprintf("initech-%d", n))) {
			return
		}
	}
	t.Error("the machine is too slow for a crowd")
}

// stampede lets a crowd ask for p's backend. It returns false when the crowd was
// too late to be one.
func stampede(t *testing.T, f *fleet, s *process, gate *vaultGate, p *pair) bool {
	t.Helper()
	// The secret comes when everybody has asked: without flights that are shared,
	// every caller would be at Vault by then.
	arrived := make(chan struct{})
	release := sync.OnceFunc(func() { close(arrived) })
	t.Cleanup(release) // the gate's end waits for whom it holds
	open := func(r *http.Request) int {
		if isSecret(r) {
			<-arrived
		}
		return 0
	}
	gate.before.Store(&open)
	const callers, soon = 1000, 2 * time.Second
	// Connections first: they cost more than all that comes after them.
	conns := make([]net.Conn, callers)
	for i := range conns {
		conn, err := net.Dial("tcp", s.local)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		conns[i] = conn
	}
	reads, secrets, seen := s.metric("patchbay_database_reads_total"), s.metric("patchbay_vault_reads_total"), gate.reads.Load()
	sources := map[string]int{}
	var asked atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	begun := time.Now()
	for _, conn := range conns {
		wg.Go(func() {
			a, err := p.askOn(conn, func() { asked.Add(1) })
			if err != nil || a.code != http.StatusOK {
				t.Errorf("%d %s %v", a.code, a.body, err)
				return
			}
			if n, err := number(a); n != 0 || err != nil {
				t.Error(n, err)
			}
			mu.Lock()
			sources[a.header.Get("X-Patchbay-Source")]++
			mu.Unlock()
		})
	}
	for asked.Load() < callers && time.Since(begun) < soon {
		time.Sleep(5 * time.Millisecond)
	}
	late := time.Since(begun) >= soon
	release()
	wg.Wait()
	// Who came once the secret was there is answered from memory.
	if late || sources["database"] < callers/2 {
		return false
	}
	if n := s.metric("patchbay_database_reads_total") - reads; n != 1 {
		t.Errorf("%v database reads", n)
	}
	if n := s.metric("patchbay_vault_reads_total") - secrets; n != 1 || gate.reads.Load()-seen != 1 {
		t.Errorf("%v Vault reads, and Vault saw %d", n, gate.reads.Load()-seen)
	}
	if sources["redis"] != 0 {
		t.Errorf("answers by source: %v", sources)
	}
	return true
}

// askOn asks on a connection of its own, and tells when the request is written.
func (p *pair) askOn(conn net.Conn, written func()) (answer, error) {
	req, err := http.NewRequest(http.MethodGet, "http://"+conn.RemoteAddr().String()+"/v1/resolve/storage", http.NoBody)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+p.token)
	if err := errors.Join(conn.SetDeadline(time.Now().Add(patience)), req.Write(conn)); err != nil {
		return answer{}, err
	}
	written()
	res, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return answer{}, err
	}
	return answerOf(res)
}

// What one sidecar has read, the next finds in Redis.
func TestSecondSidecarReadsRedis(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	f.importFile(f.file("tenant.xml", bucketFile("initech", 1))).ok(t)
	a, b := f.serve(), f.serve()
	token := f.token("initech", "hq")
	first := a.get("/v1/resolve/storage", token)
	if got := first.header.Get("X-Patchbay-Source"); got != "database" {
		t.Errorf("the first answer came from %s", got)
	}
	second := b.get("/v1/resolve/storage", token)
	if got := second.header.Get("X-Patchbay-Source"); got != "redis" || b.metric("patchbay_database_reads_total") != 0 {
		t.Errorf("the second sidecar's came from %s, after %v database reads", got, b.metric("patchbay_database_reads_total"))
	}
	if got := b.get("/v1/resolve/storage", token).header.Get("X-Patchbay-Source"); got != "memory" {
		t.Errorf("the third came from %s", got)
	}
	if string(first.body) != string(second.body) || first.header.Get("ETag") != second.header.Get("ETag") {
		t.Errorf("%s\n%s", first.body, second.body)
	}
}

// Nothing of a tenant is reachable with another's token.
func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	f.importFile(exampleFile(t), exampleVariables...).ok(t)
	s := f.serve()
	acme := s.get("/v1/resolve/storage", f.token("acme", "acme"))
	path := "/v1/connectors/" + acme.Connector.ID
	if a := s.get(path, f.token("acme", "acme")); a.code != http.StatusOK {
		t.Errorf("its own: %d %s", a.code, a.body)
	}
	unknown := s.get("/v1/connectors/01900000-0000-7000-8000-000000000000", f.token("globex", "globex"))
	for name, token := range map[string]string{
		"another tenant": f.token("globex", "globex"), "another organization": f.token("acme", "acme_labs"), "no organization": f.token("acme", ""),
	} {
		a := s.get(path, token)
		if a.code != http.StatusNotFound || !reflect.DeepEqual(anonymous(t, a.body), anonymous(t, unknown.body)) {
			t.Errorf("%s: %d %s, an unknown id: %s", name, a.code, a.body, unknown.body)
		}
	}
	if a := s.get("/v1/resolve/storage", f.token("acme", "acme"), "X-Organization-Id: acme_labs"); a.code != http.StatusForbidden {
		t.Errorf("an organization that the token does not allow: %d %s", a.code, a.body)
	}
	if a := s.get("/v1/resolve/storage", f.token("nobody", "hq")); a.code != http.StatusNotFound || a.Code != "not_found" {
		t.Errorf("an unknown tenant: %d %s", a.code, a.body)
	}
}

// Two tenants and two organizations ask one sidecar over the same connections:
// every answer is its asker's, and an ETag is worth nothing to another.
func TestTenantsShareASidecar(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	f.importFile(exampleFile(t), exampleVariables...).ok(t)
	s := f.serve()
	type asker struct{ token, storage, email string }
	askers := []asker{
		{f.token("acme", "acme"), "acme-prod", "smtp.acme.example"},
		{f.token("acme", "acme_labs"), "", "smtp.acme.example"},
		{f.token("globex", "globex"), "globex-data", ""},
		{f.token("nobody", "globex"), "", ""},
	}
	paths := []string{"/v1/resolve/storage", "/v1/resolve/email", "/v1/resolve"}
	var etags []string
	for _, path := range paths {
		etags = append(etags, s.get(path, askers[0].token).header.Get("ETag"))
	}
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 100 {
				who := askers[(worker+i)%len(askers)]
				for path, want := range map[string]string{"/v1/resolve/storage": who.storage, "/v1/resolve/email": who.email} {
					a, err := s.try(path, who.token)
					got := fmt.Sprint(a.Config["bucket"], a.Config["host"])
					switch {
					case err != nil:
						t.Error(err)
					case want == "" && a.code != http.StatusNotFound, want != "" && (a.code != http.StatusOK || !strings.Contains(got, want)):
						t.Errorf("%s, want %q: %d %s", path, want, a.code, a.body)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, path := range paths {
		if a := s.get(path, askers[2].token, "If-None-Match: "+strings.Join(etags, ", ")); a.code == http.StatusNotModified {
			t.Errorf("%s: another tenant's ETag is taken for its own", path)
		}
		if a := s.get(path, askers[0].token, "If-None-Match: "+strings.Join(etags, ", ")); a.code != http.StatusNotModified || len(a.body) != 0 {
			t.Errorf("%s: its own ETag answers %d", path, a.code)
		}
	}
	if all := s.get("/v1/resolve", askers[2].token); strings.Contains(string(all.body), "acme") || strings.Contains(string(all.body), "AKIAEXAMPLE") {
		t.Errorf("%s", all.body)
	}
}
