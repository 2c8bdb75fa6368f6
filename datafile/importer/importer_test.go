package importer_test

import (
	"bytes"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/examples"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

func exampleCase(t *testing.T, w *world) {
	r := w.apply(string(examples.Acme), importer.Options{})
	if r.Created != 8 || r.Updated+r.Unchanged+r.Skipped != 0 || len(r.Revisions) != 2 {
		t.Errorf("result %+v", r)
	}
	for _, row := range []struct {
		tenant    tenant.ID
		org       string
		category  providers.Category
		want      string
		inherited bool
	}{
		{acme, "acme", providers.Storage, "connector_acme_s3", false},
		{acme, "acme", providers.Email, "connector_acme_smtp", true},
		{acme, "acme_labs", providers.Email, "connector_acme_smtp", true},
		{acme, "acme_labs", providers.Storage, "", false},
		{globex, "globex", providers.Storage, "connector_globex_s3", false},
		{globex, "globex", providers.Email, "", false},
	} {
		s, err := w.store.Tenant(row.tenant).Default(t.Context(), tenant.MustOrganizationID(row.org), row.category)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if s.Connector != nil {
			got = s.Connector.ExternalID
		}
		if got != row.want || got != "" && s.Inherited != row.inherited {
			t.Errorf("%s/%s %s: got %q inherited %v", row.tenant, row.org, row.category, got, s.Inherited)
		}
	}
	c := w.connector(acme, "connector_acme_s3")
	if c.Params["bucket"].Value != "acme-prod" || c.Params["bucket"].Writer != connector.WriterImport || c.State != connector.StateUntested || !c.Active {
		t.Errorf("connector %+v", c)
	}
	if _, inParams := c.Params["secret_access_key"]; inParams {
		t.Error("a secret is among the params")
	}
	want := secret.Map{"access_key_id": secret.New("canary-s3-key"), "secret_access_key": secret.New("canary-s3-secret")}
	if !w.secrets(acme, c).Equal(want) {
		t.Error("the secrets are not those of the environment")
	}

	before, bundles := w.revision(acme), w.alive(acme)
	p := w.plan(string(examples.Acme), importer.Options{})
	if p.Changed() {
		t.Errorf("the same file again changes something:\n%s", p)
	}
	again, err := w.im.Apply(t.Context(), p)
	if err != nil || again.Unchanged != 8 || again.Revisions != nil {
		t.Errorf("result %+v, %v", again, err)
	}
	if w.revision(acme) != before || w.alive(acme) != bundles {
		t.Error("the same file again moved the revision or wrote a secret")
	}
}

func rotationCase(t *testing.T, w *world) {
	w.apply(string(examples.Acme), importer.Options{})
	old, globexBefore := w.connector(acme, "connector_acme_s3"), w.revision(globex)
	w.env["S3_SECRET"] = "canary-rotated"
	p := w.plan(string(examples.Acme), importer.Options{})
	if got := p.String(); !strings.Contains(got, "update     connector connector_acme_s3 [storage s3, organization acme]: secret_access_key\n") {
		t.Errorf("plan:\n%s", got)
	}
	if _, err := w.im.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	c := w.connector(acme, "connector_acme_s3")
	if c.Pin == old.Pin || c.Secrets["secret_access_key"].Version != 2 || c.Secrets["access_key_id"].Version != 1 {
		t.Errorf("pin or versions: %+v", c)
	}
	if !w.secrets(acme, c)["secret_access_key"].Equal(secret.New("canary-rotated")) || !w.secrets(acme, c)["access_key_id"].Equal(secret.New("canary-s3-key")) {
		t.Error("the new map is not the whole one")
	}
	// A rollback still finds the old map.
	if !w.secrets(acme, old)["secret_access_key"].Equal(secret.New("canary-s3-secret")) {
		t.Error("the old map changed")
	}
	if w.revision(globex) != globexBefore {
		t.Error("a tenant that did not change got a new revision")
	}
}

func TestThreeWayMerge(t *testing.T) {
	t.Parallel()
	other := strings.Replace(plainS3, "'one'", "'two'", 1)
	for _, row := range []struct {
		name     string
		edit     func(w *world)
		file     string
		force    bool
		conflict string // name, "" for none
		bucket   any
		secret   string
		changed  bool
	}{
		{"only the file changed", func(*world) {}, other, false, "", "two", "canary-s3-secret", true},
		{"only the store changed", func(w *world) { w.edit(acme, "bucket", editParam("bucket", "api")) }, plainS3, false, "", "api", "canary-s3-secret", false},
		{"only the store changed, forced", func(w *world) { w.edit(acme, "bucket", editParam("bucket", "api")) }, plainS3, true, "", "api", "canary-s3-secret", false},
		{"both changed", func(w *world) { w.edit(acme, "bucket", editParam("bucket", "api")) }, other, false, "bucket", "api", "canary-s3-secret", false},
		{"both changed to the same", func(w *world) { w.edit(acme, "bucket", editParam("bucket", "two")) }, other, false, "", "two", "canary-s3-secret", true},
		{"both changed, forced", func(w *world) { w.edit(acme, "bucket", editParam("bucket", "api")) }, other, true, "", "two", "canary-s3-secret", true},
		{"only the stored secret changed", func(w *world) { w.editSecret(acme, "bucket", "secret_access_key", "canary-api") }, plainS3, false, "", "one", "canary-api", false},
		{"both secrets changed", func(w *world) {
			w.editSecret(acme, "bucket", "secret_access_key", "canary-api")
			w.env["S3_SECRET"] = "canary-file"
		}, plainS3, false, "secret_access_key", "one", "canary-api", false},
		{"both secrets changed, forced", func(w *world) {
			w.editSecret(acme, "bucket", "secret_access_key", "canary-api")
			w.env["S3_SECRET"] = "canary-file"
		}, plainS3, true, "", "one", "canary-file", true},
		{"the API added what the file lacks", func(w *world) {
			w.edit(acme, "bucket", editParam("prefix", "api/"))
		}, plainS3, false, "", "one", "canary-s3-secret", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.apply(s3("", plainS3), importer.Options{})
			row.edit(w)
			before, bundles := w.revision(acme), w.alive(acme)
			p := w.plan(s3("", row.file), importer.Options{Force: row.force})
			_, err := w.im.Apply(t.Context(), p)
			if row.conflict != "" {
				if !errors.Is(err, fault.Conflict) || len(p.Conflicts()) != 1 || !strings.Contains(p.Conflicts()[0].Message, row.conflict) || p.Conflicts()[0].Line != 7 {
					t.Errorf("got %v, conflicts %v", err, p.Conflicts())
				}
				if !strings.Contains(p.String(), "conflict: f.xml:7:") {
					t.Errorf("plan:\n%s", p)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if moved := w.revision(acme) != before; moved != row.changed {
				t.Errorf("revision moved: %v\n%s", moved, p)
			}
			if !row.changed && w.alive(acme) != bundles {
				t.Error("a secret was written")
			}
			c := w.connector(acme, "bucket")
			if c.Params["bucket"].Value != row.bucket || !w.secrets(acme, c)["secret_access_key"].Equal(secret.New(row.secret)) {
				t.Errorf("bucket %v, or another secret", c.Params["bucket"].Value)
			}
		})
	}
}

// A param that was cleared by hand: the same file does not bring it back.
func TestClearedParam(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	without := strings.Replace(plainS3, "'region': 'eu', ", "", 1)
	other := strings.Replace(plainS3, "'eu'", "'us'", 1)
	if without == plainS3 || other == plainS3 {
		t.Fatalf("the plain config has another region: %s", plainS3)
	}
	w.apply(s3("", plainS3), importer.Options{})
	w.edit(acme, "bucket", clearParam("region"))
	before := w.revision(acme)
	w.apply(s3("", plainS3), importer.Options{})
	if w.revision(acme) != before {
		t.Error("the same file changes something")
	}
	if region := w.connector(acme, "bucket").Params["region"]; region.Value != nil || region.Imported != "eu" {
		t.Errorf("the same file brings it back: %+v", region)
	}
	f, err := w.im.Export(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := datafile.WriteXML(&b, f); err != nil || strings.Contains(b.String(), "region") {
		t.Errorf("the export has it: %v\n%s", err, b.String())
	}
	p := w.plan(s3("", other), importer.Options{})
	if _, err := w.im.Apply(t.Context(), p); !errors.Is(err, fault.Conflict) {
		t.Errorf("another value: %v\n%s", err, p)
	}
	// Gone from the file too: nothing is remembered, so that it may come again.
	w.apply(s3("", without), importer.Options{})
	if region, has := w.connector(acme, "bucket").Params["region"]; has {
		t.Errorf("gone from both: %+v", region)
	}
	w.apply(s3("", plainS3), importer.Options{})
	if region := w.connector(acme, "bucket").Params["region"]; region.Value != "eu" {
		t.Errorf("in the file again: %+v", region)
	}
	w.edit(acme, "bucket", clearParam("region"))
	w.apply(s3("", other), importer.Options{Force: true})
	if region := w.connector(acme, "bucket").Params["region"]; region.Value != "us" || region.Writer != connector.WriterImport {
		t.Errorf("forced: %+v", region)
	}
}

// So is a secret, the last one too: what the import brought lies under the pin,
// which outlives it.
func TestClearedSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mail := func(param string) string {
		return strings.Replace(s3("", plainS3), "</patchbay>", `<record id="mail" model="ir.connector"><field name="kind">smtp</field><field name="config" eval="{`+param+`'host': 'a.example', 'password': '$ENV:SMTP_PASSWORD'}"/></record></patchbay>`, 1)
	}
	cleared := func(doing string) {
		t.Helper()
		if c := w.connector(acme, "mail"); len(c.Secrets) != 0 || c.Pin.IsZero() || len(w.secrets(acme, c)) != 0 {
			t.Errorf("%s: %v under pin %q", doing, c.Secrets, c.Pin)
		}
	}
	w.apply(mail(""), importer.Options{})
	c := w.connector(acme, "mail")
	b, err := w.vault.Read(t.Context(), connector.SecretRef{Tenant: acme, Connector: c.ID, Pin: c.Pin})
	if err != nil || !b.Values["password"].IsSet() || b.Imported["password"] == "" {
		t.Fatalf("nothing to clear: %v %v", b.Values.Names(), err)
	}
	b.Values, c.Pin = nil, vault.NewPin()
	if err := w.vault.Write(t.Context(), connector.SecretRef{Tenant: acme, Connector: c.ID, Pin: c.Pin}, b); err != nil {
		t.Fatal(err)
	}
	w.edit(acme, "mail", func(next *connector.Connector) { next.Secrets, next.Pin = nil, c.Pin })
	before := w.revision(acme)
	w.apply(mail(""), importer.Options{})
	if cleared("the same file"); w.revision(acme) != before {
		t.Error("the same file changes something")
	}
	w.edit(acme, "mail", editParam("helo", "h"))
	w.apply(mail("'from': 'a@a.example', "), importer.Options{})
	cleared("another param")
	w.apply(mail("'from': 'b@a.example', "), importer.Options{})
	cleared("and another")
	w.env["SMTP_PASSWORD"] = "canary-next"
	if _, err := w.im.Apply(t.Context(), w.plan(mail(""), importer.Options{})); !errors.Is(err, fault.Conflict) {
		t.Errorf("another secret: %v", err)
	}
	w.apply(mail(""), importer.Options{Force: true})
	if c := w.connector(acme, "mail"); !w.secrets(acme, c)["password"].Equal(secret.New("canary-next")) {
		t.Error("forced, and not there")
	}
}

func TestRemovedFromFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	with := strings.Replace(plainS3, "'region'", "'prefix': 'p/', 'session_token': 'x', 'region'", 1)
	w.apply(s3("", with), importer.Options{})
	w.apply(s3("", plainS3), importer.Options{})
	c := w.connector(acme, "bucket")
	if _, has := c.Params["prefix"]; has {
		t.Error("a param that left the file is still there")
	}
	if _, has := w.secrets(acme, c)["session_token"]; has || len(c.Secrets) != 2 {
		t.Error("a secret that left the file is still there")
	}
}

func TestNoUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wrap := func(s string) string {
		return strings.Replace(strings.Replace(s, "<patchbay>", `<patchbay><data noupdate="1">`, 1), "</patchbay>", "</data></patchbay>", 1)
	}
	w.apply(wrap(s3("", plainS3)), importer.Options{})
	before := w.revision(acme)
	r := w.apply(wrap(strings.Replace(s3(`<field name="is_default">1</field>`, strings.Replace(plainS3, "one", "two", 1)), "Bucket", "Renamed", 1)), importer.Options{})
	if r.Unchanged != 3 || w.revision(acme) != before {
		t.Errorf("noupdate updated: %+v", r)
	}
	if c := w.connector(acme, "bucket"); c.Default || c.Name != "Bucket" || !c.NoUpdate {
		t.Errorf("%+v", c)
	}
}

