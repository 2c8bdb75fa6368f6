package importer_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// named is a CSV file of a module: its name is its model.
type named struct{ name, text string }

// unit joins files as the command does.
func (w *world) unit(files ...named) *datafile.File {
	w.Helper()
	var sources []datafile.Source
	for _, f := range files {
		sources = append(sources, datafile.Source{Name: f.name, Content: strings.NewReader(f.text)})
	}
	f, err := datafile.ParseUnit(sources, datafile.Limits{})
	if err != nil {
		w.Fatal(err)
	}
	return f
}

// imports imports files as one and tells whether the plan changed anything.
func (w *world) imports(o importer.Options, files ...named) bool {
	w.Helper()
	p, err := w.im.Plan(w.Context(), w.unit(files...), o)
	if err != nil {
		w.Fatalf("plan:\n%v", err)
	}
	if _, err := w.im.Apply(w.Context(), p); err != nil {
		w.Fatalf("apply:\n%v\n%s", err, p)
	}
	return p.Changed()
}

// refusesUnit is refuses for files that are imported as one.
func (w *world) refusesUnit(o importer.Options, want []string, files ...named) {
	w.Helper()
	before := w.state()
	p, err := w.im.Plan(w.Context(), w.unit(files...), o)
	if err == nil {
		w.Fatalf("accepted:\n%s", p)
	}
	if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, want) {
		w.Errorf("got\n%s\nwant\n%s", err, strings.Join(want, "\n"))
	}
	if after := w.state(); after != before {
		w.Errorf("something was written:\n%s\nbecame\n%s", before, after)
	}
}

// values is what a connector holds, secrets as "*".
func (w *world) values(external string) map[string]any {
	w.Helper()
	out := map[string]any{}
	c := w.connector(acme, external)
	for name, p := range c.Params {
		out[name] = p.Value
	}
	for name := range c.Secrets {
		out[name] = "*"
	}
	return out
}

func (w *world) holds(external string, want map[string]any) {
	w.Helper()
	got := w.values(external)
	if len(got) != len(want) {
		w.Errorf("%s holds %v, want %v", external, got, want)
		return
	}
	for name, v := range want {
		if got[name] != v {
			w.Errorf("%s holds %v, want %v", external, got, want)
			return
		}
	}
}

const (
	connectorCSV = "id,name,provider_type,organization_id/id,is_default\nbucket,Bucket,aws_s3,res.organization.acme,1\nmail,Mail,smtp,,1\n"
	paramCSV     = `id,connector_id/id,key,value,sequence
p1,bucket,bucket,one,10
p2,ir.connector.bucket,access_key_id,$ENV:S3_KEY,20
p3,bucket,secret_access_key,$FILE:secret,30
p4,mail,host,mail.example,10
`
)

// csvCase: what required params and secrets stand in the param file alone is
// complete together with the connector's file, in either order, and importing it
// again moves no revision.
func csvCase(t *testing.T, w *world) {
	w.files["m/secret"] = "canary-file\n"
	connectors, params := named{"m/ir.connector.csv", connectorCSV}, named{"m/ir.connector.param.csv", paramCSV}
	w.apply(header+"</patchbay>", importer.Options{})
	o := importer.Options{Tenant: acme}
	// Neither is complete by itself.
	w.refusesUnit(o, []string{
		`m/ir.connector.csv:2:1: record "bucket": param "bucket": is required`,
		`m/ir.connector.csv:2:1: record "bucket": secret "access_key_id": is required`,
		`m/ir.connector.csv:2:1: record "bucket": secret "secret_access_key": is required`,
		`m/ir.connector.csv:3:1: record "mail": param "host": is required`,
	}, connectors)
	for name, files := range map[string][]named{"as EDE lists them": {connectors, params}, "params first": {params, connectors}} {
		w := w.fresh()
		w.files["m/secret"] = "canary-file\n"
		w.apply(header+"</patchbay>", importer.Options{})
		if !w.imports(o, files...) {
			t.Errorf("%s: nothing was imported", name)
		}
		w.holds("bucket", map[string]any{"bucket": "one", "access_key_id": "*", "secret_access_key": "*"})
		w.holds("mail", map[string]any{"host": "mail.example"})
		if s := w.secrets(acme, w.connector(acme, "bucket")); !s["secret_access_key"].Equal(secret.New("canary-file")) {
			t.Errorf("%s: another secret", name)
		}
		before := w.state()
		slices.Reverse(files)
		if w.imports(o, files...) || w.state() != before {
			t.Errorf("%s: again changed something:\n%s\nbecame\n%s", name, before, w.state())
		}
	}
}

