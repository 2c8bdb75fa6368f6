package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/s3"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

// test decodes what an admin entered and runs a connection test.
func test(t *testing.T, p providers.Provider, in providers.Input, level int) providers.TestReport {
	t.Helper()
	c, err := p.Schema().Decode(in, providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: level})
	if err != nil {
		t.Fatal(err)
	}
	providertest.CheckReport(t, c, r)
	return r
}

// client is what an app builds from a backend, and from nothing else.
func client(b providers.Backend) *awss3.Client {
	text := func(name string) string { v, _ := b.Params[name].(string); return v }
	o := awss3.Options{Region: text("region"), Credentials: credentials.NewStaticCredentialsProvider(
		b.Secrets["access_key_id"].Reveal(), b.Secrets["secret_access_key"].Reveal(), b.Secrets["session_token"].Reveal())}
	if e := text("endpoint"); e != "" {
		o.BaseEndpoint = aws.String(e)
	}
	o.UsePathStyle, _ = b.Params["path_style"].(bool)
	return awss3.New(o)
}

func TestAnObjectWithTheBackendAlone(t *testing.T) {
	t.Parallel()
	server := testenv.S3(t)
	name := newBucket(t)
	p := s3.New()
	c, err := p.Schema().Decode(input(map[string]any{"bucket": name, "region": server.Region, "endpoint": server.Endpoint,
		"path_style": true, "prefix": "uploads/"}, administrator(t)), providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Backend(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	app, object := client(b), b.Params["prefix"].(string)+"hello.txt"
	if _, err := app.PutObject(t.Context(), &awss3.PutObjectInput{Bucket: aws.String(b.Params["bucket"].(string)), Key: aws.String(object),
		Body: strings.NewReader("written with what was resolved")}); err != nil {
		t.Fatal(err)
	}
	got, err := root(t).GetObject(t.Context(), &awss3.GetObjectInput{Bucket: aws.String(name), Key: aws.String("uploads/hello.txt")})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if text, err := io.ReadAll(got.Body); err != nil || string(text) != "written with what was resolved" {
		t.Errorf("%q, %v", text, err)
	}
}

// A sovereign cloud: the tenant enters a bucket, the operator knows the store. What
// was tested is what the app gets.
func TestTheOperatorsEndpoint(t *testing.T) {
	t.Parallel()
	server := testenv.S3(t)
	rt := runtime(t, "", nil)
	rt.Endpoints = map[string]string{"s3": server.Endpoint + "/"}
	p := bound(rt)
	name := newBucket(t)
	in := input(map[string]any{"bucket": name, "region": server.Region}, administrator(t))
	if r := test(t, p, in, 3); !r.OK {
		t.Fatal(providertest.Render(r))
	}
	c, err := p.Schema().Decode(in, providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Backend(t.Context(), c)
	if err != nil || b.Params["endpoint"] != server.Endpoint {
		t.Fatalf("%v, %v", b.Params, err)
	}
	if _, err := client(b).HeadBucket(t.Context(), &awss3.HeadBucketInput{Bucket: aws.String(name)}); err != nil {
		t.Error(err)
	}
	in.Params["endpoint"] = "https://own.acme.example"
	if c, err = p.Schema().Decode(in, providers.DecodeOptions{}); err != nil {
		t.Fatal(err)
	}
	if b, err = p.Backend(t.Context(), c); err != nil || b.Params["endpoint"] != "https://own.acme.example" {
		t.Errorf("the tenant's own endpoint: %v, %v", b.Params, err)
	}
}

// Whatever the SDK would find by itself belongs to the platform.
func TestNothingOfThePlatformIsUsed(t *testing.T) {
	for name, v := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIAPLATFORM", "AWS_SECRET_ACCESS_KEY": "platform", "AWS_SESSION_TOKEN": "platform",
		"AWS_REGION": "eu-west-9", "AWS_DEFAULT_REGION": "eu-west-9", "AWS_PROFILE": "nobody", "AWS_CONFIG_FILE": "/nowhere",
		"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1", "AWS_USE_FIPS_ENDPOINT": "true",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1",
	} {
		t.Setenv(name, v)
	}
	f := &fake{}
	if r := test(t, bound(runtime(t, f.start(t), nil)), input(nil, nil), 3); !r.OK {
		t.Fatal(providertest.Render(r))
	}
	for i, h := range f.headers {
		if a := h.Get("Authorization"); !strings.Contains(a, "Credential=AKIACANARY0001/") || !strings.Contains(a, "/us-east-1/s3/") {
			t.Errorf("%s was signed as %s", f.calls[i], a)
		}
		if h.Get("X-Amz-Security-Token") != "" {
			t.Errorf("%s carries a session token", f.calls[i])
		}
	}
}

func TestWhatEachLevelAsks(t *testing.T) {
	t.Parallel()
	for level, want := range map[int]string{
		1: `^HEAD /$`,
		2: `^HEAD /;GET /\?list-type=2&max-keys=1&prefix=uploads%2F$`,
		3: `^HEAD /;GET /\?list-type=2&max-keys=1&prefix=uploads%2F;PUT KEY\?x-id=PutObject;GET KEY\?x-id=GetObject;DELETE KEY\?x-id=DeleteObject$`,
	} {
		f := &fake{}
		secrets := keys()
		secrets["session_token"] = secret.New("canary-session")
		if r := test(t, bound(runtime(t, f.start(t), nil)), input(map[string]any{"prefix": "uploads/"}, secrets), level); !r.OK {
			t.Error(providertest.Render(r))
		}
		key := regexp.MustCompile(`/uploads/\.patchbay-test-[0-9a-z]{26}`)
		if got := key.ReplaceAllString(strings.Join(f.calls, ";"), "KEY"); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("level %d asked %s", level, got)
		}
		if len(f.objects) > 0 {
			t.Errorf("level %d left %d objects", level, len(f.objects))
		}
		for _, h := range f.headers {
			if h.Get("X-Amz-Security-Token") != "canary-session" {
				t.Errorf("level %d left the session token out", level)
			}
		}
	}
}

func TestLevel3LeavesNothingBehindOnARealServer(t *testing.T) {
	t.Parallel()
	p, in := versity(nil)(t)
	if r := test(t, p, in, 3); !r.OK {
		t.Fatal(providertest.Render(r))
	}
	left, err := root(t).ListObjectsV2(t.Context(), &awss3.ListObjectsV2Input{Bucket: aws.String(in.Params["bucket"].(string))})
	if err != nil || len(left.Contents) > 0 {
		t.Errorf("%d objects are left, %v", len(left.Contents), err)
	}
}

// What was written goes again, whatever failed in between.
func TestTheProbeObjectIsDeleted(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		f    *fake
		want []string // the end of each DELETE, in order
	}{
		"after a download that failed":     {&fake{get: says(500, "InternalError", "")}, []string{"x-id=DeleteObject"}},
		"after a download of another kind": {&fake{get: page(200)}, []string{"x-id=DeleteObject"}},
		"after an upload that broke":       {&fake{put: says(500, "InternalError", "")}, []string{"x-id=DeleteObject"}},
		"after an upload without answer":   {&fake{put: vanishing}, []string{"x-id=DeleteObject"}},
		"by its version":                   {versioned(), []string{"versionId=v1&x-id=DeleteObject"}},
		"as far as a lock lets":            {locked(), []string{"versionId=v1&x-id=DeleteObject", "x-id=DeleteObject"}},
		"but not what was refused":         {&fake{put: says(403, "AccessDenied", "")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, bound(runtime(t, row.f.start(t), nil)), input(nil, nil), 3)
			var got []string
			for _, call := range row.f.calls {
				if strings.HasPrefix(call, "DELETE") {
					_, query, _ := strings.Cut(call, "?")
					got = append(got, query)
				}
			}
			if !slices.Equal(got, row.want) {
				t.Errorf("%q", got)
			}
		})
	}
}

