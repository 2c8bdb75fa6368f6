package e2e

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

// Planted secrets are searched for wherever data or text comes to rest.
func TestNoSecretComesToRest(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{level: "debug"})
	canaries := map[string]string{}
	var variables []string
	for _, v := range exampleVariables {
		name, _, _ := strings.Cut(v, "=")
		canaries[name] = "CANARY-" + strings.ReplaceAll(name, "_", "-") + "-5f1c"
		variables = append(variables, name+"="+canaries[name])
	}
	admin := f.control()
	plan := f.importFile(exampleFile(t), variables...).ok(t)
	s := f.serve()
	token, globex := f.token("acme", "acme"), f.token("globex", "globex")
	canaries["token"], canaries["token of globex"] = token, globex
	for name, r := range f.approles {
		canaries["secret id of "+name] = r.SecretID
	}
	// Traffic that succeeds, and traffic that fails in every way at hand.
	for _, path := range []string{"/v1/resolve/storage", "/v1/resolve/email", "/v1/resolve", "/v1/env", "/v1/resolve/nonsense", "/v1/nonsense", "/v1/connectors/x?" + canaries["S3_SECRET"]} {
		s.get(path, token)
		s.get(path, globex)
		s.get(path, token+"x")
	}
	if a := s.get("/v1/resolve/storage", token); a.Config["secret_access_key"] != canaries["S3_SECRET"] {
		t.Fatalf("%s", a.body)
	}
	changed := append([]string{}, variables...)
	canaries["rotated"] = "CANARY-ROTATED-77aa"
	changed[1] = "S3_SECRET=" + canaries["rotated"]
	replan := f.importFile(exampleFile(t), changed...).ok(t)
	bad := f.importFile(f.file("bad.xml", strings.Replace(bucketFile("initech", 1), "'region': 'us-east-1'", "'regoin': 'us-east-1'", 1)))
	if bad.code == 0 {
		t.Error("a wrong file was imported")
	}
	canaries["value in a wrong file"] = "secret-1"
	export := f.run(nil, "export", "--config", f.config("admin", "admin", ""), "--tenant", "acme").ok(t)
	f.within(time.Second, "the rotated secret is served", func() bool {
		return s.get("/v1/resolve/storage", token).Config["secret_access_key"] == canaries["rotated"]
	})
	metrics := s.metrics() + admin.metrics()
	redis := redisDump(t, f)
	if !strings.Contains(redis, "acme-prod") {
		t.Error("the Redis dump holds no entry: the search proves nothing")
	}
	postgres := postgresDump(t, f)
	if !strings.Contains(postgres, "acme-prod") {
		t.Error("the Postgres dump holds no record: the search proves nothing")
	}
	s.stop()
	admin.stop()
	if !strings.Contains(s.output(), `"level":"DEBUG"`) {
		t.Error("the log has no debug lines: the search proves nothing")
	}
	for place, text := range map[string]string{
		"Redis": redis, "Postgres": postgres, "the sidecar's log": s.output(), "the control plane's log": admin.output(),
		"the metrics": metrics, "the import's output": plan.out + plan.err + replan.out + replan.err, "an import's error": bad.out + bad.err,
		"the export": export.out + export.err,
	} {
		for name, canary := range canaries {
			for form, needle := range map[string]string{"plain": canary, "hex": hex.EncodeToString([]byte(canary))} {
				if strings.Contains(text, needle) {
					t.Errorf("%s holds %s (%s)", place, name, form)
				}
			}
		}
		if jwt := regexp.MustCompile(`eyJ[\w-]{10,}\.[\w-]+`).FindString(text); jwt != "" {
			t.Errorf("%s holds a JWT", place)
		}
	}
}

// redisDump is every key with its type and value.
func redisDump(t *testing.T, f *fleet) string {
	t.Helper()
	keys, err := f.redis.Command("KEYS", "*")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, k := range keys.([]any) {
		key := fmt.Sprint(k)
		dump, err := f.redis.Command("DUMP", key)
		if err != nil {
			t.Fatal(err)
		}
		value, _ := f.redis.Command("GET", key) // of strings; the dump has the others
		fmt.Fprintf(&b, "%s %v %v\n", key, value, dump)
	}
	return b.String()
}

// postgresDump is every row of every table, and pg_dump's text where there is one.
func postgresDump(t *testing.T, f *fleet) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	superuser := f.pg.URL("postgres", database(f.logins["owner"]))
	conn, err := pgx.Connect(ctx, superuser)
	if err != nil {
		t.Fatal(err)
	}
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
		out, err := exec.CommandContext(ctx, bin, "--dbname="+superuser).Output()
		if err != nil {
			t.Fatalf("pg_dump: %v", err)
		}
		b.Write(out)
	}
	return b.String()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A program lists a bucket of a real S3 server with nothing but what it resolved.
func TestAppUsesWhatItResolved(t *testing.T) {
	t.Parallel()
	server := testenv.S3(t)
	f := newFleet(t, options{})
	f.importFile(f.file("app.xml", `<ede><record id="t" model="gateway.tenant"><field name="key">initech</field></record>
<record id="c" model="ir.connector"><field name="name">Bucket</field><field name="kind">s3</field><field name="tenant_id" ref="t"/><field name="is_default">true</field>
<field name="config" eval="{'bucket': 'e2e-app', 'region': '`+server.Region+`', 'endpoint': '`+server.Endpoint+`', 'path_style': True,
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

// Behind a pooler in transaction mode a session's settings belong to nobody.
func TestBehindPgBouncer(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	f.importFile(exampleFile(t), exampleVariables...).ok(t)
	pooler := testenv.PgBouncer(t, f.pg, 1)
	f.logins["sidecar"] = pooler.Through(t, f.logins["sidecar"])
	s := f.serve()
	for range 20 {
		for tenant, want := range map[string]string{"acme": "acme-prod", "globex": "globex-data"} {
			a := s.get("/v1/resolve/storage", f.token(tenant, tenant))
			if a.code != http.StatusOK || a.Config["bucket"] != want {
				t.Fatalf("%s: %d %s", tenant, a.code, a.body)
			}
		}
		if _, err := f.redis.Command("FLUSHALL"); err != nil { // so that Postgres is asked again
			t.Fatal(err)
		}
	}
}