// Problems name the file that each record stands in.
func TestUnitProblemsNameTheirFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(header+"</patchbay>", importer.Options{})
	o := importer.Options{Tenant: acme}
	connectors := named{"a/ir.connector.csv", "id,name,kind,config\nbucket,B,s3,\"{'bucket': 7}\"\n"}
	w.refusesUnit(o, []string{
		`a/ir.connector.csv:2:13: record "bucket": param "bucket": must be text`,
		`a/ir.connector.csv:2:13: record "bucket": secret "access_key_id": is required`,
		`a/ir.connector.csv:2:13: record "bucket": secret "secret_access_key": is required`,
		`b/ir.connector.csv:2:1: record "bucket": this record id is given twice, first at a/ir.connector.csv:2`,
		`b/ir.connector.csv:2:10: record "bucket": unknown kind "s33"; did you mean "s3"?`,
		`b/ir.connector.param.csv:2:3: record "p": connector_id refers to no known connector`,
		`b/ir.connector.param.csv:2:12: record "p": the environment variable NO_VALUE is not set`,
	}, connectors, named{"b/ir.connector.param.csv", "id,connector_id/id,key,value\np,nobody,k,$ENV:NO_VALUE\n"}, named{"b/ir.connector.csv", "id,name,kind\nbucket,B,s33\n"})

	good := named{"a/ir.connector.csv", "id,name,kind,organization_id,is_default\nbucket,B,s3,acme,1\nother,O,s3,acme,0\n"}
	rows := "id,connector_id/id,key,value\n%1,%2,bucket,bbb\n%3,%2,access_key_id,k\n%4,%2,secret_access_key,$FILE:key\n"
	of := func(name, c string) named {
		return named{name, strings.NewReplacer("%1", c+"1", "%2", c, "%3", c+"2", "%4", c+"3").Replace(rows)}
	}
	// "$FILE:" is relative to the CSV that it stands in.
	w.files["x/key"] = "canary-x"
	w.refusesUnit(o, []string{`y/ir.connector.param.csv:4:32: record "other3": the file key can't be read`},
		good, of("x/ir.connector.param.csv", "bucket"), of("y/ir.connector.param.csv", "other"))
	w.files["y/key"] = "canary-y"
	w.refusesUnit(o, []string{
		`b/ir.connector.csv:2:80: record "third": a second default of the same organization and category; the first is "bucket" at a/ir.connector.csv:2`,
	}, good, of("x/ir.connector.param.csv", "bucket"), of("y/ir.connector.param.csv", "other"),
		named{"b/ir.connector.csv", "id,name,kind,organization_id,config,is_default\nthird,T,s3,acme,\"{'bucket':'bbb','access_key_id':'k','secret_access_key':'s'}\",1\n"})
	w.refusesUnit(o, []string{`z/ir.connector.param.csv:2:14: record "again": this key is given twice with the same sequence, first at x/ir.connector.param.csv:2`},
		good, of("x/ir.connector.param.csv", "bucket"), of("y/ir.connector.param.csv", "other"),
		named{"z/ir.connector.param.csv", "id,connector_id/id,key,value\nagain,bucket,bucket,c\n"})
	w.imports(o, good, of("x/ir.connector.param.csv", "bucket"), of("y/ir.connector.param.csv", "other"))
	for name, key := range map[string]string{"bucket": "canary-x", "other": "canary-y"} {
		if s := w.secrets(acme, w.connector(acme, name)); !s["secret_access_key"].Equal(secret.New(key)) {
			t.Errorf("%s has another file's key", name)
		}
	}
}