func deletedCase(t *testing.T, w *world) {
	w.apply(s3("", plainS3), importer.Options{})
	id := w.connector(acme, "bucket").ID
	w.edit(acme, "bucket", func(c *connector.Connector) { c.DeletedAt = c.UpdatedAt.Add(1) })
	before := w.revision(acme)
	if r := w.apply(s3("", plainS3), importer.Options{}); r.Skipped != 1 || w.revision(acme) != before {
		t.Errorf("result %+v", r)
	}
	p := w.plan(s3("", plainS3), importer.Options{})
	if !strings.Contains(p.String(), "skip       connector bucket") || !strings.Contains(p.String(), "--restore") {
		t.Errorf("plan:\n%s", p)
	}
	r := w.apply(s3(`<field name="is_default">1</field>`, plainS3), importer.Options{Restore: true})
	c := w.connector(acme, "bucket")
	if r.Updated != 1 || c.ID != id || !c.DeletedAt.IsZero() || !c.Default {
		t.Errorf("result %+v, connector %+v", r, c)
	}
}

func defaultCase(t *testing.T, w *world) {
	w.apply(s3(`<field name="is_default">true</field>`, plainS3), importer.Options{})
	second := strings.ReplaceAll(s3(`<field name="is_default">true</field>`, plainS3), `id="bucket"`, `id="second"`)
	p := w.plan(second, importer.Options{})
	if !strings.Contains(p.String(), "storage of organization acme: second replaces bucket") {
		t.Errorf("plan:\n%s", p)
	}
	if _, err := w.im.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if w.connector(acme, "bucket").Default || !w.connector(acme, "second").Default {
		t.Error("the default did not move")
	}

	// Both in one file, the flag moving back, with the old one edited as well.
	record := func(id, region, isDefault string) string {
		s := strings.TrimPrefix(s3(`<field name="is_default">`+isDefault+`</field>`, strings.Replace(plainS3, "'eu'", "'"+region+"'", 1)), header)
		return strings.TrimSuffix(strings.Replace(s, `"bucket"`, `"`+id+`"`, 1), "</patchbay>")
	}
	swap := header + record("second", "us", "false") + record("bucket", "eu", "true") + "</patchbay>"
	w.apply(swap, importer.Options{})
	if !w.connector(acme, "bucket").Default || w.connector(acme, "second").Default || w.connector(acme, "second").Params["region"].Value != "us" {
		t.Error("the swap inside of a file went wrong")
	}
	if p := w.plan(swap, importer.Options{}); p.Changed() {
		t.Errorf("the swap again changes something:\n%s", p)
	}
	w.refuses(header+strings.Replace(record("bucket", "eu", "true"), `<field name="is_default">true</field>`, "\n<field name=\"active\">0</field>", 1)+"</patchbay>",
		importer.Options{}, `f.xml:7:1: record "bucket": this connector is the default; give another one is_default, or this one is_default false`)
}

