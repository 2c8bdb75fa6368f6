package s3

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/patchbay-dev/patchbay/providers"
)

// answerLimit is how much of an answer is read. All that the test asks for has a
// few KiB.
const answerLimit = 1 << 20

var errTooLarge = errors.New("the answer is larger than any such answer should be")

// answer is what came back for one request, whatever the SDK made of it.
type answer struct {
	status  int // 0: there is none
	header  http.Header
	root    string // the name of the XML document's root, "" for anything else
	code    string // of an Error document
	region  string // of an Error document
	content []byte
	err     error // why there is none
}

// wire is the SDK's way to the network. It keeps the last answer: a HEAD's
// headers, an error's region and the root of a document that only looks like a
// success are lost behind the SDK's types.
type wire struct {
	client s3.HTTPClient
	last   answer
}

// Do implements s3.HTTPClient.
func (w *wire) Do(req *http.Request) (*http.Response, error) {
	res, err := w.client.Do(req)
	if err != nil {
		w.last = answer{err: err}
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, answerLimit+1))
	_ = res.Body.Close()
	if err == nil && len(body) > answerLimit {
		err = errTooLarge
	}
	if err != nil {
		w.last = answer{err: err}
		return nil, err
	}
	w.last = read(res, body)
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// read takes an answer apart.
func read(res *http.Response, body []byte) answer {
	a := answer{status: res.StatusCode, header: res.Header, content: body}
	var doc struct {
		XMLName      xml.Name
		Code, Region string
	}
	if xml.Unmarshal(body, &doc) == nil {
		a.root = doc.XMLName.Local
		if a.root == "Error" {
			a.code, a.region = doc.Code, doc.Region
		}
	}
	if h := res.Header.Get("X-Amz-Bucket-Region"); h != "" {
		a.region = h
	}
	// It is offered as a fix: a server's free text has no place there.
	if !regionForm.MatchString(a.region) {
		a.region = ""
	}
	return a
}

var regionForm = regexp.MustCompile(regionName.Pattern)

// store is a bucket as one way of addressing it sees it.
type store struct {
	api  *s3.Client
	wire *wire
}

// newStore sets the SDK up by hand. Whatever it would find by itself (environment,
// shared files, instance metadata) is the platform's, never the tenant's.
func newStore(rt providers.Runtime, c providers.Config, endpoint, region string, pathStyle bool) *store {
	w := &wire{client: rt.Client()}
	o := s3.Options{
		Region: region, UsePathStyle: pathStyle, HTTPClient: w,
		Credentials: credentials.NewStaticCredentialsProvider(
			c.Secrets["access_key_id"].Reveal(), c.Secrets["secret_access_key"].Reveal(), c.Secrets["session_token"].Reveal()),
		Retryer: aws.NopRetryer{}, // a report tells what happened, not what happened in the end
		// A clock that is wrong here is wrong for the apps beside us too.
		DisableClockSkewCorrection:                true,
		DisableLogOutputChecksumValidationSkipped: true,
		// As an app's SDK does by default. Set up by hand, it would send none.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}
	if endpoint != "" {
		o.BaseEndpoint = aws.String(endpoint)
		// Some compatible stores refuse the checksums that Amazon wants by default.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	}
	return &store{api: s3.New(o), wire: w}
}

// do runs one call and returns the answer to it. ok is false where there is none:
// then o is the outcome.
func (s *store) do(ctx context.Context, call func(context.Context, *s3.Client) error) (a answer, o providers.Outcome, ok bool) {
	s.wire.last = answer{}
	err := call(ctx, s.api)
	a = s.wire.last
	switch {
	case a.status != 0:
		return a, providers.Outcome{}, true
	case ctx.Err() != nil:
		return a, providers.NetworkOutcome(ctx.Err()), false
	case errors.Is(a.err, errTooLarge):
		return a, providers.Failed(providers.CodeTooLarge, ""), false
	case a.err != nil:
		return a, providers.NetworkOutcome(a.err), false
	case err != nil: // nothing was sent
		return a, providers.Failed(providers.CodeConfigIncomplete, "Bucket, region and endpoint don't make an address together."), false
	}
	return a, providers.Failed(providers.CodeInternal, ""), false
}

// regionOf is the region that requests are signed for.
func regionOf(c providers.Config, endpoint string) string {
	if r := c.Text("region"); r != "" {
		return r
	}
	if u, err := url.Parse(endpoint); err == nil && strings.HasSuffix(u.Hostname(), ".r2.cloudflarestorage.com") {
		return "auto" // https://developers.cloudflare.com/r2/api/s3/api/
	}
	// Amazon's oldest: its endpoint tells where a bucket really is. MinIO and others
	// that know no regions take it too.
	return "us-east-1"
}
