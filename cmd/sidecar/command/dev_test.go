package command

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestDevAnswersWithTheBundledExample(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start(t, []string{"S3_KEY=AKIAREAL"})
	b := d.resolve(t, d.bannerToken(t), "storage")
	// A variable that is set counts; for the others a demo value stands in.
	if b.Connector.ExternalID != "connector_acme_s3" || b.Config["access_key_id"] != "AKIAREAL" ||
		b.Config["secret_access_key"] != "demo-s3-secret" || b.Config["bucket"] != "acme-prod" {
		t.Fatalf("%+v", b)
	}
	_, env := get(t, "http://"+d.local+"/v1/env", d.bannerToken(t))
	if !strings.Contains(env, `"roles":[]`) || !strings.Contains(env, `"organizations":["acme"]`) {
		t.Errorf("the curl line's token says %s", env)
	}
	code, jwks := get(t, "http://"+d.admin+"/dev/jwks.json", "")
	if code != http.StatusOK || !strings.Contains(jwks, `"kty":"EC"`) || strings.Contains(jwks, `"d":`) {
		t.Errorf("keys: %d %s", code, jwks)
	}

	// Inheritance, another tenant, and the wall between them.
	labs := command(t, nil, "token", "--data-dir", d.dir, "--tenant", "acme", "--org", "acme_labs").ok(t).out
	if b := d.resolve(t, strings.TrimSpace(labs), "email"); !b.Connector.Inherited {
		t.Errorf("acme_labs does not inherit: %+v", b)
	}
	globex := strings.TrimSpace(command(t, nil, "token", "--data-dir", d.dir, "--tenant", "globex", "--org", "globex").ok(t).out)
	if b := d.resolve(t, globex, "storage"); b.Config["bucket"] == "acme-prod" {
		t.Errorf("globex got acme's bucket: %+v", b)
	}
	if code, body := get(t, "http://"+d.local+"/v1/connectors/"+b.Connector.ID, globex); code != http.StatusNotFound {
		t.Errorf("globex reads acme's connector: %d %s", code, body)
	}
}

func TestDevKeepsItsDataAndSeedsOnce(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	seed := write(t, filepath.Join(t.TempDir(), "seed.xml"), bucketFile("one", "s1"))
	d.start(t, nil, "--seed", seed)
	first := d.resolve(t, d.bannerToken(t), "storage") // the token is for the seed's own tenant
	if first.Config["bucket"] != "one" {
		t.Fatalf("%+v", first)
	}
	d.end(t)
	if d.code != exitDone {
		t.Fatalf("exit %d: %s", d.code, d.err.String())
	}
	write(t, seed, bucketFile("two", "s2"))
	d.start(t, nil) // not given: not imported
	if again := d.resolve(t, d.bannerToken(t), "storage"); again.Connector.ID != first.Connector.ID || again.Config["bucket"] != "one" {
		t.Fatalf("%+v", again)
	}
	d.end(t)
	d.start(t, nil, "--seed", seed)
	if b := d.resolve(t, d.bannerToken(t), "storage"); b.Connector.ID != first.Connector.ID || b.Config["bucket"] != "two" || b.Config["secret_access_key"] != "s2" {
		t.Fatalf("%+v", b)
	}
}

func TestDevWithASeedThatResolvesNothing(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	seed := write(t, filepath.Join(t.TempDir(), "seed.xml"),
		`<ede><record id="t" model="gateway.tenant"><field name="key">hooli</field></record></ede>`)
	d.start(t, nil, "--seed", seed)
	if code, body := get(t, "http://"+d.local+"/v1/resolve/storage", d.bannerToken(t)); code != http.StatusNotFound || !strings.Contains(body, "no_default_connector") {
		t.Errorf("%d %s", code, body)
	}
	if !strings.Contains(d.out.String(), "No connector is the default for storage yet") {
		t.Errorf("the banner promises more:\n%s", d.out.String())
	}
}

