package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// binary is the built sidecar.
var binary string

func TestMain(m *testing.M) {
	// By this name testenv's next run removes what a killed one left.
	dir, err := os.MkdirTemp("", fmt.Sprintf("patchbay-testenv-%d-e2e-", os.Getpid()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "sidecar")
	build := exec.Command("go", "build", "-o", binary, "github.com/patchbay-dev/patchbay/cmd/sidecar")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	testenv.Stop()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// patience bounds every wait for something to happen, far above what it takes.
const patience = 30 * time.Second

// fleet is one installation: servers, roles, config files and processes.
type fleet struct {
	testing.TB
	dir   string
	pg    *testenv.PostgresServer
	redis *testenv.RedisServer
	vault *testenv.VaultServer
	kit   *tenanttest.Kit
	mount string
	cache string // the cache section
	level string // of logs
	reads string // Vault policy of a sidecar
	watch *testenv.Stopwatch

	logins   map[string]string // database URL by role
	approles map[string]testenv.AppRole
	logs     []*process
}

// options of a fleet. The zero options: shared Postgres and Vault, Redis alone.
type options struct {
	private  bool     // servers that the test may kill
	cache    string   // YAML of the cache section
	level    string   // log level; default info
	postgres []string // settings of a private Postgres

	unmigrated bool // migrate and join are left to the test
}

// newFleet starts servers, migrates, and makes a login per role.
func newFleet(t testing.TB, o options) *fleet {
	t.Helper()
	f := &fleet{TB: t, dir: t.TempDir(), kit: tenanttest.New(t), cache: o.cache, level: o.level,
		logins: map[string]string{}, approles: map[string]testenv.AppRole{}, watch: testenv.StartStopwatch(t)}
	f.redis = testenv.NewRedis(t)
	if o.private {
		f.pg, f.vault = testenv.NewPostgres(t, o.postgres...), testenv.NewVault(t)
	} else {
		f.pg, f.vault = testenv.Postgres(t), testenv.Vault(t)
	}
	f.file("jwks.json", string(f.kit.JWKS()))
	owner := f.pg.NewDatabase(t)
	f.logins["owner"] = owner
	f.mount = f.vault.NewMount(t)
	data, metadata := f.mount+"/data/patchbay/*", f.mount+"/metadata/patchbay/*"
	// As docs/design.md has it: of several paths that fit, Vault goes by the most
	// specific one alone, so that of the grants says "read" again.
	f.reads = f.vault.NewPolicy(t, fmt.Sprintf(`path %q { capabilities = ["read"] }
path %q { capabilities = ["create", "read", "update"] }`, data, f.mount+"/data/patchbay/+/+/grant"))
	writes := f.vault.NewPolicy(t, fmt.Sprintf(`path %q { capabilities = ["create", "read", "update", "delete"] }
path %q { capabilities = ["read", "list", "delete"] }
path %q { capabilities = ["update"] }`, data, metadata, f.mount+"/destroy/patchbay/+/+/grant"))
	f.approles["sidecar"] = f.vault.NewAppRole(t, map[string]any{"token_ttl": "1h", "token_type": "batch"}, f.reads)
	f.approles["admin"] = f.vault.NewAppRole(t, map[string]any{"token_ttl": "1h"}, writes)

	for name := range groups {
		login := database(owner) + "_" + name
		if err := f.pg.Exec("CREATE ROLE " + login + " LOGIN"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.pg.Exec("DROP ROLE IF EXISTS " + login) }) // the server may be gone by design
		f.logins[name] = f.pg.URL(login, database(owner))
	}
	if !o.unmigrated {
		f.migrate().ok(f)
		f.join()
	}
	if o.private {
		// A test that failed leaves them frozen, and what else is cleaned up would
		// wait for them.
		t.Cleanup(func() { f.pg.Resume(); f.vault.Resume(); f.redis.Resume() })
	}
	return f
}

// groups are what each login is a member of.
var groups = map[string]string{"sidecar": "patchbay_sidecar", "admin": "patchbay_admin, patchbay_relay", "importer": "patchbay_admin"}

// migrate makes the schema, and the groups, as its owner.
func (f *fleet) migrate() outcome {
	f.Helper()
	return f.run(nil, "migrate", "--config", f.config("owner", "admin", ""))
}

// join puts the logins into their groups.
func (f *fleet) join() {
	f.Helper()
	for name, group := range groups {
		if err := f.pg.Exec("GRANT " + group + " TO " + database(f.logins["owner"]) + "_" + name); err != nil {
			f.Fatal(err)
		}
	}
}

// superuser connects to the fleet's database; row-level security does not bind it.
func (f *fleet) superuser() *pgx.Conn {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, f.pg.URL("postgres", database(f.logins["owner"])))
	if err != nil {
		f.Fatal(err)
	}
	return conn
}