// A store that is in trouble is asked once, not five times.
func TestNothingIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := &fake{head: bare(503), list: says(503, "ServiceUnavailable", "")}
	test(t, bound(runtime(t, f.start(t), nil)), input(nil, nil), 1)
	if len(f.calls) != 2 {
		t.Errorf("%q", f.calls)
	}
}

func TestTheRegionThatIsSignedFor(t *testing.T) {
	t.Parallel()
	const r2 = "account.r2.cloudflarestorage.com"
	for name, row := range map[string]struct {
		params map[string]any
		want   string
	}{
		"Amazon":     {nil, "us-east-1"},
		"a region":   {map[string]any{"region": "eu-west-1", "endpoint": "https://" + host, "path_style": true}, "eu-west-1"},
		"MinIO":      {map[string]any{"endpoint": "https://" + host, "path_style": true}, "us-east-1"},
		"Cloudflare": {map[string]any{"endpoint": "https://" + r2, "path_style": true}, "auto"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fake{}
			test(t, bound(runtime(t, f.start(t), names{r2: loopback})), input(row.params, nil), 1)
			if a := f.headers[0].Get("Authorization"); !strings.Contains(a, "/"+row.want+"/s3/aws4_request") {
				t.Error(a)
			}
		})
	}
}

func TestACancelledTestEndsAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f := &fake{list: func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}}
	p := bound(runtime(t, f.start(t), nil))
	c, err := p.Schema().Decode(input(nil, nil), providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	r, err := p.TestConnection(ctx, c, providers.TestOptions{Level: 2})
	if err != nil || r.Code() != providers.CodeCancelled || time.Since(begun) > providers.StepTimeout/2 {
		t.Errorf("%+v, %v after %s", r, err, time.Since(begun))
	}
}

