package command

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// installation is one set of servers with a config for them.
type installation struct {
	testing.TB
	dir    string
	pg     *testenv.PostgresServer
	vault  *testenv.VaultServer
	redis  *testenv.RedisServer
	kit    *tenanttest.Kit
	config string            // path
	values map[string]string // what config is made of
}

// install prepares servers; nothing is migrated.
func install(t testing.TB, pg *testenv.PostgresServer) *installation {
	t.Helper()
	i := &installation{TB: t, dir: t.TempDir(), pg: pg, vault: testenv.Vault(t), redis: testenv.NewRedis(t), kit: tenanttest.New(t)}
	owner := pg.NewDatabase(t)
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"patchbay_sidecar", "patchbay_admin", "patchbay_relay"} {
		_ = pg.Exec("CREATE ROLE " + role + " NOLOGIN") // another test's may be there
		if err := pg.Exec("GRANT " + role + " TO " + u.User.Username()); err != nil {
			t.Fatal(err)
		}
	}
	i.values = map[string]string{
		"jwks":     "{issuer: patchbay-dev, jwks_file: " + i.file("jwks.json", string(i.kit.JWKS())) + ", audiences: [patchbay], algorithms: [ES256]}",
		"postgres": i.file("postgres-url", owner),
		"redis":    i.file("redis-url", i.redis.URL()),
		"vault":    i.vault.Addr,
		"mount":    i.vault.NewMount(t),
		"token":    i.file("vault-token", i.vault.RootToken),
	}
	i.config = i.write(nil)
	return i
}

func (i *installation) file(name, content string) string {
	i.Helper()
	return write(i, filepath.Join(i.dir, name), content)
}

// write makes a config with some values changed.
func (i *installation) write(changed map[string]string) string {
	i.Helper()
	v := func(name string) string {
		if c, ok := changed[name]; ok {
			return c
		}
		return i.values[name]
	}
	return i.file(fmt.Sprintf("config-%d.yaml", time.Now().UnixNano()), fmt.Sprintf(`jwt: {issuers: [%s]}
postgres: {url_file: %s}
redis: {url_file: %s}
vault: {address: %q, mount: %s, auth: {method: token, token_file: %s}}
`, v("jwks"), v("postgres"), v("redis"), v("vault"), v("mount"), v("token")))
}

var acmeVariables = []string{"S3_KEY=AKIA", "S3_SECRET=s3-secret", "SMTP_PASSWORD=p", "GLOBEX_S3_KEY=GK", "GLOBEX_S3_SECRET=gs"}

// fill migrates and imports the bundled example.
func (i *installation) fill() {
	i.Helper()
	command(i, nil, "migrate", "--config", i.config).ok(i)
	command(i, acmeVariables, "import", "--config", i.config, "../../../examples/acme.xml").ok(i)
}

// running is a serve or admin of this test process.
type running struct {
	out, err text
	stop     context.CancelFunc
	done     chan struct{}
	code     int
}

func begin(t testing.TB, env []string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.code = run(ctx, args, streams{in: strings.NewReader(""), out: &r.out, err: &r.err}, env)
	}()
	t.Cleanup(func() { r.end(t) })
	return r
}

func (r *running) end(t testing.TB) int {
	t.Helper()
	r.stop()
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatalf("the process does not end:\n%s", r.err.String())
	}
	return r.code
}

func (r *running) ready(t testing.TB, probes string) {
	t.Helper()
	eventually(t, "ready at "+probes, func() bool {
		select {
		case <-r.done:
			t.Fatalf("the process ended with %d\n%s", r.code, r.err.String())
		default:
		}
		code, _ := get(t, "http://"+probes+"/readyz", "")
		return code == http.StatusOK
	})
}

func freeAddress(t testing.TB) string { return fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t)) }

