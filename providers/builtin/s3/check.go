package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/oklog/ulid/v2"

	"github.com/patchbay-dev/patchbay/providers"
)

// check is one connection test, by one goroutine.
type check struct {
	p                *Provider
	c                providers.Config
	name, prefix     string
	endpoint, region string
	pathStyle        bool
	store            *store
	head             answer // to HeadBucket
	key, version     string // of the probe object
	content          []byte
	written          bool // the probe object may be there
}

func newCheck(p *Provider, c providers.Config) *check {
	endpoint := p.endpoint(c)
	k := &check{
		p: p, c: c, name: c.Text("bucket"), prefix: c.Text("prefix"),
		endpoint: endpoint, region: regionOf(c, endpoint), pathStyle: c.Bool("path_style"),
	}
	k.store = newStore(p.rt, c, k.endpoint, k.region, k.pathStyle)
	return k
}

func (k *check) insecure() bool { return strings.HasPrefix(k.endpoint, "http://") }

func (k *check) headBucket(ctx context.Context, s *store) (answer, providers.Outcome, bool) {
	return s.do(ctx, func(ctx context.Context, api *s3.Client) error {
		_, err := api.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(k.name)})
		return err
	})
}

// listOne asks for one key under the prefix: a key may be allowed to list there
// and nowhere else.
func (k *check) listOne(ctx context.Context, s *store) (answer, providers.Outcome, bool) {
	return s.do(ctx, func(ctx context.Context, api *s3.Client) error {
		in := &s3.ListObjectsV2Input{Bucket: aws.String(k.name), MaxKeys: aws.Int32(1)}
		if k.prefix != "" {
			in.Prefix = aws.String(k.prefix)
		}
		_, err := api.ListObjectsV2(ctx, in)
		return err
	})
}

func (k *check) connect(ctx context.Context) providers.Outcome {
	part, cancel := context.WithTimeout(ctx, providers.StepTimeout-otherTime)
	defer cancel()
	a, o, ok := k.headBucket(part, k.store)
	if !ok {
		return k.otherStyle(ctx, o)
	}
	k.head = a
	return providers.Good()
}

func (k *check) bucket(ctx context.Context) providers.Outcome {
	a := k.head
	switch {
	case a.status == http.StatusOK && k.endpoint == "":
		return k.good(a)
	case a.status != http.StatusOK && a.region != "" && a.region != k.region:
		return k.wrongRegion(a)
	}
	part, cancel := context.WithTimeout(ctx, providers.StepTimeout-otherTime)
	defer cancel()
	// Another store than Amazon's may be none at all: any web server says 200 to a
	// HEAD. The list has to look like one.
	b, o, ok := k.listOne(part, k.store)
	if !ok {
		return o
	}
	if o = k.judge(b); o.Status == providers.StepOK {
		return k.good(a)
	}
	return k.otherStyle(ctx, o)
}

// good is the outcome for a bucket that answers.
func (k *check) good(a answer) providers.Outcome {
	if a.region != "" && a.region != k.region {
		return providers.Warned(providers.CodeWrongRegion, "The bucket answers, but it is in "+a.region+".").
			WithFix("Use "+a.region, map[string]any{"region": a.region})
	}
	return providers.Good()
}

// otherTime bounds the look at the bucket by path-style addresses.
const otherTime = 3 * time.Second

// otherStyle looks once whether path-style addresses work where bucket.host did
// not: the name doesn't resolve, its certificate is for the host alone, or the
// store takes the bucket's name for its own. It never turns a finding into a
// success, it only adds a fix.
func (k *check) otherStyle(ctx context.Context, o providers.Outcome) providers.Outcome {
	if k.pathStyle || k.endpoint == "" || k.byAddress() {
		return o
	}
	switch o.Code { // the store knew the bucket, or nothing could be tried
	case providers.CodeKeyUnknown, providers.CodeSignatureMismatch, providers.CodeCredentialsExpired, providers.CodeClockSkew,
		providers.CodeWrongRegion, providers.CodeNoNetwork, providers.CodeCancelled, providers.CodeConfigIncomplete,
		providers.CodeEgressDenied, providers.CodeRateLimited:
		return o
	}
	ctx, cancel := context.WithTimeout(ctx, otherTime)
	defer cancel()
	a, _, ok := k.listOne(ctx, newStore(k.p.rt, k.c, k.endpoint, k.region, true))
	if !ok || k.judge(a).Status != providers.StepOK {
		return o
	}
	if o.Hint == "" {
		o.Hint = o.Code.Info().Hint
	}
	o.Hint += " With path-style addresses the bucket is found."
	return o.WithFix("Use path-style addresses", map[string]any{"path_style": true})
}

