package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// Planted secrets are searched for wherever data or text comes to rest: after
// traffic that succeeds, and after traffic that fails in every way at hand.
func TestNoSecretComesToRest(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{private: true, level: "debug", cache: "{ttl: 1s, negative_ttl: 1s, max_stale: 2s}", postgres: []string{
		// Also what only passed through Postgres is looked at: every statement with
		// its arguments.
		"logging_collector=on", "log_directory=log", "log_statement=all", "log_parameter_max_length=-1", "log_parameter_max_length_on_error=-1",
	}})
	canaries := map[string]string{}
	plant := func(name string) string {
		canaries[name] = "CANARY-" + strings.NewReplacer("_", "-", " ", "-", "*", "").Replace(name) + "-5f1c"
		return canaries[name]
	}
	var variables []string
	for _, v := range exampleVariables {
		name, _, _ := strings.Cut(v, "=")
		variables = append(variables, name+"="+plant(name))
	}
	// The servers ask for no password; the clients hold one all the same.
	for login, raw := range f.logins {
		f.logins[login] = strings.Replace(raw, "@", ":"+plant("postgres password of "+login)+"@", 1)
	}
	env := []string{"PATCHBAY_REDIS_URL_FILE=" + f.file("redis-password", strings.Replace(f.redis.URL(), "//", "//default:"+plant("redis password")+"@", 1))}
	local := f.file("local-token", plant("local token"))
	commands := monitor(t, f)
	gate := newVaultGate(t, f)

	// said is what people and programs are told; heard is where an answer with
	// secrets is meant to go, and is not searched.
	var said []string
	told := func(os ...outcome) {
		for _, o := range os {
			said = append(said, o.out, o.err)
		}
	}
	importing := func(path string, more ...string) outcome {
		return f.importFile(path, append(append([]string{}, env...), more...)...)
	}
	admin := f.control(env...)
	told(importing(exampleFile(t), variables...).ok(t))
	s, guarded := f.serve(append(env, gate.env())...), f.serve(append(env, "PATCHBAY_LOCAL_TOKEN_FILE="+local)...)
	token, globex := f.token("acme", "acme"), f.token("globex", "globex")
	canaries["token"], canaries["token of globex"] = token, globex
	for name, r := range f.approles {
		canaries["secret id of "+name] = r.SecretID
	}
	expired := f.kit.Sign(map[string]any{"tenant_id": "acme", "org_id": "acme", "exp": time.Now().Add(-time.Hour).Unix()})
	stranger := tenanttest.New(t).Token(tenanttest.Claims{Tenant: "acme", Organization: "acme", TTL: time.Hour})
	canaries["expired token"], canaries["stranger's token"] = expired, stranger
	ask := func(s *process, path, token string, headers ...string) answer {
		a := s.get(path, token, headers...)
		if a.code >= 400 {
			said = append(said, string(a.body), fmt.Sprint(a.header))
			if strings.Contains(string(a.body), f.mount) || strings.Contains(string(a.body), "/data/") {
				t.Errorf("a Vault path in %s", a.body)
			}
		}
		return a
	}
	round := func() {
		for _, path := range []string{"/v1/resolve/storage", "/v1/resolve/email", "/v1/resolve", "/v1/env", "/v1/resolve/nonsense", "/v1/nonsense",
			"/v1/connectors/" + canaries["S3_SECRET"], "/v1/connectors/x?" + canaries["S3_SECRET"], "/v1/resolve/storage?organization=" + canaries["S3_SECRET"], "/v1/resolve/storage?format=" + canaries["S3_SECRET"]} {
			for _, token := range []string{token, globex, token + "x", expired, stranger, canaries["S3_SECRET"], ""} {
				ask(s, path, token)
			}
			ask(s, path, token, "X-Organization-Id: "+canaries["S3_SECRET"])
			ask(s, path, token, "X-Patchbay-Min-Revision: "+canaries["S3_SECRET"])
			ask(s, path, token, "Origin: "+canaries["S3_SECRET"])
			ask(guarded, path, token, "X-Patchbay-Token: "+canaries["local token"])
			ask(guarded, path, token, "X-Patchbay-Token: "+canaries["S3_SECRET"])
		}
	}
	round()
	if a := ask(s, "/v1/resolve/storage", token); a.Config["secret_access_key"] != canaries["S3_SECRET"] {
		t.Fatalf("%d", a.code)
	}
	if a := ask(guarded, "/v1/resolve/storage", token, "X-Patchbay-Token: "+canaries["local token"]); a.code != http.StatusOK {
		t.Fatalf("%d %s", a.code, a.body)
	}
	changed := append([]string{}, variables...)
	changed[1] = "S3_SECRET=" + plant("rotated")
	told(importing(exampleFile(t), changed...).ok(t))
	f.eventually("the rotated secret is served", func() bool {
		return s.get("/v1/resolve/storage", token).Config["secret_access_key"] == canaries["rotated"]
	})
	// Files that are wrong beside a secret, or in it.
	inFile := plant("value in a file")
	good := strings.Replace(bucketFile("initech", 1), "secret-1", inFile, 1)
	for name, bad := range map[string]string{
		"unknown param": strings.Replace(good, "'region'", "'regoin'", 1),
		"no literal":    strings.Replace(good, "'"+inFile+"'", "f('"+inFile+"')", 1),
		"wrong type":    strings.Replace(good, "'"+inFile+"'", "{'"+inFile+"': '"+inFile+"'}", 1),
		"cut off":       good[:strings.Index(good, inFile)+len(inFile)+1],
		"as bucket":     strings.Replace(good, "'bucket-1'", "['"+inFile+"']", 1),
		"as kind":       strings.Replace(good, ">s3<", ">"+inFile+"<", 1),
	} {
		o := importing(f.file("bad.xml", bad))
		if o.code == 0 {
			t.Errorf("a file with %s was imported", name)
		}
		if name != "as kind" { // that is no secret's place: the message must name it
			told(o)
		}
	}
	told(f.run(env, "export", "--config", f.config("admin", "admin", ""), "--tenant", "acme").ok(t),
		f.run(env, "check", "--config", f.config("sidecar", "sidecar", "")),
		f.run(env, "check", "--config", f.config("sidecar", "sidecar", "nonsense: {key: "+plant("in a wrong config")+"}")))
	metrics := s.metrics() + admin.metrics() + guarded.metrics() + s.text("/readyz?verbose")

	// An entry that Redis was too slow for is not there, and what is there ends. A
	// new sidecar writes it again.
	var redis string
	f.eventually("the Redis dump holds an answer: else the search proves nothing", func() bool {
		redis = redisDump(t, f)
		if strings.Contains(redis, "acme-prod") && strings.Contains(redis, "pb:{acme}:rev") {
			return true
		}
		another := f.serve(env...)
		ask(another, "/v1/resolve/storage", token)
		another.kill()
		return false
	})

	// Upstreams that refuse and that are gone, while a changed secret is needed.
	for _, status := range []int{http.StatusForbidden, http.StatusInternalServerError} {
		gate.refuse(status)
		changed[1] = "S3_SECRET=" + plant(fmt.Sprintf("rotated while Vault answers %d", status))
		told(importing(exampleFile(t), changed...).ok(t))
		f.eventually("the new secret can't be had", func() bool { return s.get("/v1/resolve/storage", token).code == http.StatusServiceUnavailable })
		round()
	}
	gate.before.Store(nil)
	f.vault.Do(t, "DELETE", "sys/policies/acl/"+f.reads, nil) // Vault's own 403 names the path
	changed[1] = "S3_SECRET=" + plant("rotated while Vault forbids")
	told(importing(exampleFile(t), changed...).ok(t))
	f.eventually("the new secret is forbidden", func() bool { return s.get("/v1/resolve/storage", token).code == http.StatusServiceUnavailable })
	round()
	postgres := postgresDump(t, f)
	for _, part := range []string{"acme-prod", "statement: ", "execute "} {
		if !strings.Contains(postgres, part) {
			t.Errorf("the Postgres dump holds no %q: the search proves nothing", part)
		}
	}
	for _, away := range []server{f.vault, f.redis, f.pg} {
		away.Kill()
		changed[1] = "S3_SECRET=" + plant(fmt.Sprintf("imported without %T", away))
		told(importing(exampleFile(t), changed...), f.run(env, "check", "--config", f.config("sidecar", "sidecar", "")))
		round()
	}
	f.eventually("nothing is served any more", func() bool { return s.get("/v1/resolve/storage", token).code == http.StatusServiceUnavailable })
	round()

	metrics += s.metrics() + admin.metrics()
	for _, p := range []*process{s, guarded, admin} {
		p.stop()
		if !strings.Contains(p.output(), `"level":"DEBUG"`) && p != admin {
			t.Errorf("%s logs no debug lines: the search proves nothing", p.args[0])
		}
	}
	for place, text := range map[string]string{
		"Redis": redis, "a command to Redis": commands(), "Postgres": postgres, "the metrics": metrics,
		"the sidecar's log": s.output(), "the guarded sidecar's log": guarded.output(), "the control plane's log": admin.output(),
		"what people are told": strings.Join(said, "\n"),
	} {
		for name, canary := range canaries {
			// A client must authenticate itself.
			if name == "redis password" && place == "a command to Redis" {
				continue
			}
			for form, needle := range forms(canary) {
				if at := strings.Index(text, needle); at >= 0 {
					t.Errorf("%s holds %s (%s): ...%.200q", place, name, form, text[max(0, at-100):at])
				}
			}
		}
		for what, pattern := range map[string]string{"a JWT": `eyJ[\w-]{10,}\.[\w-]+`, "a Vault token": `hv[bsr]\.[\w-]{10,}`} {
			if regexp.MustCompile(pattern).MatchString(text) {
				t.Errorf("%s holds %s", place, what)
			}
		}
	}
}