// socketPath is a path short enough for a socket: a test's own folder is not.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func TestOnRealServers(t *testing.T) {
	t.Parallel()
	i := install(t, testenv.Postgres(t))

	// Before the schema is there: check says so, and what to do.
	o := command(t, nil, "check", "--config", i.config).fails(t, exitFailed, "postgres")
	if !strings.Contains(o.out, "migrate") || !strings.Contains(o.out, "vault") || strings.Count(o.err, "\n") != 1 {
		t.Errorf("check of an empty database:\n%s%s", o.out, o.err)
	}
	if o := command(t, nil, "migrate", "--status", "--config", i.config).ok(t); !strings.Contains(o.out, "no") {
		t.Errorf("status before: %s", o.out)
	}
	command(t, nil, "migrate", "--config", i.config).ok(t)
	command(t, nil, "migrate", "--config", i.config).ok(t) // again: nothing to do
	if o := command(t, nil, "migrate", "--status", "--config", i.config).ok(t); strings.Contains(o.out, "  no") || !strings.Contains(o.out, time.Now().UTC().Format("2006-")) {
		t.Errorf("status after: %s", o.out)
	}
	o = command(t, nil, "check", "--config", i.config).ok(t)
	for _, want := range []string{"config ", "postgres ", "redis ", "vault ", "issuer patchbay-dev "} {
		if !strings.Contains(o.out, want) {
			t.Errorf("check lacks %q:\n%s", want, o.out)
		}
	}

	// An operator's words are missing: all of them are named, nothing is written.
	command(t, acmeVariables[:2], "import", "--config", i.config, "../../../examples/acme.xml").
		fails(t, exitFailed, "SMTP_PASSWORD", "GLOBEX_S3_KEY", "GLOBEX_S3_SECRET")
	command(t, nil, "export", "--config", i.config).fails(t, exitFailed, "no tenant yet")
	if o := command(t, acmeVariables, "import", "--config", i.config, "--dry-run", "../../../examples/acme.xml").ok(t); !strings.Contains(o.out, "create") {
		t.Errorf("the plan:\n%s", o.out)
	}
	command(t, nil, "export", "--config", i.config).fails(t, exitFailed, "no tenant yet")
	command(t, acmeVariables, "import", "--config", i.config, "../../../examples/acme.xml").ok(t)

	adminAt, adminProbes, serveProbes, socket := freeAddress(t), freeAddress(t), freeAddress(t), socketPath(t)
	admin := begin(t, []string{"PATCHBAY_ADMIN_LISTEN=" + adminAt, "PATCHBAY_PROBES_LISTEN=" + adminProbes}, "admin", "--config", i.config)
	admin.ready(t, adminProbes)
	unused := freeAddress(t)
	serve := begin(t, []string{"PATCHBAY_LOCAL_SOCKET=" + socket, "PATCHBAY_PROBES_LISTEN=" + serveProbes, "PATCHBAY_ADMIN_LISTEN=" + unused}, "serve", "--config", i.config)
	serve.ready(t, serveProbes)
	if st, err := os.Stat(socket); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("the socket: %v %v", st, err)
	}
	if code, _ := get(t, "http://"+unused+"/dev/jwks.json", ""); code != 0 {
		t.Errorf("serve answers %d on the control plane's address", code)
	}
	if code, _ := get(t, "http://"+adminAt+"/dev/jwks.json", ""); code != http.StatusNotFound {
		t.Errorf("admin answers %d for a dev's keys", code)
	}

	token := i.file("token", i.kit.Token(tenanttest.Claims{Tenant: "acme", Organization: "acme"}))
	resolve := func() string {
		return command(t, nil, "resolve", "storage", "--url", "unix://"+socket, "--token-file", token).ok(t).out
	}
	if out := resolve(); !strings.Contains(out, `"secret_access_key":"s3-secret"`) {
		t.Errorf("%s", out)
	}
	_, verbose := get(t, "http://"+serveProbes+"/readyz?verbose", "")
	for _, want := range []string{`"ready":true`, `"postgres"`, `"vault"`, `"redis"`, `"issuer patchbay-dev"`} {
		if !strings.Contains(verbose, want) {
			t.Errorf("/readyz?verbose lacks %s: %s", want, verbose)
		}
	}
	command(t, []string{"PATCHBAY_PROBES_LISTEN=" + serveProbes}, "healthcheck", "--config", i.config).ok(t)

	// A connected sidecar serves a change within a second.
	eventually(t, "the sidecar is connected", func() bool {
		_, metrics := get(t, "http://"+serveProbes+"/metrics", "")
		return strings.Contains(metrics, "patchbay_feed_connected 1")
	})
	changed := append([]string{"S3_SECRET=rotated"}, acmeVariables[:1]...)
	command(t, append(changed, acmeVariables[2:]...), "import", "--config", i.config, "../../../examples/acme.xml").ok(t)
	heard(t, "localhost", socket, read(t, token), `"secret_access_key":"rotated"`)
	if out := resolve(); !strings.Contains(out, "rotated") {
		t.Errorf("%s", out)
	}
	_, metrics := get(t, "http://"+adminProbes+"/metrics", "")
	for _, want := range []string{"patchbay_relay_heartbeats_total", "patchbay_secrets_deleted_total 0"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("admin's metrics lack %s", want)
		}
	}

	// An export goes back in and changes nothing.
	exported := command(t, nil, "export", "--config", i.config, "--tenant", "acme").ok(t).out
	if strings.Contains(exported, "rotated") {
		t.Errorf("the export holds a secret:\n%s", exported)
	}
	o = command(t, []string{
		"CONNECTOR_ACME_S3_ACCESS_KEY_ID=AKIA", "CONNECTOR_ACME_S3_SECRET_ACCESS_KEY=rotated", "CONNECTOR_ACME_SMTP_PASSWORD=p",
	}, "import", "--config", i.config, i.file("exported.xml", exported)).ok(t)
	if !strings.Contains(o.out, "0 to create, 0 to update") {
		t.Errorf("the export's import:\n%s\n%s", o.out, exported)
	}

	// The socket is taken, and stays its holder's.
	second := command(t, []string{"PATCHBAY_LOCAL_SOCKET=" + socket, "PATCHBAY_PROBES_LISTEN=" + freeAddress(t)}, "serve", "--config", i.config)
	second.fails(t, exitFailed, socket, "another process")
	resolve()
	for name, p := range map[string]*running{"serve": serve, "admin": admin} {
		if code := p.end(t); code != exitDone {
			t.Errorf("%s: exit %d\n%s", name, code, p.err.String())
		}
		for _, secret := range []string{"s3-secret", "rotated", i.vault.RootToken} {
			if strings.Contains(p.err.String(), secret) {
				t.Errorf("%s logged a secret", name)
			}
		}
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket was left")
	}
}