// byAddress tells whether the endpoint is an IP address: the SDK uses path style
// by itself then.
func (k *check) byAddress() bool {
	u, err := url.Parse(k.endpoint)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(u.Hostname())
	return err == nil
}

func (k *check) list(ctx context.Context) providers.Outcome {
	a, o, ok := k.listOne(ctx, k.store)
	if !ok {
		return o
	}
	return k.judge(a)
}

// put writes the probe object.
func (k *check) put(ctx context.Context) providers.Outcome {
	k.key = k.prefix + ".patchbay-test-" + strings.ToLower(ulid.Make().String())
	k.content = []byte("Written by a connection test of Patchbay, which deletes it again. " + rand.Text() + "\n")
	k.written = true
	a, o, ok := k.store.do(ctx, func(ctx context.Context, api *s3.Client) error {
		_, err := api.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(k.name), Key: aws.String(k.key),
			Body: bytes.NewReader(k.content), ContentLength: aws.Int64(int64(len(k.content))), ContentType: aws.String("text/plain")})
		return err
	})
	if !ok {
		return o // it may have arrived all the same
	}
	if a.status != http.StatusOK {
		k.written = a.status >= 500
		if o = k.judge(a); o.Code == providers.CodePermissionDenied {
			return providers.Failed(o.Code, "The key may not write here: it needs s3:PutObject.")
		}
		return o
	}
	if v := a.header.Get("X-Amz-Version-Id"); v != "null" {
		k.version = v
	}
	return providers.Good()
}

// get reads the probe object back. A key that may only write is no failure.
func (k *check) get(ctx context.Context) providers.Outcome {
	a, o, ok := k.store.do(ctx, func(ctx context.Context, api *s3.Client) error {
		_, err := api.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(k.name), Key: aws.String(k.key)})
		return err
	})
	switch {
	case !ok:
		return o
	case a.status == http.StatusOK && bytes.Equal(a.content, k.content):
		return providers.Good()
	case a.status == http.StatusOK:
		return providers.Failed(providers.CodeUnexpectedBody, "What was read is not what was written.")
	case a.code == "NoSuchKey":
		return providers.Failed(providers.CodeUnexpectedBody, "What was written is not there when it is read.")
	}
	if o = k.judge(a); o.Code == providers.CodePermissionDenied {
		return providers.Warned(o.Code, "The key may write but not read: for that it needs s3:GetObject.")
	}
	return o
}

// remove deletes the probe object: the version itself where the bucket keeps
// versions, so that nothing is left, else what can be deleted.
func (k *check) remove(ctx context.Context) providers.Outcome {
	if k.version != "" {
		if a, _, ok := k.delete(ctx, k.version); ok && a.status/100 == 2 {
			return providers.Good()
		}
	}
	a, _, ok := k.delete(ctx, "")
	switch {
	case !ok || a.status/100 != 2:
		return providers.Warned(providers.CodeTracesLeft, "The test object "+providers.Quote(k.key)+
			" could not be deleted: it needs s3:DeleteObject, and no object lock. Delete it by hand.")
	case k.version != "":
		return providers.Warned(providers.CodeTracesLeft, "The bucket keeps versions or locks objects: an old version of "+
			providers.Quote(k.key)+" is left, with a delete marker.")
	}
	return providers.Good()
}

func (k *check) delete(ctx context.Context, version string) (answer, providers.Outcome, bool) {
	return k.store.do(ctx, func(ctx context.Context, api *s3.Client) error {
		in := &s3.DeleteObjectInput{Bucket: aws.String(k.name), Key: aws.String(k.key)}
		if version != "" {
			in.VersionId = aws.String(version)
		}
		_, err := api.DeleteObject(ctx, in)
		return err
	})
}

func (k *check) wrongRegion(a answer) providers.Outcome {
	return providers.Failed(providers.CodeWrongRegion, "The bucket is in "+a.region+", not in "+k.region+".").
		WithFix("Use "+a.region, map[string]any{"region": a.region})
}