// revision is a tenant's, as the database has it.
func (f *fleet) revision(tenant string) (n int64) {
	f.Helper()
	conn := f.superuser()
	defer conn.Close(f.Context())
	if err := conn.QueryRow(f.Context(), "SELECT revision FROM tenants WHERE id = $1", tenant).Scan(&n); err != nil {
		f.Fatal(err)
	}
	return n
}

// committed is when a tenant's last change was, by the database's clock, which
// is ours. Whoever reads just then may still miss it: a moment passes before a
// commit is seen.
func (f *fleet) committed(tenant string) (at time.Time) {
	f.Helper()
	conn := f.superuser()
	defer conn.Close(f.Context())
	if err := conn.QueryRow(f.Context(), "SELECT pg_xact_commit_timestamp(xmin) FROM tenants WHERE id = $1", tenant).Scan(&at); err != nil {
		f.Fatal(err)
	}
	return at.Add(100 * time.Millisecond)
}

func database(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	return strings.TrimPrefix(u.Path, "/")
}

func (f *fleet) file(name, content string) string {
	f.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		f.Fatal(err)
	}
	return path
}

var configs atomic.Int64

// config writes a config file for a database login and an AppRole; extra is
// more YAML.
func (f *fleet) config(login, approle, extra string) string {
	f.Helper()
	r := f.approles[approle]
	cache := f.cache
	if cache == "" {
		cache = "{}"
	}
	level := f.level
	if level == "" {
		level = "info"
	}
	n := configs.Add(1)
	return f.file(fmt.Sprintf("config-%d.yaml", n), fmt.Sprintf(`jwt:
  issuers:
    - {issuer: patchbay-dev, jwks_file: %s, audiences: [patchbay], algorithms: [ES256]}
postgres: {url_file: %s}
redis: {url_file: %s}
vault: {address: %q, mount: %s, auth: {method: approle, mount: %s, role_id: %s, secret_id_file: %s}}
cache: %s
log: {level: %s}
drain: 5s
%s
`, filepath.Join(f.dir, "jwks.json"), f.file(fmt.Sprintf("pg-%d", n), f.logins[login]),
		f.file(fmt.Sprintf("redis-%d", n), f.redis.URL()), f.vault.Addr, f.mount, r.Mount, r.RoleID,
		f.file(fmt.Sprintf("secret-id-%d", n), r.SecretID), cache, level, extra))
}

// outcome is a command that ended.
type outcome struct {
	code     int
	out, err string
}

func (o outcome) ok(t testing.TB) outcome {
	t.Helper()
	if o.code != 0 {
		t.Fatalf("exit %d\n%s%s", o.code, o.out, o.err)
	}
	return o
}

