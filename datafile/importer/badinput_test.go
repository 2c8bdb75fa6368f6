package importer_test

import (
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Each row is a file that must be refused with exactly these problems, each at
// its line, and leave nothing behind.
func TestBadInput(t *testing.T) {
	t.Parallel()
	bucket := func(id, fields string) string {
		return "\n<record id=\"" + id + "\" model=\"ir.connector\"><field name=\"kind\">s3</field>\n" + fields + "</record>"
	}
	good := `<field name="config" eval="` + plainS3 + `"/>`
	ofAcme := `<field name="organization_id">acme</field>`
	end := "</patchbay>"
	for _, row := range []struct {
		name, file string
		options    importer.Options
		want       []string
	}{
		{"unknown model", header + `<record id="x" model="ir.conector"/>` + end, importer.Options{},
			[]string{`f.xml:3:1: record "x": unknown model "ir.conector"; did you mean "ir.connector"?`}},
		{"unknown field", header + bucket("b", `<field name="activ">1</field>`+good) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": unknown field "activ" of ir.connector; did you mean "active"?`}},
		{"unknown kind", header + strings.Replace(bucket("b", good), ">s3<", ">s33<", 1) + end, importer.Options{},
			[]string{`f.xml:4:37: record "b": unknown kind "s33"; did you mean "s3"?`}},
		{"no kind", header + `<record id="b" model="ir.connector"/>` + end, importer.Options{},
			[]string{`f.xml:3:1: record "b": kind is missing`}},
		{"unknown category", header + bucket("b", `<field name="category">storrage</field>`+good) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": unknown category "storrage"; did you mean "storage"?`}},
		{"category of another kind", header + bucket("b", `<field name="category">email</field>`+good) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": kind s3 is of category storage, not email`}},
		{"missing and empty variables, all at once", header + bucket("b", `<field name="config" eval="{'bucket': 'one', 'access_key_id': '$ENV:NO_KEY', 'secret_access_key': '$ENV:EMPTY'}"/>`) +
			bucket("c", `<field name="config" eval="{'bucket': 'one', 'access_key_id': '$ENV:S3_KEY', 'secret_access_key': '$FILE:nowhere'}"/>`) + end, importer.Options{},
			[]string{`f.xml:5:46: record "b": the environment variable NO_KEY is not set`, `f.xml:5:78: record "b": the environment variable EMPTY is set but empty`, `f.xml:7:78: record "c": the file nowhere can't be read`}},
		{"references in other fields", header + bucket("b", `<field name="name">$ENV:NO_NAME</field><field name="active">$ENV:NO_ACTIVE</field>
<field name="organization_id">$ENV:NO_ORG</field>`+good) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": the environment variable NO_NAME is not set`, `f.xml:5:40: record "b": the environment variable NO_ACTIVE is not set`, `f.xml:6:1: record "b": the environment variable NO_ORG is not set`}},
		{"names of several lines, and too long", header + bucket("b", `<field name="name">$ENV:LINES</field>`+good) + bucket("c", `<field name="name">`+strings.Repeat("é", 256)+`</field>`+good) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": name must be one line without control characters`, `f.xml:7:1: record "c": name must have at most 255 characters`}},
		{"the right record is named", header + `<record id="b" model="ir.connector"><field name="kind">s3</field></record>
<record id="p1" model="ir.connector.param"><field name="connector_id">b</field><field name="key">bucket</field><field name="value">one</field></record>
<record id="p2" model="ir.connector.param"><field name="connector_id">b</field><field name="key">config.path.style</field><field name="value">maybe</field></record>
<record id="p3" model="ir.connector.param"><field name="connector_id">b</field><field name="key">acces_key_id</field><field name="value">x</field></record>` + end, importer.Options{},
			[]string{`f.xml:4:1: record "p1": secret "access_key_id": is required`, `f.xml:4:1: record "p1": secret "secret_access_key": is required`, `f.xml:5:80: record "p2": param "path_style": must be true or false`, `f.xml:6:80: record "p3": param "acces_key_id": is unknown; did you mean "access_key_id"?`}},
		{"row of a stored connector of no tenant", `<ede><record id="p" model="ir.connector.param"><field name="connector_id">b</field><field name="key">x</field></record></ede>`, importer.Options{},
			[]string{`f.xml:1:48: record "p": connector_id refers to no connector of the file; for a stored one use --tenant`}},
		{"row of connectors of several tenants", `<ede><record id="acme" model="gateway.tenant"/><record id="globex" model="gateway.tenant"/>` + bucket("b", `<field name="tenant_id">acme</field>`+good) + bucket("b", `<field name="tenant_id">globex</field>`+good) + `
<record id="p" model="ir.connector.param"><field name="connector_id">b</field><field name="key">prefix</field></record></ede>`, importer.Options{},
			[]string{`f.xml:6:43: record "p": connector_id refers to connectors of several tenants; put them into files of their own`}},
		{"same record twice", header + bucket("b", good) + bucket("b", good) + end, importer.Options{},
			[]string{`f.xml:6:1: record "b": this record id is given twice, first at line 4`}},
		{"same tenant twice", header + `<record id="t2" model="gateway.tenant"><field name="key">acme</field></record>` + end, importer.Options{Tenant: acme},
			[]string{`f.xml:3:1: record "t2": this tenant is given twice, first at line 1`}},
		{"two defaults", header + bucket("b", ofAcme+`<field name="is_default">1</field>`+good) + bucket("c", ofAcme+`<field name="is_default">TRUE</field>`+good) + end, importer.Options{},
			[]string{`f.xml:7:43: record "c": a second default of the same organization and category; the first is "b" at line 5`}},
		{"default but not active", header + bucket("b", `<field name="is_default">1</field><field name="is_enabled">False</field>`+good) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": a default must be active`}},
		{"dangling organization", header + bucket("b", `<field name="organization_id" ref="res.organization.nobody"/>`+good) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": organization nobody does not exist in tenant acme; declare it, or use --create-organizations`}},
		{"dangling connector", header + `<record id="p" model="ir.connector.param"><field name="connector_id" ref="nobody"/><field name="key">x</field></record>` + end, importer.Options{},
			[]string{`f.xml:3:43: record "p": connector_id refers to no known connector`}},
		{"malformed organization", header + bucket("b", `<field name="organization_id" ref="Not an id"/>`+good) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": organization_id refers to no known organization`}},
		{"wrong types", header + bucket("b", `<field name="is_default">maybe</field><field name="name" eval="7"/>
<field name="config" eval="{'bucket': 7,
 'path_style': 'true', 'access_key_id': '$ENV:S3_KEY', 'secret_access_key': ['x']}"/>`) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": is_default must be true or false`, `f.xml:5:39: record "b": name must be text`, `f.xml:6:29: record "b": param "bucket": must be text`, `f.xml:7:2: record "b": param "path_style": must be true or false`, `f.xml:7:56: record "b": param "secret_access_key": is a secret and must be text, given under secrets`}},
		{"unknown param", header + bucket("b", `<field name="config" eval="{'bukket': 'one', 'access_key_id': '$ENV:S3_KEY', 'secret_access_key': '$ENV:S3_SECRET'}"/>`) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": param "bucket": is required`, `f.xml:5:29: record "b": param "bukket": is unknown; did you mean "bucket"?`}},
		{"a secret where none is wanted", header + bucket("b", `<field name="config" eval="{'password': '$ENV:SMTP_PASSWORD', 'bucket': 'one', 'access_key_id': '$ENV:S3_KEY', 'secret_access_key': '$ENV:S3_SECRET'}"/>`) + end, importer.Options{},
			[]string{`f.xml:5:29: record "b": param "password": is unknown`}},
		{"config as text", header + bucket("b", `<field name="config">{'bucket': 1}</field>`) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": config must be a dict, written as eval`}},
		{"both names of a field", header + bucket("b", `<field name="provider_type">s3</field>`+good) + end, importer.Options{},
			[]string{`f.xml:5:1: record "b": kind and provider_type are the same field; give one of them`}},
		{"no tenant", `<ede>` + bucket("b", good) + `</ede>`, importer.Options{},
			[]string{`f.xml:2:1: record "b": the record names no tenant; give it a tenant_id, or use --tenant`}},
		{"no tenant, and all else that is wrong", `<ede>` + bucket("b", `<field name="is_default">1</field><field name="active">0</field>
<field name="block_pinned">maybe</field><field name="config" eval="{'bucket': 7, 'access_key_id': 'k', 'secret_access_key': 's'}"/>`) + `
<record id="../x" model="gateway.tenant"><field name="status">gone</field></record><record id="acme" model="gateway.tenant"/>
<record id="o" model="res.organization"><field name="active">maybe</field></record>
<record id="p" model="ir.connector.param"><field name="connector_id">nobody</field><field name="value">$ENV:NO_VALUE</field></record></ede>`, importer.Options{},
			[]string{`f.xml:2:1: record "b": the record names no tenant; give it a tenant_id, or use --tenant`,
				`f.xml:3:1: record "b": a default must be active`, `f.xml:4:1: record "b": block_pinned must be true or false`, `f.xml:4:69: record "b": param "bucket": must be text`,
				`f.xml:5:1: record "../x": the tenant's id: an id consists of a-z, 0-9, _ and -, and starts with a letter or digit; give it a key`,
				`f.xml:5:42: record "../x": status must be ready or suspended`,
				`f.xml:6:1: record "o": the record names no tenant; give it a tenant_id, or use --tenant`, `f.xml:6:41: record "o": active must be true or false`,
				`f.xml:7:1: record "p": key is missing`, `f.xml:7:43: record "p": connector_id refers to no connector of the file; for a stored one use --tenant`,
				`f.xml:7:84: record "p": the environment variable NO_VALUE is not set`}},
		{"missing tenant", `<ede>` + bucket("b", good) + `</ede>`, importer.Options{Tenant: globex},
			[]string{`f.xml:2:1: record "b": tenant globex does not exist; add a gateway.tenant record`}},
		{"another tenant than --tenant", `<ede>` + bucket("b", `<field name="tenant_id">acme</field>`+good) + `</ede>`, importer.Options{Tenant: globex},
			[]string{`f.xml:3:1: record "b": the record belongs to tenant acme, but --tenant says globex`}},
		{"malformed tenant id", `<ede><record id="a" model="gateway.tenant"><field name="key">../x</field></record></ede>`, importer.Options{},
			[]string{`f.xml:1:44: record "a": the tenant's id: an id consists of a-z, 0-9, _ and -, and starts with a letter or digit; give it a key`}},
		{"status", `<ede><record id="a" model="gateway.tenant"><field name="status">gone</field></record></ede>`, importer.Options{},
			[]string{`f.xml:1:44: record "a": status must be ready or suspended`}},
		{"rows", header + bucket("b", good) + `
<record id="p1" model="ir.connector.param"><field name="connector_id">b</field><field name="key">a..b</field><field name="value">x</field></record>
<record id="p2" model="ir.connector.param"><field name="connector_id">b</field><field name="file_id">7</field><field name="key">prefix</field></record>
<record id="p3" model="ir.connector.param"><field name="connector_id">b</field><field name="sequence">x</field></record>
<record id="p4" model="ir.connector.param"><field name="key">x</field><field name="value_type">blob</field></record>` + end, importer.Options{},
			[]string{`f.xml:6:80: record "p1": a key consists of names joined by single dots, at most 16 of them`, `f.xml:7:80: record "p2": file_id can't be read here; write the value as $FILE:path`,
				`f.xml:8:1: record "p3": key is missing`, `f.xml:8:80: record "p3": sequence must be a whole number`, `f.xml:9:1: record "p4": connector_id is missing`, `f.xml:9:71: record "p4": value_type must be text or file`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.env["EMPTY"], w.env["LINES"] = "", "a\nb"
			w.refuses(row.file, row.options, row.want...)
			ts, err := w.store.Tenants(t.Context(), connector.TenantFilter{})
			if err != nil || len(ts) != 0 {
				t.Errorf("left behind: %v, %v", ts, err)
			}
			if vs, err := w.vault.Tenants(t.Context()); err != nil || len(vs) != 0 {
				t.Errorf("left behind secrets of %v, %v", vs, err)
			}
			// The same over a store that holds something: whatever is wrong with
			// the file is wrong then too, and takes nothing with it.
			w.apply(s3("", plainS3), importer.Options{})
			before := w.state()
			if p, err := w.im.Plan(t.Context(), w.parse("f.xml", row.file), row.options); err == nil {
				t.Errorf("accepted:\n%s", p)
			}
			if after := w.state(); after != before {
				t.Errorf("something was written:\n%s\nbecame\n%s", before, after)
			}
		})
	}
}

// An import through an API may not read the server's environment or files.
func TestNoReferencesWithoutCommandLine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.im.Env, w.im.ReadFile = nil, nil
	w.refuses(s3("", strings.Replace(plainS3, "$ENV:S3_SECRET", "$FILE:/etc/passwd", 1)), importer.Options{},
		`f.xml:7:62: record "bucket": $ENV: is read by the command line's import only`, `f.xml:7:94: record "bucket": $FILE: is read by the command line's import only`)
}

// Whoever may import for one tenant learns nothing of another: a reference to
// another's tenant reads as one to nobody's.
func TestOtherTenantsAreNotLookedUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(`<ede><record id="secret_name" model="gateway.tenant"><field name="key">globex</field></record><record id="acme" model="gateway.tenant"/></ede>`, importer.Options{})
	file := func(ref string) string {
		return `<ede><record id="b" model="ir.connector"><field name="kind">s3</field><field name="tenant_id" ref="` + ref + `"/><field name="config" eval="` + plainS3 + `"/></record></ede>`
	}
	w.refuses(file("secret_name"), importer.Options{Tenant: acme}, `f.xml:1:71: record "b": the record belongs to tenant secret_name, but --tenant says acme`)
	w.refuses(file("nobodys_name"), importer.Options{Tenant: acme}, `f.xml:1:71: record "b": the record belongs to tenant nobodys_name, but --tenant says acme`)
	w.apply(file("secret_name"), importer.Options{})
	w.connector(globex, "b")
}

func TestTenantRules(t *testing.T) {
	t.Parallel()
	record := func(fields string) string {
		return `<record id="b" model="ir.connector"><field name="kind">s3</field>` + fields + `<field name="config" eval="` + plainS3 + `"/></record>`
	}
	acmeTenant := `<record id="t_acme" model="gateway.tenant"><field name="key">acme</field></record>`
	globexTenant := `<record id="gateway.tenant.globex" model="gateway.tenant"/>`
	org := `<record id="hq" model="res.organization"><field name="tenant_id" ref="gateway.tenant.globex"/></record>`
	for _, row := range []struct {
		name, file string
		options    importer.Options
		want       tenant.ID
	}{
		{"its own field, as a ref", acmeTenant + globexTenant + record(`<field name="tenant_id" ref="t_acme"/>`), importer.Options{}, acme},
		{"its own field, as a ref with the model", acmeTenant + globexTenant + record(`<field name="tenant_id" ref="gateway.tenant.t_acme"/>`), importer.Options{}, acme},
		{"its own field, as an id", acmeTenant + globexTenant + record(`<field name="tenant_id">globex</field>`), importer.Options{}, globex},
		{"its organization's", acmeTenant + globexTenant + org + record(`<field name="organization_id" ref="hq"/>`), importer.Options{}, globex},
		{"its organization's, by id", acmeTenant + globexTenant + org + record(`<field name="organization_id">res.organization.hq</field>`), importer.Options{}, globex},
		{"the option", acmeTenant + record(""), importer.Options{Tenant: acme}, acme},
		{"the file's only tenant", acmeTenant + record(""), importer.Options{DefaultTenant: globex}, acme},
		{"the default, created", record(""), importer.Options{DefaultTenant: globex}, globex},
		{"referred to, created where there is a default", record(`<field name="tenant_id">acme</field>`), importer.Options{DefaultTenant: globex}, acme},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.apply("<ede>"+row.file+"</ede>", row.options)
			w.connector(row.want, "b")
		})
	}
}

func TestOrganizationRefs(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, field, want string }{
		{"record id in the file", `ref="in_file"`, "one"},
		{"record id with the model", `ref="res.organization.in_file"`, "one"},
		{"external id in the store", `ref="in_store"`, "two"},
		{"external id with the model", `ref="res.organization.in_store"`, "two"},
		{"id", `ref="res.organization.two"`, "two"},
		{"created", `ref="res.organization.three"`, "three"},
		{"none", `eval="None"`, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.apply(`<ede><record id="acme" model="gateway.tenant"/><record id="in_store" model="res.organization"><field name="key">two</field></record></ede>`, importer.Options{})
			w.apply(`<ede><record id="b" model="ir.connector"><field name="kind">aws_s3</field><field name="organization_id" `+row.field+`/><field name="config" eval="`+plainS3+`"/></record>
<record id="in_file" model="res.organization"><field name="key">one</field></record></ede>`, importer.Options{Tenant: acme, CreateOrganizations: true})
			if c := w.connector(acme, "b"); c.Organization.String() != row.want || c.Kind != "s3" {
				t.Errorf("organization %q", c.Organization)
			}
		})
	}
}

// A stored secret never follows its connector to a new target.
func TestNewTargetNeedsItsSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mail := func(active, host, password string) string {
		return header + `<record id="mail" model="ir.connector"><field name="kind">smtp</field><field name="active">` + active + `</field>
<field name="config" eval="{'host': '` + host + `'` + password + `}"/></record></patchbay>`
	}
	w.apply(mail("1", "one.example", ""), importer.Options{})
	w.apply(mail("1", "one.example", ", 'password': '$ENV:SMTP_PASSWORD'"), importer.Options{})
	w.editSecret(acme, "mail", "password", "canary-api") // the API's own, which the file can't take back
	w.refuses(mail("1", "two.example", ""), importer.Options{}, `f.xml:4:29: record "mail": param "host": says where secret "password" is sent, so the file must give that secret too`)
	w.apply(mail("0", "two.example", ""), importer.Options{})
	c := w.connector(acme, "mail")
	if len(c.Secrets) != 0 || !c.Pin.IsZero() || c.Params["host"].Value != "two.example" {
		t.Errorf("the secret of the old host is still there: %+v", c)
	}
}
