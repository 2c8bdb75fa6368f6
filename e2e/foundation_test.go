package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
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
// by a connected sidecar.
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
	if again.revision(t) != before.revision(t) || again.header.Get("ETag") != before.header.Get("ETag") {
		t.Errorf("an import that changes nothing moved revision %d to %d", before.revision(t), again.revision(t))
	}

	changed := append([]string{}, exampleVariables...)
	changed[1] = "S3_SECRET=rotated"
	f.importFile(exampleFile(t), changed...).ok(t)
	f.within(time.Second, "the rotated secret is served", func() bool {
		return s.get("/v1/resolve/storage", token).Config["secret_access_key"] == "rotated"
	})
	after := s.get("/v1/resolve/storage", token)
	if after.revision(t) <= before.revision(t) || after.header.Get("ETag") == before.header.Get("ETag") {
		t.Errorf("revision %d, then %d; ETag %s", before.revision(t), after.revision(t), after.header.Get("ETag"))
	}
	// Read your own writes, and a minimum that the database has never seen.
	if a := s.get("/v1/resolve/storage", token, fmt.Sprintf("X-Patchbay-Min-Revision: %d", after.revision(t)+1)); a.code != http.StatusConflict {
		t.Errorf("a minimum above the database's: %d %s", a.code, a.body)
	}
}

// A writer changes a param and a secret together; no reader of two sidecars ever
// sees one without the other, and none goes back.
func TestConfigAndSecretNeverTear(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	file := f.file("tenant.xml", bucketFile("initech", 0))
	f.importFile(file).ok(t)
	sidecars := []*process{f.serve(), f.serve()}
	token := f.token("initech", "hq")
	var done atomic.Bool
	var reads atomic.Int64
	var wg sync.WaitGroup
	for _, s := range sidecars {
		for range 3 {
			wg.Go(func() {
				last := -1
				for !done.Load() {
					a, err := s.try("/v1/resolve/storage", token)
					if err != nil || a.code != http.StatusOK {
						t.Errorf("%d %s %v", a.code, a.body, err)
						return
					}
					var n, m int
					_, _ = fmt.Sscanf(fmt.Sprint(a.Config["bucket"]), "bucket-%d", &n)
					_, _ = fmt.Sscanf(fmt.Sprint(a.Config["secret_access_key"]), "secret-%d", &m)
					if n != m || n < last {
						t.Errorf("bucket %d with secret %d after %d", n, m, last)
						return
					}
					last = n
					reads.Add(1)
				}
			})
		}
	}
	const writes = 12
	for n := 1; n <= writes; n++ {
		f.file("tenant.xml", bucketFile("initech", n))
		f.importFile(file).ok(t)
	}
	for _, s := range sidecars {
		f.within(time.Second, "every sidecar serves the last write", func() bool {
			return s.get("/v1/resolve/storage", token).Config["bucket"] == fmt.Sprintf("bucket-%d", writes)
		})
	}
	done.Store(true)
	wg.Wait()
	if reads.Load() < writes {
		t.Errorf("only %d reads", reads.Load())
	}
}

// A thousand callers of one cold slot cost one read of the database and one of
// Vault.
func TestStampede(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.importFile(f.file("tenant.xml", bucketFile("initech", 1))).ok(t)
	// No relay and no Redis hit: the import announced, nobody has filled.
	s := f.start(nil, "serve", "--config", f.config("sidecar", "sidecar", ""))
	s.ready()
	token := f.token("initech", "hq")
	database, vault := s.metric("patchbay_database_reads_total"), s.metric("patchbay_vault_reads_total")
	var wg sync.WaitGroup
	start := make(chan struct{})
	for range 1000 {
		wg.Go(func() {
			<-start
			if a, err := s.try("/v1/resolve/storage", token); err != nil || a.code != http.StatusOK || a.Config["bucket"] != "bucket-1" {
				t.Errorf("%d %s %v", a.code, a.body, err)
			}
		})
	}
	close(start)
	wg.Wait()
	if n := s.metric("patchbay_database_reads_total") - database; n != 1 {
		t.Errorf("%v database reads", n)
	}
	if n := s.metric("patchbay_vault_reads_total") - vault; n != 1 {
		t.Errorf("%v Vault reads", n)
	}
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
