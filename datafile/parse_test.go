package datafile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/examples"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

func parse(t *testing.T, name, text string) *datafile.File {
	t.Helper()
	f, err := datafile.Parse(name, strings.NewReader(text), datafile.Limits{})
	if err != nil {
		t.Fatalf("parse %s:\n%v", name, err)
	}
	return f
}

func TestExampleParses(t *testing.T) {
	t.Parallel()
	f := parse(t, examples.AcmeName, string(examples.Acme))
	var s3 *datafile.Record
	for i := range f.Records {
		if f.Records[i].ID == "connector_acme_s3" {
			s3 = &f.Records[i]
		}
	}
	if s3 == nil {
		t.Fatal("no connector_acme_s3")
	}
	org, _ := s3.Field("organization_id")
	if org.Form != datafile.Ref || org.Text != "res.organization.acme" {
		t.Errorf("organization_id is %+v", org.Value)
	}
	config, _ := s3.Field("config")
	want := map[string]any{"bucket": "acme-prod", "region": "us-east-1", "access_key_id": "$ENV:S3_KEY", "secret_access_key": "$ENV:S3_SECRET"}
	if !reflect.DeepEqual(config.Literal, want) {
		t.Errorf("config is %#v", config.Literal)
	}
	// The second line of the eval: its keys are found where they stand.
	if got := config.Keys["access_key_id"]; got.Line != config.Position.Line+1 || got.Column != 9 {
		t.Errorf("access_key_id is at %+v, the field at %+v", got, config.Position)
	}
	for _, v := range examples.AcmeVariables() {
		if !bytes.Contains(examples.Acme, []byte("'$ENV:"+v+"'")) {
			t.Errorf("the example does not name %s", v)
		}
	}
}

func TestRootsAndNoUpdate(t *testing.T) {
	t.Parallel()
	record := `<record id="a" model="m"><field name="x"> 1 </field></record>`
	for _, root := range []string{"ede", "ede_data", "odoo", "patchbay"} {
		f := parse(t, "f.xml", "<"+root+">"+record+`<data noupdate="1">`+strings.Replace(record, `"a"`, `"b"`, 1)+"</data></"+root+">")
		if len(f.Records) != 2 || f.Records[0].NoUpdate || !f.Records[1].NoUpdate {
			t.Errorf("%s: %+v", root, f.Records)
		}
		if x, _ := f.Records[0].Field("x"); x.Text != "1" {
			t.Errorf("%s: text is %q", root, x.Text)
		}
	}
}

func TestCSV(t *testing.T) {
	t.Parallel()
	f := parse(t, "dir/ir.connector.param.csv", "id,connector_id/id,key,value\np1,conn,a.b,\"x, y\"\np2,conn,c,\n")
	want := []datafile.Field{
		{Name: "connector_id", Value: datafile.Value{Form: datafile.Ref, Text: "conn"}, Position: datafile.Position{Line: 2, Column: 4}},
		{Name: "key", Value: datafile.Value{Text: "a.b"}, Position: datafile.Position{Line: 2, Column: 9}},
		{Name: "value", Value: datafile.Value{Text: "x, y"}, Position: datafile.Position{Line: 2, Column: 13}},
	}
	if f.Records[0].Model != "ir.connector.param" || !reflect.DeepEqual(f.Records[0].Fields, want) {
		t.Errorf("got %+v", f.Records[0])
	}
	if len(f.Records[1].Fields) != 2 {
		t.Errorf("an empty cell is a field: %+v", f.Records[1].Fields)
	}
	f = parse(t, "ir.connector.csv", "id,name,config\nc,C,\"{'bucket': 'b', 'n': 1}\"\n")
	if c, _ := f.Records[0].Field("config"); !reflect.DeepEqual(c.Literal, map[string]any{"bucket": "b", "n": int64(1)}) {
		t.Errorf("config is %#v", c.Literal)
	}
}

