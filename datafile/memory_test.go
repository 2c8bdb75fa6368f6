package datafile_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/datafile"
)

// Twice the file may cost twice the memory and not four times: each shape was, or
// could have been, the one that fills a machine. Not parallel: it reads the
// counters of the whole process.
func TestMemoryGrowsWithTheFile(t *testing.T) { //nolint:paralleltest // see above
	indented := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "    k%d: v\n", i)
		}
		return b.String()
	}
	for _, row := range []struct {
		name, file string
		text       func(n int) string
	}{
		{"XML of unknown elements", "f.xml", func(n int) string { return "<ede>" + strings.Repeat("<x/>", n) + "</ede>" }},
		{"XML of nested elements", "f.xml", func(n int) string { return "<ede>" + strings.Repeat("<x>", n) }},
		{"XML of records", "f.xml", func(n int) string {
			return "<ede>" + strings.Repeat("<record id='a' model='m'/>", n) + "</ede>"
		}},
		{"XML of attributes", "f.xml", func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, " a%d=''", i)
			}
			return "<ede><record" + b.String() + "/></ede>"
		}},
		{"XML of line ends", "f.xml", func(n int) string { return "<ede>" + strings.Repeat("\n", n) + "</ede>" }},
		{"a literal of values", "f.xml", func(n int) string {
			return "<ede><record id='a' model='m'><field name='c' eval='[" + strings.Repeat("1,", n) + "]'/></record></ede>"
		}},
		{"YAML of list items", "f.yaml", func(n int) string { return "records:\n" + strings.Repeat("- a\n", n) }},
		{"YAML of a flow list", "f.yaml", func(n int) string { return "records: [" + strings.Repeat("1,", n) + "]" }},
		{"YAML of keys", "f.yaml", func(n int) string { return "records:\n- fields:\n" + indented(n) }},
		{"YAML of a long key over many", "f.yaml", func(n int) string {
			return strings.Repeat("a", n) + ":\n" + indented(min(n, 1000))
		}},
		{"YAML of blocks", "f.yaml", func(n int) string { return "records:\n" + deepBlock(min(n/16, 1000)) }},
		{"YAML of comments", "f.yaml", func(n int) string { return "records: []\n" + strings.Repeat("# a\n", n) }},
		{"CSV", "m.csv", func(n int) string { return "id,x\n" + strings.Repeat("a,b\n", n) }},
	} {
		allocated := func(n int) uint64 {
			var before, after runtime.MemStats
			text := row.text(n)
			runtime.ReadMemStats(&before)
			_, err := datafile.Parse(row.file, strings.NewReader(text), datafile.Limits{})
			runtime.ReadMemStats(&after)
			_ = err // most are refused, and rightly
			return after.TotalAlloc - before.TotalAlloc
		}
		const n = 1 << 13
		one, four := allocated(n), allocated(4*n)
		if four > 6*one+1<<20 {
			t.Errorf("%s: %d bytes became %d", row.name, one, four)
		}
	}
}