// run runs a command to its end. env is added to a clean environment.
func (f *fleet) run(env []string, args ...string) outcome {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env, cmd.Dir = append([]string{"HOME=" + f.dir, "PATH=/usr/bin:/bin"}, env...), f.dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		f.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// importFile imports as the control plane does.
func (f *fleet) importFile(path string, env ...string) outcome {
	f.Helper()
	return f.importAs("admin", path, env...)
}

// importAs imports with a database login.
func (f *fleet) importAs(login, path string, env ...string) outcome {
	f.Helper()
	return f.run(env, "import", "--config", f.config(login, "admin", ""), path)
}

// process is a running server of the fleet.
type process struct {
	f                    *fleet
	local, admin, probes string
	args, env            []string
	cmd                  *exec.Cmd
	done                 chan struct{}
	mu                   sync.Mutex
	log                  bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// start runs a command as a server until the test ends.
func (f *fleet) start(env []string, args ...string) *process {
	f.Helper()
	port := func() string { return fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(f)) }
	p := &process{f: f, local: port(), admin: port(), probes: port(), args: args}
	// A machine may stall for longer than callers have by default, and what a test
	// is not about should be answered then, too.
	p.env = append([]string{"HOME=" + f.dir, "PATH=/usr/bin:/bin", "PATCHBAY_LOCAL_DEADLINE=10s",
		"PATCHBAY_ADMIN_LISTEN=" + p.admin, "PATCHBAY_PROBES_LISTEN=" + p.probes}, env...)
	if !strings.Contains(strings.Join(env, "\n"), "PATCHBAY_LOCAL_SOCKET=") { // the two exclude each other
		p.env = append(p.env, "PATCHBAY_LOCAL_LISTEN="+p.local)
	}
	f.logs = append(f.logs, p)
	p.begin()
	f.Cleanup(func() {
		p.kill()
		if f.Failed() {
			f.Logf("%s said:\n%s", args[0], tail(p.output(), 4000))
		}
	})
	return p
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

func (p *process) begin() {
	p.f.Helper()
	p.cmd = exec.Command(binary, p.args...)
	p.cmd.Env, p.cmd.Dir = p.env, p.f.dir
	p.cmd.Stdout, p.cmd.Stderr = p, p
	if err := testenv.Start(p.cmd); err != nil {
		p.f.Fatal(err)
	}
	done := make(chan struct{})
	p.done = done
	cmd := p.cmd
	go func() { _ = cmd.Wait(); close(done) }()
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// stop asks the process to end and returns its exit code.
func (p *process) stop() int {
	p.f.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.f.Fatal("the process does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// serve starts a data plane and waits until it is ready and connected. env is
// added to its environment.
func (f *fleet) serve(env ...string) *process {
	f.Helper()
	p := f.start(env, "serve", "--config", f.config("sidecar", "sidecar", ""))
	p.connected()
	return p
}

// control starts a control plane and waits until it is ready. env is added to
// its environment.
func (f *fleet) control(env ...string) *process {
	f.Helper()
	// The tests ask faster than a tenant may.
	env = append([]string{"PATCHBAY_LIMITS_ADMIN_REQUESTS_PER_SECOND=0", "PATCHBAY_LIMITS_ADMIN_BURST=0"}, env...)
	p := f.start(env, "admin", "--config", f.config("admin", "admin", ""))
	p.ready()
	return p
}

func (p *process) ready() {
	p.f.Helper()
	p.f.eventually(p.args[0]+" is ready", func() bool {
		if !p.alive() {
			p.f.Fatalf("%s ended:\n%s", p.args[0], p.output())
		}
		return p.probe("/readyz") == http.StatusOK
	})
}

// connected waits until the change feed proves to be whole.
func (p *process) connected() {
	p.f.Helper()
	p.ready()
	p.f.eventually("the sidecar is connected", func() bool { return p.metric("patchbay_feed_connected") == 1 })
}

func (p *process) probe(path string) int {
	res, err := client.Get("http://" + p.probes + path)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	return res.StatusCode
}

// answers tells whether a dependency does, as the readiness probe has it.
func (p *process) answers(dependency string) bool {
	p.f.Helper()
	var verbose struct {
		Dependencies []struct {
			Name string `json:"name"`
			OK   bool   `json:"ok"`
		} `json:"dependencies"`
	}
	if err := json.Unmarshal([]byte(p.text("/readyz?verbose")), &verbose); err != nil {
		p.f.Fatal(err)
	}
	for _, d := range verbose.Dependencies {
		if d.Name == dependency {
			return d.OK
		}
	}
	p.f.Fatalf("no dependency %s in %v", dependency, verbose)
	return false
}

// metric reads one sample by its name; -1 when there is none.
func (p *process) metric(name string) float64 {
	for line := range strings.Lines(p.metrics()) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				p.f.Fatal(err)
			}
			return v
		}
	}
	return -1
}

func (p *process) metrics() string { return p.text("/metrics") }

// text is what the probes' listener says; "" when it does not answer.
func (p *process) text(path string) string {
	res, err := client.Get("http://" + p.probes + path)
	if err != nil {
		return ""
	}
	defer res.Body.Close()
	b, _ := io.ReadAll(res.Body)
	return string(b)
}

// answer is what the local API said.
type answer struct {
	code      int
	body      []byte
	header    http.Header
	Connector struct {
		ID, Name, Kind string
		ExternalID     string `json:"external_id"`
		Version        int64
		Inherited      bool
	}
	Config map[string]any
	Stale  bool
	Code   string
}

func (a answer) revision(t testing.TB) int64 {
	t.Helper()
	n, err := strconv.ParseInt(a.header.Get("X-Patchbay-Revision"), 10, 64)
	if err != nil {
		t.Fatalf("no revision in %v: %v", a.header, err)
	}
	return n
}

// client has no proxy and room for many callers at once.
var client = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// unixClient speaks to a Unix socket, whatever the URL's host.
func unixClient(socket string) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
}

// get asks the local API. headers are "Name: value".
func (p *process) get(path, token string, headers ...string) answer {
	p.f.Helper()
	for {
		asked := time.Now()
		a, err := p.try(path, token, headers...)
		if err != nil {
			p.f.Fatalf("%s: %v", path, err)
		}
		if !p.f.stalled(a, asked) {
			return a
		}
	}
}

// stalled tells of an answer that its deadline ran out while the whole machine
// stood still: that is nobody's fault, and no answer.
func (f *fleet) stalled(a answer, asked time.Time) bool {
	return a.code == http.StatusGatewayTimeout && f.watch.Lost(asked) > time.Second
}

func (p *process) try(path, token string, headers ...string) (answer, error) {
	return p.tryWith(context.Background(), client, path, token, headers...)
}

func (p *process) tryWith(ctx context.Context, client *http.Client, path, token string, headers ...string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.local+path, nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" { // which net/http keeps apart
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	return answerOf(res)
}

// answerOf reads an answer and closes its body.
func answerOf(res *http.Response) (a answer, err error) {
	defer res.Body.Close()
	a.code, a.header = res.StatusCode, res.Header
	if a.body, err = io.ReadAll(res.Body); err != nil {
		return a, err
	}
	if len(a.body) > 0 {
		if err := json.Unmarshal(a.body, &a); err != nil {
			return a, fmt.Errorf("%d %s: %w", a.code, a.body, err)
		}
	}
	return a, nil
}

// token is a JWT for a tenant and its active organization.
func (f *fleet) token(tenant, organization string) string {
	f.Helper()
	return f.kit.Token(tenanttest.Claims{Tenant: tenant, Organization: organization, TTL: time.Hour})
}

func (f *fleet) eventually(what string, done func() bool) {
	f.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	f.Fatalf("not within %s: %s", patience, what)
}

// within fails the test when done isn't true before d has passed.
func (f *fleet) within(d time.Duration, what string, done func() bool) {
	f.Helper()
	for end := time.Now().Add(d); ; time.Sleep(2 * time.Millisecond) {
		if done() {
			return
		}
		if time.Now().After(end) {
			f.Fatalf("not within %s: %s", d, what)
		}
	}
}

// bucketFile is a data file: tenant, organization "hq" and one S3 default whose
// bucket and secret carry the same number.
func bucketFile(tenant string, n int) string {
	return fmt.Sprintf(`<patchbay><data>
  <record id="t_%[1]s" model="gateway.tenant"><field name="key">%[1]s</field></record>
  <record id="o_%[1]s" model="res.organization"><field name="key">hq</field><field name="tenant_id" ref="t_%[1]s"/></record>
  <record id="%[1]s_s3" model="ir.connector">
    <field name="name">S3</field><field name="category">storage</field><field name="kind">s3</field>
    <field name="organization_id" ref="o_%[1]s"/><field name="is_default">true</field>
    <field name="config" eval="{'bucket': 'bucket-%[2]d', 'region': 'us-east-1', 'access_key_id': 'AK', 'secret_access_key': 'secret-%[2]d'}"/>
  </record>
</data></patchbay>
`, tenant, n)
}

// example is the bundled data file, and the variables that it names.
const example = "../examples/acme.xml"

func exampleFile(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs(example)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var exampleVariables = []string{"S3_KEY=AKIAEXAMPLE", "S3_SECRET=s3-secret", "SMTP_PASSWORD=smtp-password", "GLOBEX_S3_KEY=AKIAGLOBEX", "GLOBEX_S3_SECRET=globex-secret"}