func TestBadFiles(t *testing.T) {
	t.Parallel()
	field := func(f string) string {
		return "<ede>\n<record id=\"r\" model=\"m\">\n" + f + "\n</record></ede>"
	}
	for _, row := range []struct {
		name, file, text string
		want             []string // the lines of the error
	}{
		{"truncated XML", "f.xml", "<ede>\n<record id=\"r\" model=\"m\">\n<field na", []string{`f.xml:3:10: the XML is not well-formed: unexpected EOF`}},
		{"truncated between records", "f.xml", "<ede>\n<record id=\"r\" model=\"m\"></record>", []string{"f.xml:2:35: the XML is not well-formed: unexpected EOF"}},
		{"wrong end tag", "f.xml", "<ede>\n<record id='a' model='m'></recor></ede>", []string{"f.xml:2:34: the XML is not well-formed: element <record> closed by </recor>"}},
		{"empty", "f.xml", "", []string{`f.xml:1:1: the file has no root element; expected one of ede, ede_data, odoo, patchbay`}},
		{"unknown root", "f.xml", "<html/>", []string{`f.xml:1:1: unknown root element <html>; expected one of ede, ede_data, odoo, patchbay`}},
		{"two roots", "f.xml", "<ede/><ede/>", []string{"f.xml:1:7: a second root element"}},
		{"DTD", "f.xml", "<!DOCTYPE ede [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>\n<ede/>", []string{"f.xml:1:1: a DTD is not allowed"}},
		{"entity", "f.xml", field("<field name='a'>&x;</field>"), []string{"f.xml:3:20: the XML is not well-formed: invalid character entity"}},
		{"other encoding", "f.xml", "<?xml version='1.0' encoding='latin1'?><ede/>", []string{`f.xml:1:40: the file declares another encoding than UTF-8; save it as UTF-8`}},
		{"other encoding, in its bytes", "f.xml", "<ede>\n<record id='caf\xe9' model='m'/></ede>", []string{`f.xml:2:16: the file is not valid UTF-8; save it as UTF-8`}},
		{"UTF-16", "f.xml", "\xff\xfe<\x00e\x00/\x00>\x00", []string{`f.xml:1:1: the file is UTF-16; save it as UTF-8`}},
		{"UTF-16 without a mark", "f.yaml", "\x00r\x00e", []string{`f.yaml:1:1: the file is UTF-16; save it as UTF-8`}},
		{"entities that grow", "f.xml", "<?xml version='1.0'?>\n<!DOCTYPE ede [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;'>]>\n<ede>&b;</ede>", []string{`f.xml:2:1: a DTD is not allowed`}},
		{"attribute given twice", "f.xml", "<ede>\n<record id='a' model='m' id='b'><field name='x' name='y'/></record></ede>", []string{`f.xml:2:1: attribute "id" is given twice`, `f.xml:2:33: record "b": attribute "name" is given twice`}},
		{"a name that no XML can hold", "f.yaml", "records:\n- id: \"a\\x01b\"\n  model: m", []string{`f.yaml:2:3: the record's id has a character that no data file can hold`}},
		{"a name that is too long", "f.xml", "<ede>\n<record id='" + strings.Repeat("a", 256) + "' model='m'/></ede>", []string{`f.xml:2:1: the record's id has more than 255 bytes`}},
		{"a key that is too long", "f.xml", field("<field name='a' eval=\"{'" + strings.Repeat("k", 256) + "': 1}\"/>"), []string{`f.xml:3:24: record "r": eval: a key of a dict has at most 255 bytes`}},
		{"too many parts", "f.xml", field("<field name='a' eval='[" + strings.Repeat("1,", 1<<20) + "]'/>"), []string{`f.xml:3:2097172: record "r": eval: the file has more than 1048576 records, fields and values; split it`}},
		{"not UTF-8", "f.xml", "<ede>\n\xff</ede>", []string{`f.xml:2:1: the file is not valid UTF-8; save it as UTF-8`}},
		{"all at once", "f.xml", field("<field name='a' eval='f()'/>\n<field eval='1'/>\n<other/>\n<field name='b' ref='x' eval='1'/>\n<field name='b' type='file'>x</field>text"), []string{
			`f.xml:3:23: record "r": eval: only literals are allowed: this is a call, and nothing is evaluated`,
			`f.xml:4:1: record "r": a field needs a name`,
			`f.xml:5:1: record "r": unknown element <other>; expected <field>`,
			`f.xml:6:1: record "r": a field has one of ref, eval and text, not ref and eval`,
			`f.xml:7:1: record "r": field "b" is given twice`,
			`f.xml:7:1: record "r": unknown attribute "type" of <field>`,
			`f.xml:7:38: text is not allowed in <record>`,
		}},
		{"operator behind an entity and on another line", "f.xml", field("<field name=\"a\"\n  eval=\"['&quot;&#233;',\r\n 1 + 2]\"/>"), []string{`f.xml:5:4: record "r": eval: only literals are allowed: this is an operator, and nothing is evaluated`}},
		{"10,000 nested lists", "f.xml", field("<field name='a' eval='" + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + "'/>"), []string{`f.xml:3:87: record "r": eval: lists and dicts are nested more than 64 deep`}},
		{"no id, no model", "f.xml", "<ede><record/></ede>", []string{"f.xml:1:6: a record needs a model", "f.xml:1:6: a record needs an id"}},
		{"bad noupdate", "f.xml", "<ede><data noupdate='maybe'/></ede>", []string{"f.xml:1:6: noupdate must be 0 or 1"}},

		{"YAML syntax", "f.yaml", "records:\n  - id: [", []string{`f.yaml:2:9: the YAML is not well-formed`}},
		{"YAML same key twice", "f.yaml", "records:\n- id: a\n  model: m\n  fields: {config: {x: 1, x: 2}}", []string{"f.yaml:4:27: a key is given twice"}},
		{"YAML same key twice, quoted", "f.yaml", "records:\n- id: a\n  model: m\n  fields: {config: {x: 1, 'x': 2}}", []string{`f.yaml:4:27: a key is given twice`}},
		{"YAML alias", "f.yaml", "records:\n- id: a\n  model: m\n  fields: {x: &a [1], y: *a}", []string{`f.yaml:4:15: record "a": only plain YAML is allowed: no anchors, aliases, tags or merge keys`, `f.yaml:4:26: record "a": only plain YAML is allowed: no anchors, aliases, tags or merge keys`}},
		{"YAML tag", "f.yaml", "records:\n- id: a\n  model: m\n  fields: {x: !!binary aGk=}", []string{`f.yaml:4:15: record "a": only plain YAML is allowed: no anchors, aliases, tags or merge keys`}},
		{"YAML nested flow", "f.yaml", "records: " + strings.Repeat("[", 10000), []string{"f.yaml:1:74: lists and maps are nested more than 64 deep"}},
		{"YAML nested marks", "f.yaml", "records:\n" + strings.Repeat("- ", 10000), []string{`f.yaml:2:65: lists and maps are nested more than 64 deep`}},
		{"YAML unknown keys", "f.yaml", "noupdat: true\nrecords:\n- idd: a\n  model: m\n", []string{`f.yaml:1:1: unknown key "noupdat"; expected noupdate or records`, "f.yaml:3:3: a record needs an id", `f.yaml:3:3: unknown key "idd"; expected id, model, noupdate or fields`}},
		{"YAML merge key", "f.yaml", "records:\n- id: a\n  model: m\n  fields:\n    <<: {x: 1}", []string{`f.yaml:5:5: record "a": a key must be plain text`}},
		{"YAML aliases that grow", "f.yaml", "a: &a [1, 1]\nb: &b [*a, *a]\nrecords: *b", []string{`f.yaml:1:1: unknown key "a"; expected noupdate or records`, `f.yaml:2:1: unknown key "b"; expected noupdate or records`, `f.yaml:3:10: "records" must be a list`}},
		{"YAML with two documents", "f.yaml", "records: []\n---\nrecords: []", []string{`f.yaml:1:1: expected one YAML document with "records"`}},
		{"YAML nested blocks", "f.yaml", "records:\n" + deepBlock(200), []string{`f.yaml:74:74: lists and maps are nested more than 64 deep`}},
		{"YAML nested values", "f.yaml", "records:\n- id: a\n  model: m\n  fields:\n    config: " + strings.Repeat("[", 60) + strings.Repeat("]", 60) + "\n    other:\n" + deepLists(8, 70), []string{`f.yaml:75:77: lists and maps are nested more than 64 deep`}},
		{"YAML map of too many keys", "f.yaml", "records:\n- id: a\n  model: m\n  fields: {" + manyKeys(1025) + "}", []string{`f.yaml:4:9142: a map has at most 1024 keys`}},
		{"YAML key that is too long", "f.yaml", strings.Repeat("k", 256) + ": 1", []string{`f.yaml:1:1: a key has at most 255 bytes`}},
		{"YAML file that is too large", "f.yaml", "records: \"" + strings.Repeat("a", 9<<20) + "\"", []string{`f.yaml:1:1: a YAML file has at most 8388608 bytes; split it, or write it as XML`}},
		{"YAML of too many parts", "f.yaml", "records:\n" + strings.Repeat("- a\n", 1<<20), []string{`f.yaml:1:1: the YAML has too many parts; split it, or write it as XML`}},
		{"YAML date as a name", "f.yaml", "records:\n- id: 7\n  model: m", []string{`f.yaml:2:3: a record needs an id`, `f.yaml:2:3: id must be text; quote it`}},
		{"YAML without records", "f.yaml", "noupdate: true", []string{"f.yaml:1:1: \"records\" is missing"}},
		{"YAML empty", "f.yaml", "", []string{`f.yaml:1:1: expected one YAML document with "records"`}},
		{"YAML octal or decimal", "f.yaml", "records:\n- id: a\n  model: m\n  fields: {x: 007}", []string{`f.yaml:4:15: record "a": a number must not start with 0; quote it when it is text`}},
		{"YAML tab in plain text", "f.yaml", "records:\n- id: a\n  model: m\n  fields:\n    x: a\tb", []string{`f.yaml:5:8: record "a": text with a tab must be quoted`}},
		{"YAML half a pair of surrogates", "f.yaml", "records:\n- id: a\n  model: m\n  fields: {x: \"\\udc00\"}", []string{`f.yaml:4:15: record "a": an escape in this text is not a character`}},
		{"YAML infinity", "f.yaml", "records:\n- id: a\n  model: m\n  fields: {x: .inf}", []string{`f.yaml:4:15: record "a": infinity and NaN are not allowed; quote them when they are text`}},

		{"CSV without id", "ir.connector.csv", "name,id\n", []string{"ir.connector.csv:1:1: the first column must be id"}},
		{"CSV open quote", "ir.connector.csv", "id,name\na,\"b\nc\n", []string{`ir.connector.csv:3:3: the CSV is not well-formed`}},
		{"CSV column twice", "ir.connector.csv", "id,name,name,\n", []string{`ir.connector.csv:1:9: column 3 has no name of its own`, `ir.connector.csv:1:14: column 4 has no name of its own`}},
		{"CSV reference and text of one field", "ir.connector.csv", "id,organization_id,organization_id/id\na,b,c\n", []string{`ir.connector.csv:2:5: record "a": field "organization_id" is given twice`}},
		{"CSV short line", "ir.connector.csv", "id,name\na\n", []string{`ir.connector.csv:2:1: this line has another number of cells than the first one`}},
		{"CSV empty", "ir.connector.csv", "", []string{`ir.connector.csv:1:1: the file is empty; its first line names the columns`}},
		{"CSV config", "ir.connector.csv", "id,config\na,\"{'a': f()}\"\n", []string{`ir.connector.csv:2:3: record "a": config: only literals are allowed: this is a call, and nothing is evaluated`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f, err := datafile.Parse(row.file, strings.NewReader(row.text), datafile.Limits{})
			if err == nil {
				t.Fatalf("accepted: %+v", f)
			}
			if !errors.Is(err, fault.InvalidArgument) || fault.CodeOf(err) != fault.InvalidArgument {
				t.Errorf("the code is %s", fault.CodeOf(err))
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(row.want) {
				t.Fatalf("got\n%s\nwant\n%s", err, strings.Join(row.want, "\n"))
			}
			for i, want := range row.want {
				if lines[i] != want {
					t.Errorf("got  %s\nwant %s", lines[i], want)
				}
			}
			if len(fault.Violations(err)) != len(row.want) {
				t.Errorf("%d violations", len(fault.Violations(err)))
			}
		})
	}
}

func deepBlock(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func deepLists(indent, n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", indent+i) + "-\n")
	}
	return b.String()
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d: 1, ", i)
	}
	return b.String()
}

