package builtin_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
)

// docs is the page that is generated from the schemas, the codes and the tables
// of traps that the kinds' tests have passed.
const docs = "../../docs/providers.md"

// declared stands in the tables for what an operator's file declares.
const declared providers.Kind = "a declared kind"

// folders are the packages whose folder isn't called as their kind.
var folders = map[string]providers.Kind{"gmail": "gmail_oauth2", "gdrive": "google_drive", "builtin": declared}

func TestDocs(t *testing.T) {
	t.Parallel()
	got := page(t)
	if *update {
		if err := os.WriteFile(docs, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(docs); err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/providers.md is not what the kinds say (%v): run the test with -update and read the diff", err)
	}
}

// page writes the page. It fails the test where a kind has no traps, or traps
// have no kind: the matrix is to be whole.
func page(t *testing.T) []byte {
	t.Helper()
	traps := trapTables(t)
	var b bytes.Buffer
	b.WriteString(`# Kinds of connector

<!-- Generated from the kinds' schemas and from the tables of cases that their tests pass:
     go test ./providers/builtin -update -->

Each kind says what it wants to know, and how a connection test goes about it. A test has three levels: **1** reaches and
authenticates, without a side effect; **2** looks for the permission or resource that is really needed; **3** writes or
sends, only when asked. It is a list of steps, each ok, warn, fail or skip with a stable code, a hint and, where possible, a
fix that one click applies. It ends within 15 s.

How to add a kind of your own: [provider-guide.md](provider-guide.md).

| kind | category | what it is |
|---|---|---|
`)
	kinds := builtin.Providers()
	slices.SortFunc(kinds, func(a, b providers.Provider) int {
		return strings.Compare(string(a.Schema().Kind), string(b.Schema().Kind))
	})
	for _, p := range kinds {
		s := p.Schema()
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s |\n", s.Kind, s.Kind, s.Category, s.Label)
	}
	for _, p := range kinds {
		s := p.Schema()
		fmt.Fprintf(&b, "\n## %s\n\n%s", s.Kind, cell(s.Description))
		if s.Docs != "" {
			fmt.Fprintf(&b, " [The vendor's document](%s).", s.Docs)
		}
		b.WriteString("\n\n")
		params(&b, s)
		for _, l := range s.Tests {
			fmt.Fprintf(&b, "- Level %d: %s", l.Level, l.Label)
			if l.SideEffects {
				b.WriteString(" (with side effects)")
			}
			b.WriteString("\n")
		}
		rows, ok := traps[s.Kind]
		if !ok {
			t.Errorf("the kind %s has no table of traps: see providertest.RunTraps", s.Kind)
			continue
		}
		delete(traps, s.Kind)
		trapTable(&b, rows)
	}
	b.WriteString(`
## Declared kinds

What a kind that a YAML file declares meets, shown with the one of the [guide](provider-guide.md#a-kind-in-yaml), whose host
the tenant types.
`)
	trapTable(&b, traps[declared])
	delete(traps, declared)
	b.WriteString(`
## Bad input

What every kind meets, and the cases that show it, by the names that they have in the tables above.
`)
	badInputTable(t, &b)
	for kind := range traps {
		t.Errorf("there are traps of %s, which is not a kind", kind)
	}
	b.WriteString(`
## Codes

Whose fault a finding is decides what becomes of the connector: one that worked turns to *error* over a fault of its config
only, not because its vendor is down.

| code | whose fault | what it means |
|---|---|---|
`)
	for _, c := range providers.TestCodes() {
		whose := string(c.Fault)
		if whose == "" {
			whose = "a warning"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Code, whose, cell(c.Hint))
	}
	return b.Bytes()
}

func trapTable(b *bytes.Buffer, rows string) {
	b.WriteString("\n| case | level | step | outcome | fix | document |\n|---|---|---|---|---|---|\n")
	b.WriteString(rows)
}

func params(b *bytes.Buffer, s *providers.Schema) {
	b.WriteString("| param | type | | default | meaning |\n|---|---|---|---|---|\n")
	for _, f := range s.Fields() {
		if f.Type == providers.Notice {
			continue
		}
		var marks []string
		if f.Required {
			marks = append(marks, "required")
		} else if f.RequiredWhen != nil {
			marks = append(marks, "required at times")
		}
		if f.Secret {
			marks = append(marks, "secret")
		}
		fallback := ""
		if f.Default != nil {
			fallback = fmt.Sprintf("`%v`", f.Default)
		}
		meaning := f.Label
		if f.Help != "" {
			meaning += ". " + f.Help
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", f.Name, f.Type, strings.Join(marks, ", "), fallback, cell(meaning))
	}
	b.WriteString("\n")
}

// cell makes text fit a cell of a table.
func cell(s string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "<", "&lt;").Replace(s)
}

// trapTables reads the tables that the kinds' tests compare themselves with.
func trapTables(t *testing.T) map[providers.Kind]string {
	t.Helper()
	out := map[providers.Kind]string{}
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "traps.tsv" {
			return err
		}
		folder := filepath.Base(filepath.Dir(filepath.Dir(path)))
		kind, ok := folders[folder]
		if !ok {
			kind = providers.Kind(folder)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var rows strings.Builder
		for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
			c := strings.Split(line, "\t")
			if len(c) != 7 {
				return fmt.Errorf("%s:%d has %d columns", path, i+1, len(c))
			}
			if i == 0 {
				continue
			}
			outcome := c[3]
			if c[4] != "" {
				outcome += " `" + c[4] + "`"
			}
			fix, doc := "", c[6]
			if c[5] != "" {
				fix = "`" + c[5] + "`"
			}
			if strings.HasPrefix(doc, "https://") {
				doc = "[source](" + doc + ")"
			}
			fmt.Fprintf(&rows, "| %s | %s | %s | %s | %s | %s |\n", cell(c[0]), c[1], c[2], outcome, cell(fix), cell(doc))
		}
		out[kind] = rows.String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