// The EDE example declares no organization and no tenant.
func TestDevSeedsARecordWithoutTenant(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	seed := write(t, filepath.Join(t.TempDir(), "seed.xml"), `<odoo><record id="connector_acme_s3" model="ir.connector">
  <field name="name">Acme S3</field><field name="category">storage</field><field name="kind">s3</field>
  <field name="organization_id" ref="res.organization.acme"/><field name="is_default">true</field>
  <field name="config" eval="{'bucket': 'bucket', 'access_key_id': 'a', 'secret_access_key': '$ENV:SECRET',}"/></record></odoo>`)
	d.begin(t, nil, "--seed", seed)
	<-d.done
	if d.code != exitFailed || !strings.Contains(d.err.String(), "SECRET is not set") {
		t.Fatalf("exit %d: %s", d.code, d.err.String())
	}
	nothingLeft(t, d)
	d.start(t, []string{"SECRET=s"}, "--seed", seed)
	if b := d.resolve(t, d.bannerToken(t), "storage"); b.Config["secret_access_key"] != "s" {
		t.Fatalf("%+v", b)
	}
	if _, env := get(t, "http://"+d.local+"/v1/env", d.bannerToken(t)); !strings.Contains(env, `"tenant":"default"`) {
		t.Errorf("%s", env)
	}
}

// A first start that fails takes only what it made itself.
func TestDevFailsItsFirstStartInAUsedDataDir(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	token := strings.TrimSpace(command(t, nil, "token", "--data-dir", d.dir, "--tenant", "acme", "--org", "acme").ok(t).out)
	notes := write(t, filepath.Join(d.dir, "notes.txt"), "mine")
	seed := write(t, filepath.Join(t.TempDir(), "bad.xml"), "<ede><record")
	command(t, d.environment(), "dev", "--data-dir", d.dir, "--seed", seed).fails(t, exitFailed, "bad.xml:1")
	entries, err := os.ReadDir(d.dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left: %v %v", entries, err)
	}
	if b, err := os.ReadFile(notes); err != nil || string(b) != "mine" {
		t.Errorf("the notes are gone: %v", err)
	}
	d.start(t, nil)
	d.resolve(t, token, "storage") // the key that signed it is still there
}

func nothingLeft(t testing.TB, d *devProcess) {
	t.Helper()
	if _, err := os.Stat(d.dir); err == nil {
		entries, _ := os.ReadDir(d.dir)
		t.Errorf("the data dir was left, with %v", entries)
	}
}