// The checksums that Amazon wants by default are sent to Amazon, and to no other
// store: see the trap of a store that refuses them.
func TestChecksumsGoToAmazonAlone(t *testing.T) {
	t.Parallel()
	for name, params := range map[string]map[string]any{"Amazon": nil, "another": {"endpoint": "https://" + host, "path_style": true}} {
		f := &fake{}
		test(t, bound(runtime(t, f.start(t), nil)), input(params, nil), 3)
		sent := false
		for _, h := range f.headers {
			for key := range h {
				sent = sent || strings.HasPrefix(key, "X-Amz-Sdk-Checksum") || strings.HasPrefix(key, "X-Amz-Checksum") || key == "X-Amz-Trailer"
			}
		}
		if sent != (name == "Amazon") {
			t.Errorf("%s: checksums sent is %t", name, sent)
		}
	}
}

// The fakes stand in for Amazon only where versitygw can't. Where both can, they
// must say the same.
func TestTheFakesSpeakAsTheRealServerDoes(t *testing.T) {
	t.Parallel()
	server := testenv.S3(t)
	for code, c := range map[string]providers.Backend{
		"InvalidAccessKeyId":    {Params: map[string]any{"region": server.Region}, Secrets: secret.Map{"access_key_id": secret.New("NOBODY"), "secret_access_key": secret.New("x")}},
		"SignatureDoesNotMatch": {Params: map[string]any{"region": server.Region}, Secrets: secret.Map{"access_key_id": secret.New(server.AccessKeyID), "secret_access_key": secret.New("x")}},
		"NoSuchBucket":          {Params: map[string]any{"region": server.Region}, Secrets: administrator(t)},
	} {
		c.Params["endpoint"], c.Params["path_style"] = server.Endpoint, true
		var raw bytes.Buffer
		_, err := client(c).ListObjectsV2(t.Context(), &awss3.ListObjectsV2Input{Bucket: aws.String("acme-nothing-here")}, func(o *awss3.Options) {
			o.HTTPClient = tee{&raw}
		})
		api, ok := errors.AsType[smithy.APIError](err)
		if !ok || api.ErrorCode() != code || !strings.Contains(raw.String(), "<Error><Code>"+code+"</Code>") {
			t.Errorf("%s: %v\n%s", code, err, raw.String())
		}
	}
}

// tee keeps a copy of what comes back.
type tee struct{ into *bytes.Buffer }

func (c tee) Do(req *http.Request) (*http.Response, error) {
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	c.into.Reset()
	if _, err := c.into.ReadFrom(res.Body); err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(c.into.Bytes()))
	return res, nil
}
