package datafile_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/datafile"
)

// The same value in every spelling that an editor or a person may choose.
func TestSpellings(t *testing.T) {
	t.Parallel()
	text := func(s string) datafile.Value { return datafile.Value{Form: datafile.Text, Text: s} }
	literal := func(v any) datafile.Value { return datafile.Value{Form: datafile.Literal, Literal: v} }
	xml := func(field string) string { return "<ede><record id='a' model='m'>" + field + "</record></ede>" }
	yaml := func(value string) string {
		return "records:\n- id: a\n  model: m\n  fields:\n    x: " + value + "\n"
	}
	for _, row := range []struct {
		name, file, text string
		want             datafile.Value
	}{
		{"white space around text", "f.xml", xml("<field name='x'>\n   a  b\n</field>"), text("a  b")},
		{"white space kept by eval", "f.xml", xml("<field name='x' eval=\"' a '\"/>"), text(" a ")},
		{"CDATA", "f.xml", xml("<field name='x'><![CDATA[<a> & b]]></field>"), text("<a> & b")},
		{"comments", "f.xml", "<!-- one --><ede><!-- two --><record id='a' model='m'><!-- three --><field name='x'>a<!-- four -->b</field></record></ede><!-- five -->", text("ab")},
		{"references", "f.xml", xml("<field name='x'>&lt;&amp;&#233;&#x1F600;</field>"), text("<&é😀")},
		{"an empty element", "f.xml", xml("<field name='x'/>"), text("")},
		{"a mark at the beginning", "f.xml", "\xef\xbb\xbf<?xml version='1.0' encoding='UTF-8'?>" + xml("<field name='x'>a</field>"), text("a")},
		{"declared as ASCII", "f.xml", "<?xml version='1.0' encoding='US-ASCII'?>" + xml("<field name='x'>a</field>"), text("a")},
		{"line ends of Windows", "f.xml", strings.ReplaceAll(xml("\n<field name='x'>a\nb</field>\n"), "\n", "\r\n"), text("a\nb")},
		{"line ends of Windows in a literal", "f.xml", xml("<field name='x' eval=\"{'a': 1, # one\r\n 'b': '''c\r\nd'''}\"/>"), literal(map[string]any{"a": int64(1), "b": "c\nd"})},
		{"a namespace", "f.xml", "<ede xmlns='urn:x'>" + "<record id='a' model='m'><field name='x'>a</field></record></ede>", text("a")},

		{"plain", "f.yaml", yaml("a  b"), text("a  b")},
		{"a quoted tab", "f.yaml", yaml("'a\tb'"), text("a\tb")},
		{"a tab before a comment", "f.yaml", yaml("a\t# b"), text("a")},
		{"a tab in a block", "f.yaml", yaml("|-\n      a\tb"), text("a\tb")},
		{"the replacement character itself", "f.yaml", yaml("\"\ufffd\\ufffd\""), text("\ufffd\ufffd")},
		{"single quotes", "f.yaml", yaml("' it''s '"), text(" it's ")},
		{"double quotes", "f.yaml", yaml(`"\t\u00e9\x41\n"`), text("\té" + "A\n")},
		{"a pair of surrogates, as JSON writes it", "f.yaml", yaml(`"\ud83d\ude00"`), text("😀")},
		{"a block", "f.yaml", yaml("|\n      a\n       b\n"), text("a\n b\n")},
		{"a block without its line end", "f.yaml", yaml("|-\n      a\n      b"), text("a\nb")},
		{"a folded block", "f.yaml", yaml(">-\n      a\n      b"), text("a b")},
		{"comments in YAML", "f.yaml", "# one\n" + yaml("a # two") + "# three\n", text("a")},
		{"a hash that is none", "f.yaml", yaml("a#b"), text("a#b")},
		{"line ends of Windows in YAML", "f.yaml", strings.ReplaceAll(yaml("{a: 1, b: c}"), "\n", "\r\n"), literal(map[string]any{"a": int64(1), "b": "c"})},
		{"a block with line ends of Windows", "f.yaml", strings.ReplaceAll(yaml("|-\n      a\n      b"), "\n", "\r\n"), text("a\nb")},
		{"a mark at the beginning of YAML", "f.yaml", "\xef\xbb\xbf" + yaml("a"), text("a")},
		{"yes is text", "f.yaml", yaml("yes"), text("yes")},
		{"a date is text", "f.yaml", yaml("2026-01-01"), text("2026-01-01")},
		{"a version is text", "f.yaml", yaml("1.2.3"), text("1.2.3")},
		{"null", "f.yaml", yaml("~"), literal(nil)},
		{"nothing", "f.yaml", yaml(""), literal(nil)},
		{"a whole number", "f.yaml", yaml("587"), literal(int64(587))},
		{"a hexadecimal number", "f.yaml", yaml("0x1F"), literal(int64(31))},
		{"a number with a point", "f.yaml", yaml("1.50"), literal(1.5)},
		{"JSON", "f.yaml", `{"records": [{"id": "a", "model": "m", "fields": {"x": {"a": [1, "b", null, true]}}}]}`, literal(map[string]any{"a": []any{int64(1), "b", nil, true}})},
		{"ref", "f.yaml", yaml("{ref: b}"), datafile.Value{Form: datafile.Ref, Text: "b"}},
		{"a dict of just ref", "f.yaml", yaml("{ref: {ref: b}}"), literal(map[string]any{"ref": "b"})},

		{"CSV", "m.csv", "id,x\na,\" b \"\n", text("b")},
		{"CSV of Windows", "m.csv", "\xef\xbb\xbfid,x\r\na,\"b\r\nc\"\r\n", text("b\nc")},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := parse(t, row.file, row.text)
			if len(f.Records) != 1 || f.Records[0].ID != "a" || f.Records[0].Model != "m" {
				t.Fatalf("got %+v", f.Records)
			}
			if x, _ := f.Records[0].Field("x"); !reflect.DeepEqual(x.Value, row.want) {
				t.Errorf("got %#v, want %#v", x.Value, row.want)
			}
		})
	}
}
