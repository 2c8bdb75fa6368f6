package s3_test

import (
	"flag"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/s3"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Many of these tests wait for a server that hangs, which needs no processor.
	_ = flag.Set("test.parallel", "32")
	testenv.Main(m)
}

func keys() secret.Map {
	return secret.Map{"access_key_id": secret.New("AKIACANARY0001"), "secret_access_key": secret.New("canary-secret-key")}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	full := keys()
	full["session_token"] = secret.New("canary-session-token")
	with := func(params map[string]any) providers.Input { return providers.Input{Params: params, Secrets: keys()} }
	providertest.Run(t, s3.New(), providertest.Cases{
		Minimal: with(map[string]any{"bucket": "acme-prod"}),
		Full: providers.Input{Params: map[string]any{
			"bucket": "acme-prod", "region": "us-east-1", "endpoint": "https://minio.example.com:9000",
			"path_style": true, "prefix": "uploads/",
		}, Secrets: full},
		Bad: map[string]providertest.Bad{
			"a region that is another host":  {Input: with(map[string]any{"bucket": "acme", "region": "evil.example/#"}), Want: []string{"/params/region pattern"}},
			"a bucket that is another path":  {Input: with(map[string]any{"bucket": "../other"}), Want: []string{"/params/bucket pattern"}},
			"an endpoint with a password":    {Input: with(map[string]any{"bucket": "acme", "endpoint": "https://u:p@h.example"}), Want: []string{"/params/endpoint format"}},
			"an endpoint without a scheme":   {Input: with(map[string]any{"bucket": "acme", "endpoint": "minio:9000"}), Want: []string{"/params/endpoint format"}},
			"an endpoint that is a file":     {Input: with(map[string]any{"bucket": "acme", "endpoint": "file://etc/passwd"}), Want: []string{"/params/endpoint format"}},
			"a boolean as text":              {Input: with(map[string]any{"bucket": "acme", "path_style": "true"}), Want: []string{"/params/path_style type"}},
			"a prefix with a line break":     {Input: with(map[string]any{"bucket": "acme", "prefix": "a\nb"}), Want: []string{"/params/prefix control_character"}},
			"a secret with NUL":              {Input: providers.Input{Params: map[string]any{"bucket": "acme"}, Secrets: secret.Map{"access_key_id": secret.New("k"), "secret_access_key": secret.New("a\x00b")}}, Want: []string{"/secrets/secret_access_key control_character"}},
			"nothing":                        {Input: providers.Input{}, Want: []string{"/params/bucket required", "/secrets/access_key_id required", "/secrets/secret_access_key required"}},
			"both names of one secret, once": {Input: providers.Input{Params: map[string]any{"bucket": "acme"}, Secrets: secret.Map{"access_key": secret.New("k"), "access_key_id": secret.New("k"), "secret_key": secret.New("s")}}, Want: []string{"/secrets/access_key conflict"}},
		},
		Imports: map[string]providertest.Import{
			"by kind":  {Raw: map[string]any{"s3": map[string]any{"bucket": "b"}}, Want: map[string]any{"bucket": "b"}},
			"by alias": {Raw: map[string]any{"aws_s3": map[string]any{"bucket": "b"}}, Want: map[string]any{"bucket": "b"}},
			"joined":   {Raw: map[string]any{"access": map[string]any{"key": "k"}}, Want: map[string]any{"access_key": "k"}},
			"wrapped":  {Raw: map[string]any{"credentials": map[string]any{"secret_key": "s"}}, Want: map[string]any{"secret_key": "s"}},
			"of aws iam": {
				Raw:  map[string]any{"AccessKey": map[string]any{"UserName": "acme", "AccessKeyId": "AKIA1", "Status": "Active", "SecretAccessKey": "s", "CreateDate": "2026-01-01"}},
				Want: map[string]any{"access_key_id": "AKIA1", "secret_access_key": "s"},
			},
			"of aws sts": {
				Raw: map[string]any{"Credentials": map[string]any{"AccessKeyId": "ASIA1", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "2026-01-01"},
					"AssumedRoleUser": map[string]any{"Arn": "arn:aws:sts::123456789012:assumed-role/acme/me"}},
				Want: map[string]any{"access_key_id": "ASIA1", "secret_access_key": "s", "session_token": "t"},
			},
			"of MinIO": {
				Raw:  map[string]any{"url": "https://console.example.com/api/v1/service-account-credentials", "accessKey": "k", "secretKey": "s", "api": "s3v4", "path": "auto"},
				Want: map[string]any{"access_key_id": "k", "secret_access_key": "s"},
			},
			"unchanged": {Raw: map[string]any{"bucket": "b", "other": int64(1)}, Want: map[string]any{"bucket": "b", "other": int64(1)}},
		},
		Test: true,
	})
}

func TestEndpointBindsEverySecret(t *testing.T) {
	t.Parallel()
	s := s3.New().Schema()
	if got := s.BoundSecrets("endpoint"); len(got) != len(s.Secrets) {
		t.Errorf("the endpoint binds %v of %d secrets", got, len(s.Secrets))
	}
}

func TestNoDefaults(t *testing.T) {
	t.Parallel()
	p := s3.New()
	c, err := p.Schema().Decode(providers.Input{Params: map[string]any{"bucket": "acme"}, Secrets: keys()}, providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Backend(t.Context(), c)
	if err != nil || len(b.Params) != 1 || len(b.Secrets) != 2 {
		t.Errorf("params %v, secrets %v, %v: unset optionals must be absent", b.Params, b.Secrets, err)
	}
}
