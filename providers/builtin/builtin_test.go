package builtin_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/patchbay-dev/patchbay/providers/builtin"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The JSON Schemas are what other people's forms are built on: a change shows
// in the diff of its golden file.
func TestJSONSchemaGolden(t *testing.T) {
	t.Parallel()
	for _, p := range builtin.Providers() {
		s := p.Schema()
		t.Run(string(s.Kind), func(t *testing.T) {
			t.Parallel()
			got, err := json.MarshalIndent(s.JSONSchema(), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, '\n')
			file := filepath.Join("testdata", string(s.Kind)+".schema.json")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs; run the test with -update and read the diff", file)
			}
		})
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	r, err := builtin.Registry()
	if err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]string{
		"s3": "s3", "aws_s3": "s3", "smtp": "smtp", "sendgrid": "sendgrid", "mailgun": "mailgun",
		"gmail_oauth2": "gmail_oauth2", "gmail": "gmail_oauth2", "google_drive": "google_drive", "gdrive": "google_drive",
	} {
		p, ok := r.Lookup(name)
		if !ok || string(p.Schema().Kind) != kind {
			t.Errorf("%s is not %s", name, kind)
		}
	}
}

// A command asks for the kinds twice where a folder of declared ones is set, and
// reading the files takes milliseconds.
func TestKindsAreMadeOnce(t *testing.T) {
	t.Parallel()
	first, second := builtin.Providers(), builtin.Providers()
	for i := range first {
		if first[i].Schema() != second[i].Schema() {
			t.Errorf("%s is made anew", first[i].Schema().Kind)
		}
	}
	first[0] = nil
	if builtin.Providers()[0] == nil {
		t.Error("the list is shared with its callers")
	}
}
