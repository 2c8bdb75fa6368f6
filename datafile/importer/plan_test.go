package importer_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/examples"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// What an operator reads before saying yes: see the golden file.
func TestPlanIsReadable(t *testing.T) {
	t.Parallel()
	const golden = "testdata/plans.txt"
	w := newWorld(t)
	var b strings.Builder
	example := string(examples.Acme)
	show := func(what, text string, o importer.Options) {
		b.WriteString("== " + what + "\n" + w.plan(text, o).String() + "\n")
	}
	show("first import", example, importer.Options{})
	w.apply(example, importer.Options{})
	show("again", example, importer.Options{})
	w.env["S3_SECRET"] = "canary-rotated"
	show("a rotated secret", example, importer.Options{})
	second := strings.Replace(example, "</patchbay>", `<record id="second" model="ir.connector"><field name="name">Second</field><field name="kind">s3</field>
<field name="organization_id" ref="organization_acme"/><field name="is_default">1</field><field name="config" eval="`+plainS3+`"/></record></patchbay>`, 1)
	second = strings.Replace(second, `<field name="is_default">true</field>`, "", 1)
	show("another default", second, importer.Options{})
	w.edit(acme, "connector_acme_s3", editParam("bucket", "by-api"))
	w.edit(acme, "connector_acme_s3", editParam("region", "by-api"))
	w.editSecret(acme, "connector_acme_s3", "secret_access_key", "canary-api")
	changed := strings.Replace(example, "acme-prod", "by-file", 1)
	show("a conflict", changed, importer.Options{})
	show("a conflict, forced", changed, importer.Options{Force: true})
	show("agreement", strings.Replace(strings.Replace(example, "acme-prod", "by-api", 1), "$ENV:S3_SECRET", "canary-api", 1), importer.Options{})
	w.edit(acme, "connector_acme_smtp", func(c *connector.Connector) { c.Default, c.DeletedAt = false, c.UpdatedAt.Add(1) })
	w.env["S3_SECRET"] = "canary-s3-secret"
	show("a deleted connector", example, importer.Options{})
	show("a deleted connector, restored", example, importer.Options{Restore: true})
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the plans differ from %s; run with -update and read the diff:\n%s", golden, b.String())
	}
}