// An SDK's error may have lines of its own; ours has one.
func TestErrorsAreOneLine(t *testing.T) {
	t.Parallel()
	i := install(t, testenv.Postgres(t))
	config := i.write(map[string]string{"postgres": i.file("pg", "postgres://u:canary-pw@"+freeAddress(t)+"/db")})
	for _, args := range [][]string{{"migrate"}, {"migrate", "--status"}, {"export"}, {"import", "../../../examples/acme.xml"}} {
		o := command(t, acmeVariables, append(args, "--config", config)...).fails(t, exitFailed, "the database is not reachable", "refused")
		if strings.Count(o.err, "\n") != 1 || strings.Contains(o.err, "canary-pw") {
			t.Errorf("%v: %s", args, o.err)
		}
	}
}

// Every dependency is looked at, also after one has failed; each row says why.
func TestCheckReachesEachDependency(t *testing.T) {
	t.Parallel()
	i := install(t, testenv.Postgres(t))
	command(t, nil, "migrate", "--config", i.config).ok(t)
	closed := freeAddress(t)
	for name, row := range map[string]struct {
		changed map[string]string
		failed  []string
	}{
		"postgres away": {map[string]string{"postgres": i.file("pg", "postgres://u:canary-pw@"+closed+"/db")}, []string{"postgres"}},
		"redis away":    {map[string]string{"redis": i.file("rd", "redis://:canary-pw@"+closed)}, []string{"redis"}},
		"vault away":    {map[string]string{"vault": "http://" + closed}, []string{"vault"}},
		"vault refuses": {map[string]string{"token": i.file("tk", "canary-pw")}, []string{"vault"}},
		"issuer away":   {map[string]string{"jwks": "{issuer: a, jwks_url: 'http://" + closed + "/jwks.json', audiences: [x], algorithms: [ES256]}"}, []string{"issuer a"}},
		"all away": {map[string]string{
			"postgres": i.file("pg", "postgres://u:canary-pw@"+closed+"/db"), "redis": i.file("rd", "redis://:canary-pw@"+closed), "vault": "http://" + closed,
			"jwks": "{issuer: a, jwks_url: 'http://" + closed + "/jwks.json', audiences: [x], algorithms: [ES256]}",
		}, []string{"postgres", "vault", "redis", "issuer a"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := command(t, nil, "check", "--config", i.write(row.changed))
			o.fails(t, exitFailed, row.failed...)
			for line := range strings.Lines(o.out) {
				wrong := false
				for _, name := range row.failed {
					wrong = wrong || strings.HasPrefix(line, name+" ")
				}
				if wrong != strings.Contains(line, "FAILED: ") {
					t.Errorf("%q", line)
				}
			}
			if strings.Count(o.out, "FAILED") != len(row.failed) || strings.Count(o.err, "\n") != 1 {
				t.Errorf("%s%s", o.out, o.err)
			}
			if strings.Contains(o.out+o.err, "canary-pw") {
				t.Errorf("a credential is shown:\n%s%s", o.out, o.err)
			}
		})
	}
}