// skew is how far a server's clock may be from ours before a refusal is blamed on
// it. Amazon refuses at 15 minutes; others sooner.
const skew = 5 * time.Minute

// judge says what an answer to anything but HEAD means. Its order: what the
// error's code says for certain, what it may mean, the status.
// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func (k *check) judge(a answer) providers.Outcome {
	moved := a.region != "" && a.region != k.region
	switch a.code {
	case "InvalidAccessKeyId":
		return providers.Failed(providers.CodeKeyUnknown, "The store does not know this access key id.")
	case "ExpiredToken", "TokenRefreshRequired":
		return providers.Failed(providers.CodeCredentialsExpired, "The session token has expired. Temporary credentials are not renewed here: enter new ones.")
	case "InvalidToken":
		return providers.Failed(providers.CodeAuthFailed, "The session token is refused: it belongs to another key, or is not whole.")
	case "RequestTimeTooSkewed", "RequestExpired":
		return providers.Failed(providers.CodeClockSkew, "")
	case "SignatureDoesNotMatch":
		if k.skewed(a) {
			return providers.Failed(providers.CodeClockSkew, "")
		}
		return providers.Failed(providers.CodeSignatureMismatch, "The secret access key is not the one of this access key id.")
	case "NoSuchBucket":
		return providers.Failed(providers.CodeBucketNotFound, "")
	case "InvalidBucketName":
		return providers.Failed(providers.CodeBucketNotFound, "The store takes this for no bucket's name.")
	case "VirtualHostDomainRequired", "SecondLevelDomainForbidden": // Huawei OBS, Alibaba OSS
		return providers.Failed(providers.CodeBucketNotFound, "The store wants the bucket's name in the host name, not in the path.").
			WithFix("Don't use path-style addresses", map[string]any{"path_style": nil})
	case "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "InvalidRegion":
		if moved {
			return k.wrongRegion(a)
		}
		return providers.Failed(providers.CodeWrongRegion, "The store refuses the region "+k.region+", or the form of the access key id.")
	case "SlowDown", "TooManyRequests", "RequestLimitExceeded":
		return providers.Failed(providers.CodeRateLimited, "")
	case "NotImplemented":
		return providers.Failed(providers.CodeUnexpectedStatus, "The store does not know this request.")
	case "QuotaExceeded", "XMinioStorageFull":
		return providers.Failed(providers.CodeQuotaExceeded, "")
	}
	if o, wants := providers.WantsTLS(a.status, a.content); wants && strings.HasPrefix(k.endpoint, "http://") {
		return o
	}
	switch {
	case a.status == http.StatusOK && a.root == "ListBucketResult":
		return providers.Good()
	case a.status == http.StatusOK && a.root == "ListAllMyBucketsResult":
		return providers.Failed(providers.CodeBucketNotFound, "The store did not see the bucket's name in the host name.")
	case moved && slices.Contains([]int{301, 307, 400}, a.status):
		return k.wrongRegion(a)
	case a.status >= 300 && a.status < 400:
		return providers.Failed(providers.CodeRedirected, "")
	case a.status == http.StatusTooManyRequests:
		return providers.Failed(providers.CodeRateLimited, "")
	case a.status >= 500:
		return providers.Failed(providers.CodeVendorError, "")
	case (a.status == http.StatusForbidden || a.status == http.StatusUnauthorized) && k.skewed(a):
		return providers.Failed(providers.CodeClockSkew, "")
	case a.root != "Error": // a web page, a proxy, an S3 console
		return providers.Failed(providers.CodeProtocolError, "What answers here is not an S3 service. Check the endpoint.")
	case a.status == http.StatusUnauthorized:
		return providers.Failed(providers.CodeAuthFailed, "")
	case a.status == http.StatusForbidden:
		return providers.Warned(providers.CodePermissionDenied, "The key is right but may not list the bucket: it lacks s3:ListBucket, or the bucket is another account's. "+
			"A key that is meant to write only may still do: level 3 of this test tells.")
	}
	return providers.Failed(providers.CodeUnexpectedStatus, "The store answered with an unexpected error.")
}

// skewed compares the answer's Date with our clock.
func (k *check) skewed(a answer) bool {
	there, err := http.ParseTime(a.header.Get("Date"))
	if err != nil {
		return false
	}
	return time.Since(there).Abs() > skew
}