func staleCase(t *testing.T, w *world) {
	text := s3(`<field name="is_default">true</field>`, plainS3)
	first, second := w.plan(text, importer.Options{}), w.plan(text, importer.Options{})
	if _, err := w.im.Apply(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	before := w.revision(acme)
	r, err := w.im.Apply(t.Context(), second)
	if err != nil || r.Unchanged != 3 || w.revision(acme) != before {
		t.Errorf("the second import of the same: %+v, %v", r, err)
	}
	if n := w.alive(acme); n != 1 {
		t.Errorf("%d bundles are alive; the refused import's must be deleted", n)
	}

	w.env["S3_SECRET"] = "canary-new"
	p := w.plan(text, importer.Options{})
	w.edit(acme, "bucket", editParam("prefix", "api/"))
	if _, err := w.im.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	c := w.connector(acme, "bucket")
	if c.Params["prefix"].Value != "api/" || !w.secrets(acme, c)["secret_access_key"].Equal(secret.New("canary-new")) {
		t.Error("one of two concurrent changes was lost")
	}
}

func rowsCase(t *testing.T, w *world) {
	row := func(id, key, value, sequence string) string {
		return `<record id="` + id + `" model="ir.connector.param"><field name="connector_id" ref="ir.connector.mail"/><field name="key">` + key +
			`</field><field name="value">` + value + `</field><field name="sequence">` + sequence + `</field><field name="is_secret">False</field><field name="value_type">text</field></record>`
	}
	file := `<ede_data>` + row("p1", "host", "late.example", "20") + row("p2", "host", "early.example", "10") + row("p3", "port", "465", "1") + row("p4", "password", "$ENV:SMTP_PASSWORD", "2") + `
<record id="mail" model="ir.connector"><field name="provider_type">smtp</field><field name="is_enabled">TRUE</field><field name="status">connected</field><field name="tenant_id">acme</field></record>
<record id="acme" model="gateway.tenant"><field name="company_name">Acme Corporation</field><field name="pool_id">7</field></record></ede_data>`
	w.apply(file, importer.Options{})
	c := w.connector(acme, "mail")
	if c.Params["host"].Value != "late.example" || c.Params["port"].Value != int64(465) || c.State != connector.StateUntested || !c.Organization.IsZero() {
		t.Errorf("%+v", c)
	}
	if !w.secrets(acme, c)["password"].Equal(secret.New("canary-smtp")) {
		t.Error("the schema did not make the password a secret")
	}
	if p := w.plan(file, importer.Options{}); p.Changed() {
		t.Errorf("again:\n%s", p)
	}
	// Rows alone change what they name, and nothing else.
	w.apply("<ede>"+strings.Replace(row("p9", "from", "late@acme.example", "1"), "ir.connector.mail", "mail", 1)+"</ede>", importer.Options{Tenant: acme})
	c = w.connector(acme, "mail")
	if c.Params["from"].Value != "late@acme.example" || c.Params["port"].Value != int64(465) || c.Params["host"].Value != "late.example" || len(c.Secrets) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestCSVImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(header+"</patchbay>", importer.Options{})
	f := w.parse("ir.connector.csv", "id,name,provider_type,organization_id/id,is_default,config\nbucket,Bucket,aws_s3,res.organization.acme,1,\""+plainS3+"\"\n")
	p, err := w.im.Plan(t.Context(), f, importer.Options{Tenant: acme})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.im.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if c := w.connector(acme, "bucket"); c.Kind != "s3" || c.Organization != acmeOrg || !c.Default {
		t.Errorf("%+v", c)
	}
}

func TestReferencesAreLiteralOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["PASSWORD"], w.env["PORT"] = "$ENV:S3_SECRET", "2525"
	w.files["conf/secret"] = "from a file\n"
	mail := `<record id="mail" model="ir.connector"><field name="kind">smtp</field><field name="config" eval="{'host': '$FILE:/etc/host', 'port': '$ENV:PORT', 'username': '$$ENV:LITERAL', 'password': '$ENV:PASSWORD'}"/></record></patchbay>`
	w.files["/etc/host"] = "mail.example\n"
	f := w.parse("conf/f.xml", strings.Replace(s3("", strings.Replace(plainS3, "$ENV:S3_SECRET", "$FILE:secret", 1)), "</patchbay>", mail, 1))
	p, err := w.im.Plan(t.Context(), f, importer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.im.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	c := w.connector(acme, "mail")
	got := map[string]any{}
	for k, v := range c.Params {
		got[k] = v.Value
	}
	if want := (map[string]any{"host": "mail.example", "port": int64(2525), "username": "$ENV:LITERAL"}); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if s := w.secrets(acme, c); !s["password"].Equal(secret.New("$ENV:S3_SECRET")) {
		t.Error("a value was expanded twice")
	}
	if s := w.secrets(acme, w.connector(acme, "bucket")); !s["secret_access_key"].Equal(secret.New("from a file")) {
		t.Error("the file's secret is another one")
	}

	// What comes out goes in again.
	exported, err := w.im.Export(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	w.env["BUCKET_ACCESS_KEY_ID"], w.env["BUCKET_SECRET_ACCESS_KEY"] = w.env["S3_KEY"], "from a file"
	w.env["MAIL_PASSWORD"] = "$ENV:S3_SECRET"
	p, err = w.im.Plan(t.Context(), exported, importer.Options{})
	if err != nil || p.Changed() {
		t.Errorf("%v\n%s", err, p)
	}
}

func exportCase(t *testing.T, w *world) {
	w.apply(string(examples.Acme), importer.Options{})
	for external, vars := range map[string]map[string]string{
		"connector_acme_s3":   {"CONNECTOR_ACME_S3_ACCESS_KEY_ID": "S3_KEY", "CONNECTOR_ACME_S3_SECRET_ACCESS_KEY": "S3_SECRET"},
		"connector_acme_smtp": {"CONNECTOR_ACME_SMTP_PASSWORD": "SMTP_PASSWORD"},
	} {
		w.connector(acme, external)
		for placeholder, variable := range vars {
			w.env[placeholder] = w.env[variable]
		}
	}
	// One that the API made: no external id, and an external id is not invented.
	w.edit(acme, "connector_acme_smtp", func(c *connector.Connector) { c.BlockPinned = true })
	f, err := w.im.Export(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	for name, write := range map[string]func(*bytes.Buffer) error{
		"f.xml":  func(b *bytes.Buffer) error { return datafile.WriteXML(b, f) },
		"f.yaml": func(b *bytes.Buffer) error { return datafile.WriteYAML(b, f) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "canary") {
			t.Errorf("the export holds a secret:\n%s", b.String())
		}
		p, err := w.im.Plan(t.Context(), w.parse(name, b.String()), importer.Options{})
		if err != nil {
			t.Fatalf("%v\n%s", err, b.String())
		}
		if p.Changed() {
			t.Errorf("%s: importing the export changes something:\n%s\n%s", name, p, b.String())
		}

		fresh := w.fresh()
		fresh.env = w.env
		p, err = fresh.im.Plan(t.Context(), fresh.parse(name, b.String()), importer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fresh.im.Apply(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		again, err := fresh.im.Export(t.Context(), acme)
		if err != nil {
			t.Fatal(err)
		}
		var c bytes.Buffer
		if err := datafile.WriteYAML(&c, again); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		if err := datafile.WriteYAML(&b, f); err != nil {
			t.Fatal(err)
		}
		if c.String() != b.String() {
			t.Errorf("a fresh store exports another file:\n%s\n%s", b.String(), c.String())
		}
	}
}