// endless counts what is read from it.
type endless struct{ n int64 }

func (e *endless) Read(b []byte) (int, error) {
	if e.n >= 100<<20 {
		return 0, io.EOF
	}
	e.n += int64(len(b))
	return len(b), nil
}

func TestHugeFile(t *testing.T) {
	t.Parallel()
	r := &endless{}
	_, err := datafile.Parse("huge.xml", r, datafile.Limits{})
	if !errors.Is(err, fault.TooLarge) {
		t.Fatalf("got %v", err)
	}
	if r.n > 33<<20 {
		t.Errorf("%d bytes of 100 MiB were read", r.n)
	}
}

// values draws anything that a literal can hold.
func values(depth int) *rapid.Generator[any] {
	leaf := []*rapid.Generator[any]{
		rapid.Just[any](nil),
		rapid.Bool().AsAny(),
		rapid.Int64().AsAny(),
		rapid.Float64().Filter(func(f float64) bool { return !math.IsInf(f, 0) && !math.IsNaN(f) }).AsAny(),
		rapid.String().AsAny(),
		rapid.SampledFrom([]string{"", " x ", "true", "null", "1", "1.0", "-", "~", "a: b", "# c", "'", `"`, "\\n", "a\r\nb", "\x00", "\u2028", "\ufeff", "{x}", "*a", "&a", "!t", "no", "0x1f", "2026-01-01", "=", "<<"}).AsAny(),
	}
	if depth == 0 {
		return rapid.OneOf(leaf...)
	}
	return rapid.OneOf(append(leaf,
		rapid.Map(rapid.SliceOfN(values(depth-1), 0, 3), func(v []any) any { return v }),
		rapid.Map(rapid.MapOfN(rapid.OneOf(rapid.String(), rapid.Just("ref")), values(depth-1), 0, 3), func(v map[string]any) any { return v }),
	)...)
}