func TestDevRefuses(t *testing.T) {
	t.Parallel()
	t.Run("a port in use", func(t *testing.T) {
		t.Parallel()
		for _, variable := range []string{"PATCHBAY_LOCAL_LISTEN", "PATCHBAY_ADMIN_LISTEN", "PATCHBAY_PROBES_LISTEN"} {
			d := newDev(t)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			o := command(t, d.environment(variable+"="+ln.Addr().String()), "dev", "--data-dir", d.dir)
			o.fails(t, exitFailed, variable, ln.Addr().String())
			if strings.Count(o.err, "\n") != 1 {
				t.Errorf("more than one line: %s", o.err)
			}
			nothingLeft(t, d)
		}
	})
	t.Run("a locked data dir", func(t *testing.T) {
		t.Parallel()
		d, other := newDev(t), newDev(t)
		d.start(t, nil)
		command(t, other.environment(), "dev", "--data-dir", d.dir).fails(t, exitFailed, d.dir, "in use", "--data-dir")
		d.resolve(t, d.bannerToken(t), "storage") // the first one is unharmed
	})
	t.Run("a data dir of a newer version", func(t *testing.T) {
		t.Parallel()
		d := newDev(t)
		d.start(t, nil)
		d.end(t)
		store := filepath.Join(d.dir, storeFile)
		db, err := sql.Open("sqlite", store)
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.ExecContext(t.Context(), `INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(store)
		if err != nil {
			t.Fatal(err)
		}
		command(t, d.environment(), "dev", "--data-dir", d.dir).fails(t, exitFailed, "newer")
		if after, err := os.ReadFile(store); err != nil || string(after) != string(before) {
			t.Errorf("the store was changed (%v)", err)
		}
	})
	t.Run("a data dir that is no folder", func(t *testing.T) {
		t.Parallel()
		d := newDev(t)
		write(t, d.dir, "")
		command(t, d.environment(), "dev", "--data-dir", d.dir).fails(t, exitFailed, d.dir)
	})
	t.Run("a seed that is wrong later", func(t *testing.T) {
		t.Parallel()
		d := newDev(t)
		d.start(t, nil)
		id := d.resolve(t, d.bannerToken(t), "storage").Connector.ID
		d.end(t)
		seed := write(t, filepath.Join(t.TempDir(), "bad.xml"), `<ede><record id="x" model="ir.nonsense"/></ede>`)
		command(t, d.environment(), "dev", "--data-dir", d.dir, "--seed", seed).fails(t, exitFailed, "bad.xml:1", "ir.nonsense")
		command(t, d.environment(), "dev", "--data-dir", d.dir, "--seed", "/nowhere.xml").fails(t, exitFailed, "/nowhere.xml")
		d.start(t, nil)
		if again := d.resolve(t, d.bannerToken(t), "storage").Connector.ID; again != id {
			t.Errorf("connector %s became %s", id, again)
		}
	})
}

func TestDevListensOnLoopbackAndChecksHosts(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start(t, nil)
	for _, url := range []string{"http://" + d.local + "/v1/env", "http://" + d.admin + "/dev/jwks.json"} {
		for name, header := range map[string][2]string{
			"host": {"Host", "evil.example"}, "origin": {"Origin", "https://evil.example"}, "referer": {"Referer", "https://evil.example/"},
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(header[0], header[1])
			if header[0] == "Host" {
				req.Host = header[1]
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			if res.StatusCode != http.StatusForbidden {
				t.Errorf("%s of %s: %d", name, url, res.StatusCode)
			}
		}
	}
}

// The banner comes before /readyz says 200, so that a script which waits for one
// finds the other.
func TestDevPrintsBeforeItIsReady(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start(t, nil)
	out := d.out.String()
	for _, want := range []string{d.local, d.admin, d.probes, d.dir, "curl "} {
		if !strings.Contains(out, want) {
			t.Errorf("the banner lacks %q:\n%s", want, out)
		}
	}
	if n := len(jwtPattern.FindAllString(out, -1)); n != 1 {
		t.Errorf("the banner holds %d tokens", n)
	}
}

func TestDevOnAUnixSocket(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	dir, err := os.MkdirTemp("", "pb") // a test's own folder is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	d.local = ""
	d.start(t, []string{"PATCHBAY_LOCAL_SOCKET=" + socket})
	if !strings.Contains(d.out.String(), "curl -s --unix-socket "+socket) {
		t.Errorf("the curl line:\n%s", d.out.String())
	}
	o := command(t, nil, "resolve", "storage", "--url", "unix://"+socket, "--data-dir", d.dir).ok(t)
	if !strings.Contains(o.out, `"bucket":"acme-prod"`) {
		t.Errorf("%s", o.out)
	}
}

func TestDevLeavesNoGoroutine(t *testing.T) {
	// Not parallel: goroutines belong to the whole process.
	before := goleak.IgnoreCurrent()
	d := newDev(t)
	d.start(t, nil)
	d.resolve(t, d.bannerToken(t), "storage")
	d.end(t)
	http.DefaultClient.CloseIdleConnections()
	// Fasthttp's housekeepers sleep up to ten seconds before they see the end.
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

func TestDevLeavesWhileStarting(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs text
	run(ctx, []string{"dev", "--data-dir", d.dir}, streams{out: &out, err: &errs}, d.environment())
	d.start(t, nil) // nothing half-made is in the way
	d.resolve(t, d.bannerToken(t), "storage")
}