// What a credential file holds is config: exit 2, the key named, no content shown.
// Vault's is another matter: an agent may not have written it yet, so serve waits.
func TestCredentialFilesThatHoldNonsense(t *testing.T) {
	t.Parallel()
	i := install(t, testenv.Postgres(t))
	for key, changed := range map[string]map[string]string{
		"postgres.url_file": {"postgres": i.file("a", "canary-pw://x")},
		"redis":             {"redis": i.file("b", "canary-pw://x")},
	} {
		env := []string{"PATCHBAY_LOCAL_LISTEN=" + freeAddress(t), "PATCHBAY_PROBES_LISTEN=" + freeAddress(t)}
		o := command(t, env, "serve", "--config", i.write(changed)).fails(t, exitUsage, key)
		if strings.Contains(o.err, "canary-pw") {
			t.Errorf("content is shown: %s", o.err)
		}
	}
}

// Nothing answers at start: live, not ready, said clearly, and no crash.
func TestServeWithoutUpstreams(t *testing.T) {
	t.Parallel()
	i := install(t, testenv.Postgres(t))
	closed := freeAddress(t)
	config := i.write(map[string]string{
		"postgres": i.file("pg", "postgres://u:canary-pw@"+closed+"/db"), "redis": i.file("rd", "redis://"+closed), "vault": "http://" + closed,
	})
	for _, name := range []string{"serve", "admin"} {
		probes := freeAddress(t)
		p := begin(t, []string{"PATCHBAY_LOCAL_LISTEN=" + freeAddress(t), "PATCHBAY_ADMIN_LISTEN=" + freeAddress(t), "PATCHBAY_PROBES_LISTEN=" + probes}, name, "--config", config)
		eventually(t, name+" says what is away", func() bool {
			log := p.err.String()
			return strings.Contains(log, `"dependency":"postgres"`) && strings.Contains(log, `"dependency":"vault"`)
		})
		if code, _ := get(t, "http://"+probes+"/livez", ""); code != http.StatusOK {
			t.Errorf("%s: /livez %d", name, code)
		}
		code, body := get(t, "http://"+probes+"/readyz?verbose", "")
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "not logged in to Vault") || strings.Contains(body, "canary-pw") {
			t.Errorf("%s: /readyz %d %s", name, code, body)
		}
		if code := p.end(t); code != exitDone {
			t.Errorf("%s: exit %d\n%s", name, code, p.err.String())
		}
		if strings.Contains(p.err.String(), "canary-pw") {
			t.Errorf("%s logs a password", name)
		}
	}
}