// bare drops positions, which no conversion keeps.
func bare(f *datafile.File) []datafile.Record {
	var out []datafile.Record
	for _, r := range f.Records {
		r.Position = datafile.Position{}
		fields := []datafile.Field{}
		for _, f := range r.Fields {
			fields = append(fields, datafile.Field{Name: f.Name, Value: f.Value})
		}
		r.Fields = fields
		out = append(out, r)
	}
	return out
}

func TestConversionsLoseNothing(t *testing.T) {
	t.Parallel()
	name := rapid.StringMatching(`[a-zA-Z0-9_.é" &<-]{1,12}`)
	rapid.Check(t, func(t *rapid.T) {
		f := &datafile.File{}
		for range rapid.IntRange(0, 3).Draw(t, "records") {
			r := datafile.Record{ID: name.Draw(t, "id"), Model: name.Draw(t, "model"), NoUpdate: rapid.Bool().Draw(t, "noupdate"), Fields: []datafile.Field{}}
			for _, n := range rapid.SliceOfNDistinct(rapid.OneOf(name, rapid.Just("config")), 0, 3, rapid.ID[string]).Draw(t, "fields") {
				v := datafile.Value{Form: datafile.Ref, Text: strings.TrimSpace(name.Draw(t, "ref")) + "x"}
				if n == "config" || rapid.Bool().Draw(t, "is a value") {
					v = datafile.Value{Form: datafile.Literal, Literal: values(3).Draw(t, "value")}
					if s, ok := v.Literal.(string); ok {
						v = datafile.Value{Form: datafile.Text, Text: s}
					}
				}
				r.Fields = append(r.Fields, datafile.Field{Name: n, Value: v})
			}
			f.Records = append(f.Records, r)
		}
		var x, y bytes.Buffer
		if err := datafile.WriteXML(&x, f); err != nil {
			t.Fatal(err)
		}
		fromXML, err := datafile.Parse("f.xml", bytes.NewReader(x.Bytes()), datafile.Limits{})
		if err != nil {
			t.Fatalf("%v\n%s", err, x.String())
		}
		if !reflect.DeepEqual(bare(fromXML), bare(f)) {
			t.Fatalf("XML lost something:\n%s\n%#v\n%#v", x.String(), bare(f), bare(fromXML))
		}
		if err := datafile.WriteYAML(&y, fromXML); err != nil {
			t.Fatal(err)
		}
		fromYAML, err := datafile.Parse("f.yaml", bytes.NewReader(y.Bytes()), datafile.Limits{})
		if err != nil {
			t.Fatalf("%v\n%s", err, y.String())
		}
		if !reflect.DeepEqual(bare(fromYAML), bare(f)) {
			t.Fatalf("YAML lost something:\n%s\n%#v\n%#v", y.String(), bare(f), bare(fromYAML))
		}
	})
}
