package datafile_test

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/examples"
)

// fuzz feeds bytes to one format: no panic, every problem inside of the file,
// and what is accepted survives both formats that are written.
func fuzz(f *testing.F, name string, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := datafile.Parse(name, bytes.NewReader(b), datafile.Limits{})
		if err != nil {
			var problems datafile.Problems
			if !errors.As(err, &problems) || len(problems) == 0 {
				t.Fatalf("not a list of problems: %v", err)
			}
			lines := bytes.Count(b, []byte("\n")) + bytes.Count(b, []byte("\r")) + 1
			for _, p := range problems {
				if p.Line < 1 || p.Column < 1 || p.Line > lines {
					t.Fatalf("%s lies outside of %d lines", p, lines)
				}
			}
			return
		}
		for again, write := range map[string]func(*bytes.Buffer) error{
			"f.xml":  func(w *bytes.Buffer) error { return datafile.WriteXML(w, file) },
			"f.yaml": func(w *bytes.Buffer) error { return datafile.WriteYAML(w, file) },
		} {
			var w bytes.Buffer
			if err := write(&w); err != nil {
				t.Fatal(err)
			}
			back, err := datafile.Parse(again, bytes.NewReader(w.Bytes()), datafile.Limits{})
			if err != nil {
				t.Fatalf("%v\n%s", err, w.String())
			}
			if !reflect.DeepEqual(bare(back), bare(file)) {
				t.Fatalf("%#v came back as %#v by way of\n%s", bare(file), bare(back), w.String())
			}
		}
	})
}

func FuzzXML(f *testing.F) {
	fuzz(f, "f.xml", string(examples.Acme),
		"<ede><data noupdate='1'><record id='a' model='m'><field name='x' eval=\"{'a': [1, 2.5, None, 'é\\n']}\"/></record></data></ede>",
		"<odoo><record id='a' model='m'><field name='x' ref='b'/><field name='y'> <![CDATA[<z>]]> &#65;<!-- --></field></record></odoo>",
		"\xef\xbb\xbf<?xml version='1.0' encoding='utf-8'?>\r\n<ede>\r\n</ede>\r\n",
		"<!DOCTYPE ede [<!ENTITY a 'b'>]><ede>&a;</ede>", "<ede", "<ede><record id='&#x0;'/></ede>", "<a:ede xmlns:a='b'/>",
		"<ede><record id='r' model='m'><field name=\"a\"\n  eval=\"['&quot;&#233;',\r\n 1 + 2]\"/></record></ede>",
	)
}

func FuzzYAML(f *testing.F) {
	f.Add([]byte(example(f)))
	fuzz(f, "f.yaml",
		"noupdate: true\nrecords:\n- id: a\n  model: m\n  noupdate: false\n  fields: {x: {ref: b}, config: {ref: c}, y: [1, .5, ~, 'z']}\n",
		"records:\r\n- id: a\r\n  model: m\r\n  fields:\r\n    x: |-\r\n      a\r\n      b\r\n", "a: &a [*a]", "? a\n: b", "- - - -", "{[", "<<: *a",
		"records:\n- id: \"\\ud83d\\ude00\\x01\"\n  model: m\n", "records: [{id: a, model: m, fields: {x: 0x1F, y: 1e3, z: 2026-01-01, w: 1_000, v: 0o7}}]",
		"%YAML 1.2\n---\nrecords: []\n...\n", "records:\n  - id: a\n    model: >\n      m\n\n    fields:\n      x: !!str 1\n", "\t", "records: \"\\q\"",
	)
}

func FuzzCSV(f *testing.F) {
	fuzz(f, "dir/ir.connector.csv",
		"id,name,organization_id/id,config\nc,\"C, D\",res.organization.acme,\"{'a': 1}\"\n", "id\n\"", "id,id\n", "\xef\xbb\xbfid,x\r\na,\"b\r\nc\"\r\n", "id,config\na,{\n", ",\n",
	)
}

func example(t testing.TB) string {
	t.Helper()
	f, err := datafile.Parse(examples.AcmeName, bytes.NewReader(examples.Acme), datafile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := datafile.WriteYAML(&b, f); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