// Rows of a connector that only the store has set what they name, and so does a
// record of a connector with neither config nor rows: all else stays.
func TestWhatIsNotNamedStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := importer.Options{Tenant: acme}
	w.apply(s3("", strings.Replace(plainS3, "'region'", "'prefix': 'p/', 'session_token': 'canary-token', 'region'", 1)), importer.Options{})
	all := map[string]any{"bucket": "one", "region": "eu", "prefix": "p/", "access_key_id": "*", "secret_access_key": "*", "session_token": "*"}
	w.holds("bucket", all)

	rows := func(value string) named {
		return named{"ir.connector.param.csv", "id,connector_id/id,key,value\np1,bucket,region," + value + "\np2,bucket,path.style,true\n"}
	}
	if !w.imports(o, rows("us")) {
		t.Error("the rows changed nothing")
	}
	all["region"], all["path_style"] = "us", true
	w.holds("bucket", all)
	before := w.state()
	if w.imports(o, rows("us")) || w.state() != before {
		t.Error("the rows again changed something")
	}
	// The record alone changes what it says.
	record := func(name string) named {
		return named{"ir.connector.csv", "id,name,kind,organization_id,config\nbucket," + name + ",s3,acme,\n"}
	}
	if !w.imports(o, record("Renamed")) || w.connector(acme, "bucket").Name != "Renamed" {
		t.Error("the record changed nothing")
	}
	w.holds("bucket", all)
	before = w.state()
	if w.imports(o, record("Renamed")) || w.state() != before {
		t.Error("the record again changed something")
	}
	// The two in turn: each leaves the other's alone.
	if w.imports(o, rows("us")) || w.imports(o, record("Renamed")) || w.state() != before {
		t.Error("they take turns")
	}

	// Both sides changed: a conflict at the row; --force wins.
	w.edit(acme, "bucket", editParam("region", "by-hand"))
	p, err := w.im.Plan(t.Context(), w.unit(record("Renamed")), o)
	if err != nil || p.Changed() || len(p.Conflicts()) != 0 {
		t.Errorf("%v\n%s", err, p)
	}
	if p, err = w.im.Plan(t.Context(), w.unit(rows("us")), o); err != nil || p.Changed() || !strings.Contains(p.String(), "kept as changed since the last import: region") {
		t.Errorf("%v\n%s", err, p)
	}
	p, err = w.im.Plan(t.Context(), w.unit(rows("ap")), o)
	if err != nil || len(p.Conflicts()) != 1 || !strings.HasPrefix(p.Conflicts()[0].String(), `ir.connector.param.csv:2:11: record "p1": param "region"`) {
		t.Errorf("%v\n%s", err, p)
	}
	w.imports(importer.Options{Tenant: acme, Force: true}, rows("ap"))
	all["region"] = "ap"
	w.holds("bucket", all)

	// What was cleared by hand stays so.
	w.edit(acme, "bucket", clearParam("prefix"))
	before = w.state()
	if w.imports(o, rows("ap")) || w.imports(o, record("Renamed")) || w.state() != before {
		t.Errorf("a cleared param:\n%s\nbecame\n%s", before, w.state())
	}
	if !w.imports(o, rows("eu")) || w.connector(acme, "bucket").Params["prefix"].Value != nil {
		t.Error("a cleared param is back")
	}

	// What results is checked as a whole, at the row.
	w.refusesUnit(o, []string{`ir.connector.param.csv:2:10: record "p": param "bukket": is unknown; did you mean "bucket"?`},
		named{"ir.connector.param.csv", "id,connector_id/id,key,value\np,bucket,bukket,x\n"})

	// In one unit the rows are all that the connector holds.
	w.imports(o, record("Renamed"), named{"ir.connector.param.csv", "id,connector_id/id,key,value\np1,bucket,bucket,one\np2,bucket,access_key_id,$ENV:S3_KEY\np3,bucket,secret_access_key,$ENV:S3_SECRET\n"})
	w.holds("bucket", map[string]any{"bucket": "one", "access_key_id": "*", "secret_access_key": "*"})
}

// A record that says nothing of params says nothing under noupdate, of a deleted
// connector, and when that one is restored.
func TestRecordWithoutParams(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(s3("", plainS3), importer.Options{})
	bare := header + `<record id="bucket" model="ir.connector"><field name="kind">s3</field><field name="organization_id">acme</field></record></patchbay>`
	before := w.state()
	w.apply(bare, importer.Options{})
	w.apply(strings.NewReplacer(`<record id="bucket"`, `<data noupdate="1"><record id="bucket"`, `</patchbay>`, `</data></patchbay>`).Replace(bare), importer.Options{})
	if w.state() != before {
		t.Errorf("%s\nbecame\n%s", before, w.state())
	}
	w.edit(acme, "bucket", func(c *connector.Connector) { c.DeletedAt = w.im.Now() })
	w.apply(bare, importer.Options{})
	w.apply(bare, importer.Options{Restore: true})
	w.holds("bucket", map[string]any{"bucket": "one", "region": "eu", "access_key_id": "*", "secret_access_key": "*"})
	// An empty config is one, and says that nothing is left.
	w.refuses(strings.Replace(bare, `acme</field></record></patchbay>`, `acme</field><field name="config" eval="{}"/></record></patchbay>`, 1), importer.Options{},
		`f.xml:3:113: record "bucket": param "bucket": is required`)
}