// forms are the ways in which text may hide in other text.
func forms(canary string) map[string]string {
	b := []byte(canary)
	all := map[string]string{"plain": canary, "hex": hex.EncodeToString(b), "URL": url.QueryEscape(canary)}
	for shift := range 3 { // where in the encoded text it may begin
		encoded := base64.StdEncoding.EncodeToString(append(make([]byte, shift), b...))
		// The first and the last characters depend on the neighbours.
		all[fmt.Sprintf("base64, shifted by %d", shift)] = encoded[4 : len(encoded)-4]
	}
	return all
}

// monitor records every command that Redis gets from now on. The answer returns
// them once Redis has ended.
func monitor(t *testing.T, f *fleet) (commands func() string) {
	t.Helper()
	conn, err := net.Dial("tcp", f.redis.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // Redis may have ended
	if _, err := io.WriteString(conn, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	ok := make([]byte, len("+OK\r\n"))
	if _, err := io.ReadFull(conn, ok); err != nil || string(ok) != "+OK\r\n" {
		t.Fatalf("%q %v", ok, err)
	}
	var b bytes.Buffer
	done := make(chan struct{})
	go func() { _, _ = io.Copy(&b, conn); close(done) }() // ends with Redis
	return func() string {
		<-done
		if !strings.Contains(b.String(), "acme-prod") {
			t.Error("no command filled an entry: the search proves nothing")
		}
		return b.String()
	}
}

// redisDump is every key with its value, as commands show it and as Redis writes
// it to disk.
func redisDump(t *testing.T, f *fleet) string {
	t.Helper()
	command := func(args ...string) any {
		v, err := f.redis.Command(args...)
		if err != nil {
			t.Fatal(args, err)
		}
		return v
	}
	var b strings.Builder
	cursor := "0"
	for first := true; first || cursor != "0"; first = false {
		page := command("SCAN", cursor).([]any)
		cursor = fmt.Sprint(page[0])
		for _, k := range page[1].([]any) {
			if kind := command("TYPE", fmt.Sprint(k)); kind != "string" && kind != "none" {
				t.Errorf("%v is a %v: this search knows strings only", k, kind)
			}
			fmt.Fprintf(&b, "%v %v\n", k, command("GET", fmt.Sprint(k)))
		}
	}
	command("CONFIG", "SET", "rdbcompression", "no") // compressed text is not found
	command("SAVE")
	dir := command("CONFIG", "GET", "dir").([]any)[1]
	rdb, err := os.ReadFile(filepath.Join(fmt.Sprint(dir), "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	return b.String() + string(rdb)
}

// postgresDump is every row of every table, pg_dump's text where there is one,
// and the server's own log.
func postgresDump(t *testing.T, f *fleet) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	conn := f.superuser()
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(tables) < 8 {
		t.Fatal(tables, err)
	}
	var b strings.Builder
	for _, table := range tables {
		if _, err := conn.PgConn().CopyTo(ctx, &b, "COPY "+table+" TO STDOUT"); err != nil {
			t.Fatal(err)
		}
	}
	if bin := filepath.Join(f.pg.Bin(), "pg_dump"); exists(bin) {
		out, err := exec.CommandContext(ctx, bin, "--dbname="+f.pg.URL("postgres", database(f.logins["owner"]))).Output()
		if err != nil {
			t.Fatalf("pg_dump: %v", err)
		}
		b.Write(out)
	}
	var log string
	if err := conn.QueryRow(ctx, `SELECT string_agg(pg_read_file('log/' || name), '') FROM pg_ls_logdir()`).Scan(&log); err != nil {
		t.Fatal(err)
	}
	return b.String() + log
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A program lists a bucket of a real S3 server with nothing but what it resolved.
func TestAppUsesWhatItResolved(t *testing.T) {
	t.Parallel()
	server := testenv.S3(t)
	name := fmt.Sprintf("e2e-%d", time.Now().UnixNano()) // the server is shared by repeated runs
	f := newFleet(t, options{})
	f.importFile(f.file("app.xml", `<ede><record id="t" model="gateway.tenant"><field name="key">initech</field></record>
<record id="c" model="ir.connector"><field name="name">Bucket</field><field name="kind">s3</field><field name="tenant_id" ref="t"/><field name="is_default">true</field>
<field name="config" eval="{'bucket': '`+name+`', 'region': '`+server.Region+`', 'endpoint': '`+server.Endpoint+`', 'path_style': True,
  'access_key_id': '$ENV:KEY', 'secret_access_key': '$ENV:SECRET'}"/></record></ede>`),
		"KEY="+server.AccessKeyID, "SECRET="+server.SecretAccessKey).ok(t)
	s := f.start(nil, "serve", "--config", f.config("sidecar", "sidecar", ""))
	s.ready()
	answer := s.get("/v1/resolve/storage", f.token("initech", ""))
	if answer.code != http.StatusOK {
		t.Fatalf("%d %s", answer.code, answer.body)
	}
	c := answer.Config
	text := func(name string) string { v, _ := c[name].(string); return v }
	pathStyle, _ := c["path_style"].(bool)
	client := s3.New(s3.Options{
		Region: text("region"), BaseEndpoint: aws.String(text("endpoint")), UsePathStyle: pathStyle,
		Credentials: credentials.NewStaticCredentialsProvider(text("access_key_id"), text("secret_access_key"), text("session_token")),
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	bucket := aws.String(text("bucket"))
	if _, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("hello"), Body: strings.NewReader("world")}); err != nil {
		t.Fatal(err)
	}
	list, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket})
	if err != nil || len(list.Contents) != 1 || aws.ToString(list.Contents[0].Key) != "hello" {
		t.Fatalf("%v %v", list, err)
	}
}

// Behind a pooler in transaction mode a session's settings belong to nobody:
// many tenants share two connections, cold, changing and all at once, and each
// gets its own.
func TestBehindPgBouncer(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	pooler := testenv.PgBouncer(t, f.pg, 2)
	for _, login := range []string{"sidecar", "admin"} {
		f.logins[login] = pooler.Through(t, f.logins[login])
	}
	f.control()
	const tenants, writes = 12, 4
	pairs := make([]*pair, tenants)
	for i := range pairs {
		pairs[i] = &pair{f: f, tenant: fmt.Sprintf("t%d", i), token: f.token(fmt.Sprintf("t%d", i), "hq")}
	}
	file := func(n int) string {
		var records strings.Builder
		for _, p := range pairs {
			records.WriteString(strings.NewReplacer("<patchbay><data>", "", "</data></patchbay>", "").Replace(
				strings.ReplaceAll(bucketFile(p.tenant, n), "'AK'", "'AK-"+p.tenant+"'")))
		}
		return f.file("all.xml", "<patchbay>"+records.String()+"</patchbay>")
	}
	f.importFile(file(0)).ok(t)
	s := f.serve()
	for n := range writes {
		if n > 0 {
			f.importFile(file(n)).ok(t)
		}
		var wg sync.WaitGroup
		for _, p := range pairs {
			minimum := fmt.Sprintf("X-Patchbay-Min-Revision: %d", f.revision(p.tenant))
			for range 4 {
				wg.Go(func() {
					a, err := s.try("/v1/resolve/storage", p.token, minimum)
					if err != nil || a.code != http.StatusOK || a.Config["access_key_id"] != "AK-"+p.tenant {
						t.Errorf("%s: %d %s %v", p.tenant, a.code, a.body, err)
						return
					}
					if got, err := number(a); err != nil || got != n {
						t.Errorf("%s: %d instead of %d: %v", p.tenant, got, n, err)
					}
				})
			}
		}
		wg.Wait()
	}
	if n := s.metric("patchbay_database_reads_total"); n < tenants*writes {
		t.Errorf("%v database reads: the pooler was hardly asked", n)
	}
}
