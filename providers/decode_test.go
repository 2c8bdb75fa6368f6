package providers_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
)

func registry(t *testing.T) *providers.Registry {
	t.Helper()
	r, err := builtin.Registry()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func schemaOf(t *testing.T, kind string) *providers.Schema {
	t.Helper()
	p, ok := registry(t).Lookup(kind)
	if !ok {
		t.Fatalf("no kind %s", kind)
	}
	return p.Schema()
}

func TestSeedRecordDecodes(t *testing.T) {
	t.Parallel()
	s := schemaOf(t, "aws_s3")
	in, err := s.Split(map[string]any{"bucket": "acme-prod", "region": "us-east-1", "access_key": "AK", "secret_access_key": "SK"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Decode(in, providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]any{"bucket": "acme-prod", "region": "us-east-1"}; !maps.Equal(c.Params, want) {
		t.Errorf("params %v", c.Params)
	}
	if !slices.Equal(c.Secrets.Names(), []string{"access_key_id", "secret_access_key"}) {
		t.Errorf("secrets %v", c.Secrets)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	s := schemaOf(t, "smtp")
	_, err := s.Decode(providers.Input{
		Params:  map[string]any{"hosst": "x", "port": "587", "tls": "ssl", "password": "p", "from": "nobody"},
		Secrets: secret.Map{"username": secret.New("u")},
	}, providers.DecodeOptions{})
	var got []string
	for _, v := range fault.Violations(err) {
		got = append(got, v.Pointer+" "+v.Code+" "+v.Message)
	}
	want := []string{
		`/params/from format must be an e-mail address, with or without a name: Acme <no-reply@acme.example>`,
		`/params/hosst unknown is unknown; did you mean "host"?`,
		`/params/host required is required`,
		`/params/password secret_as_param is a secret: give it under secrets`,
		`/params/port type must be a whole number`,
		`/params/tls enum must be one of starttls, implicit, none`,
		`/secrets/username secret_not_wanted is no secret: give it under params`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%v", got)
	}
}
