package importer_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
)

// The examples of the operators' reference are imported one after the other, and
// its tables of fields name what is read.
func TestReference(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/data-files.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	w := newWorld(t)
	blocks := regexp.MustCompile("(?s)```(xml|yaml|csv)(?: ([a-z.]+))?\n(.*?)```").FindAllStringSubmatch(text, -1)
	if len(blocks) != 3 {
		t.Fatalf("%d examples", len(blocks))
	}
	for _, b := range blocks {
		name := b[2]
		if name == "" {
			name = "example." + b[1]
		}
		p, err := w.im.Plan(t.Context(), w.parse(name, b[3]), importer.Options{Tenant: acme})
		if err != nil {
			t.Fatalf("%v\n%s", err, b[3])
		}
		if _, err := w.im.Apply(t.Context(), p); err != nil || !p.Changed() {
			t.Fatalf("%v\n%s", err, p)
		}
	}
	c := w.connector(acme, "acme_files")
	if c.Params["prefix"].Value != "uploads/" || c.Params["path_style"].Value != false || !c.Default || c.Organization.String() != "hq" {
		t.Errorf("%+v", c)
	}
	if m := w.connector(acme, "acme_mail"); !m.NoUpdate || m.Params["from"].Value != "Acme <no-reply@acme.example>" {
		t.Errorf("%+v", m)
	}
	if f, err := w.im.Export(t.Context(), acme); err != nil {
		t.Error(err)
	} else {
		var b strings.Builder
		if err := datafile.WriteXML(&b, f); err != nil || !strings.Contains(b.String(), "$ENV:ACME_MAIL_PASSWORD") {
			t.Errorf("%v\n%s", err, b.String())
		}
	}

	for model, fields := range importer.Vocabulary() {
		_, section, found := strings.Cut(text, "### `"+model+"`\n")
		if !found {
			t.Errorf("%s has no section", model)
			continue
		}
		section, _, _ = strings.Cut(section, "\n#")
		for _, f := range fields {
			if !regexp.MustCompile(`(?m)^\|[^|]*` + "`" + f + "`").MatchString(section) {
				t.Errorf("%s: field %s is not in the reference", model, f)
			}
		}
	}
}
