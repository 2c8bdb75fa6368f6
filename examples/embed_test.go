package examples_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/examples"
)

// dev lets a demo value stand in for exactly the variables that the example names.
func TestVariables(t *testing.T) {
	t.Parallel()
	file, err := datafile.Parse(examples.AcmeName, bytes.NewReader(examples.Acme), datafile.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	named, files := importer.Placeholders(file)
	want := slices.Sorted(slices.Values(examples.AcmeVariables()))
	if got := slices.Sorted(slices.Values(named)); !slices.Equal(got, want) {
		t.Errorf("named %v, listed %v", got, want)
	}
	if len(files) != 0 {
		t.Errorf("an embedded file can't refer to others: %v", files)
	}
}

// The record of the documentation, word for word.
func TestTheDocumentedRecord(t *testing.T) {
	t.Parallel()
	const record = `<record id="connector_acme_s3" model="ir.connector">
  <field name="name">Acme S3</field>
  <field name="category">storage</field>
  <field name="kind">s3</field>
  <field name="organization_id" ref="res.organization.acme"/>
  <field name="is_default">true</field>
  <field name="config" eval="{'bucket': 'acme-prod', 'region': 'us-east-1',
      'access_key_id': '$ENV:S3_KEY', 'secret_access_key': '$ENV:S3_SECRET',}"/>
</record>`
	words := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if !strings.Contains(words(string(examples.Acme)), words(record)) {
		t.Error("examples/acme.xml has another record")
	}
}