// A request that is in flight at SIGTERM is finished; meanwhile the process is
// live, not ready, and takes no new ones.
func TestDrainFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	pg := testenv.NewPostgres(t)
	i := install(t, pg)
	i.fill()
	local, probes := freeAddress(t), freeAddress(t)
	p := begin(t, []string{
		"PATCHBAY_LOCAL_LISTEN=" + local, "PATCHBAY_PROBES_LISTEN=" + probes, "PATCHBAY_LOCAL_DEADLINE=20s", "PATCHBAY_DRAIN=25s",
	}, "serve", "--config", i.config)
	p.ready(t, probes)
	pg.Pause()
	defer pg.Resume()
	type answer struct {
		code int
		body string
	}
	answered := make(chan answer, 1)
	token := i.kit.Token(tenanttest.Claims{Tenant: "acme", Organization: "acme"})
	go func() {
		code, body := get(t, "http://"+local+"/v1/resolve/storage", token)
		answered <- answer{code, body}
	}()
	eventually(t, "the request is in flight", func() bool {
		_, metrics := get(t, "http://"+probes+"/metrics", "")
		return strings.Contains(metrics, "patchbay_database_reads_total 1")
	})
	p.stop()
	eventually(t, "the process is not ready", func() bool {
		code, body := get(t, "http://"+probes+"/readyz?verbose", "")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "leaving")
	})
	eventually(t, "the local API takes no new connections", func() bool {
		conn, err := net.Dial("tcp", local)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
	if code, _ := get(t, "http://"+probes+"/livez", ""); code != http.StatusOK {
		t.Errorf("/livez while draining: %d", code)
	}
	select {
	case a := <-answered:
		t.Fatalf("answered before Postgres was back: %d %s", a.code, a.body)
	case <-p.done:
		t.Fatalf("the process left a request behind:\n%s", p.err.String())
	default:
	}
	pg.Resume()
	if a := <-answered; a.code != http.StatusOK || !strings.Contains(a.body, "acme-prod") {
		t.Errorf("%d %s", a.code, a.body)
	}
	if code := p.end(t); code != exitDone {
		t.Errorf("exit %d\n%s", code, p.err.String())
	}
}

func TestServeOnALeftoverSocket(t *testing.T) {
	t.Parallel()
	i := install(t, testenv.Postgres(t))
	i.fill()
	socket, probes := socketPath(t), freeAddress(t)
	env := []string{"PATCHBAY_LOCAL_SOCKET=" + socket, "PATCHBAY_PROBES_LISTEN=" + probes}

	write(t, socket, "somebody's notes")
	command(t, env, "serve", "--config", i.config).fails(t, exitFailed, socket, "not a socket")
	if b, err := os.ReadFile(socket); err != nil || string(b) != "somebody's notes" {
		t.Fatalf("the file is gone: %v", err)
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false) // as after kill -9
	_ = ln.Close()
	p := begin(t, env, "serve", "--config", i.config)
	p.ready(t, probes)
	token := i.file("token", i.kit.Token(tenanttest.Claims{Tenant: "acme", Organization: "acme"}))
	command(t, nil, "resolve", "storage", "--url", "unix://"+socket, "--token-file", token).ok(t)
}
