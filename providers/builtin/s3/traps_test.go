package s3_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	"github.com/patchbay-dev/patchbay/providers/builtin/s3"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

const (
	errorsDoc   = "https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"
	headDoc     = "https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html"
	hostingDoc  = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html"
	deleteDoc   = "https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeletingObjectVersions.html"
	checksumDoc = "https://docs.aws.amazon.com/sdkref/latest/guide/feature-dataintegrity.html"
	r2Doc       = "https://developers.cloudflare.com/r2/api/s3/api/"
	huaweiDoc   = "https://support.huaweicloud.com/intl/th-th/api-obs/obs_errorcode_0014.html"
	minioDoc    = "https://vfssoft.com/en/docs/s3explorer/api-headbucket"
)

type maker = func(*testing.T) (providers.Provider, providers.Input)

// amazon is a fake in the place of Amazon's own addresses.
func amazon(f func() *fake, params map[string]any) maker {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		return bound(runtime(t, f().start(t), nil)), input(params, nil)
	}
}

// compatible is a fake as another store, by path-style addresses.
func compatible(f func() *fake, params map[string]any) maker {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		all := map[string]any{"endpoint": "https://" + host, "path_style": true}
		maps.Copy(all, params)
		return bound(runtime(t, f().start(t), nil)), input(all, nil)
	}
}

// versity is versitygw behind TLS with a bucket of the test's own.
func versity(edit func(t *testing.T, in *providers.Input)) maker {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		in := input(map[string]any{"endpoint": "https://" + host, "path_style": true, "region": testenv.S3(t).Region,
			"bucket": newBucket(t), "prefix": "uploads/"}, administrator(t))
		if edit != nil {
			edit(t, &in)
		}
		return bound(runtime(t, gateway(t, host), nil)), in
	}
}

func everything() *fake { return &fake{} }

// deadEnd is an address with something that is no web server.
func deadEnd(serve func(net.Conn)) maker {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		return bound(runtime(t, "", nil)), input(map[string]any{"endpoint": "http://" + listener(t, serve)}, nil)
	}
}

// secureDeadEnd is deadEnd where TLS is expected.
func secureDeadEnd(serve func(net.Conn)) maker {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		return bound(runtime(t, "", nil)), input(map[string]any{"endpoint": "https://" + listener(t, serve)}, nil)
	}
}

func certified(c func(t *testing.T) tls.Certificate) maker {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		cert := c(t)
		f := &fake{cert: &cert}
		return bound(runtime(t, f.start(t), nil)), input(map[string]any{"endpoint": "https://" + host, "path_style": true}, nil)
	}
}

func virtual(hosts []string, more names) maker {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		in := input(map[string]any{"endpoint": "https://" + host, "region": testenv.S3(t).Region, "bucket": newBucket(t)}, administrator(t))
		known := names{}
		for name, a := range more {
			known[fmt.Sprintf(name, in.Params["bucket"])] = a
		}
		return bound(runtime(t, gateway(t, hosts...), known)), in
	}
}

func TestTraps(t *testing.T) {
	t.Parallel()
	const (
		fail = providers.StepFail
		warn = providers.StepWarn
	)
	pathStyle := map[string]any{"path_style": true}
	region := func(name string) map[string]any { return map[string]any{"region": name} }
	date := time.Now().Add(-20 * time.Minute).UTC().Format(http.TimeFormat)
	traps := []providertest.Trap{
		// A real server.
		{Name: "a bucket that works", Level: 3, Make: versity(nil)},
		{Name: "a bucket without a region", Doc: minioDoc, Level: 2, Make: versity(func(_ *testing.T, in *providers.Input) { delete(in.Params, "region") })},
		{Name: "a bucket over http", Level: 3, Make: func(t *testing.T) (providers.Provider, providers.Input) {
			return bound(runtime(t, "", nil)), input(map[string]any{"endpoint": testenv.S3(t).Endpoint, "bucket": newBucket(t)}, administrator(t))
		}, Step: "tls", Status: warn, Code: providers.CodeUnencrypted},
		{Name: "a wrong access key id", Doc: errorsDoc, Make: versity(func(_ *testing.T, in *providers.Input) {
			in.Secrets["access_key_id"] = secret.New("AKIACANARYNOBODY")
		}), Step: "bucket", Status: fail, Code: providers.CodeKeyUnknown},
		{Name: "a wrong secret access key", Doc: errorsDoc, Make: versity(func(_ *testing.T, in *providers.Input) {
			in.Secrets["secret_access_key"] = secret.New(`canary "quoted' and` + "`so on` \\ $HOME")
		}), Step: "bucket", Status: fail, Code: providers.CodeSignatureMismatch},
		{Name: "a wrong region", Doc: errorsDoc, Make: versity(func(_ *testing.T, in *providers.Input) { in.Params["region"] = "eu-west-9" }),
			Step: "bucket", Status: fail, Code: providers.CodeWrongRegion, Fix: region("us-east-1")},
		{Name: "a secret access key with every kind of quote", Doc: errorsDoc, Make: versity(func(t *testing.T, in *providers.Input) {
			in.Secrets = userWith(t, vendortest.OddSecret, in.Params["bucket"].(string), "s3:ListBucket")
		})},
		{Name: "a bucket that doesn't exist", Doc: errorsDoc, Make: versity(func(_ *testing.T, in *providers.Input) { in.Params["bucket"] = "acme-nothing-here" }),
			Step: "bucket", Status: fail, Code: providers.CodeBucketNotFound},
		{Name: "a key without any permission", Doc: errorsDoc, Make: versity(func(t *testing.T, in *providers.Input) {
			in.Secrets = newUser(t, in.Params["bucket"].(string))
		}), Step: "bucket", Status: warn, Code: providers.CodePermissionDenied},
		{Name: "a key without any permission, that is asked to write", Doc: errorsDoc, Level: 3, Make: versity(func(t *testing.T, in *providers.Input) {
			in.Secrets = newUser(t, in.Params["bucket"].(string))
		}), Step: "put", Status: fail, Code: providers.CodePermissionDenied},
		{Name: "a key that may write only, asked to list", Doc: errorsDoc, Level: 2, Make: versity(func(t *testing.T, in *providers.Input) {
			in.Secrets = newUser(t, in.Params["bucket"].(string), "s3:PutObject", "s3:DeleteObject")
		}), Step: "list", Status: warn, Code: providers.CodePermissionDenied},
		{Name: "a key that may write only, asked to read", Doc: errorsDoc, Level: 3, Make: versity(func(t *testing.T, in *providers.Input) {
			in.Secrets = newUser(t, in.Params["bucket"].(string), "s3:PutObject", "s3:DeleteObject")
		}), Step: "get", Status: warn, Code: providers.CodePermissionDenied},
		{Name: "a key that may read only", Doc: errorsDoc, Level: 3, Make: versity(func(t *testing.T, in *providers.Input) {
			in.Secrets = newUser(t, in.Params["bucket"].(string), "s3:ListBucket", "s3:GetObject")
		}), Step: "put", Status: fail, Code: providers.CodePermissionDenied},
		{Name: "a key that may not delete", Doc: errorsDoc, Level: 3, Make: versity(func(t *testing.T, in *providers.Input) {
			in.Secrets = newUser(t, in.Params["bucket"].(string), "s3:ListBucket", "s3:GetObject", "s3:PutObject")
		}), Step: "delete", Status: warn, Code: providers.CodeTracesLeft},

		// Addresses.
		{Name: "a bucket's host name that doesn't resolve", Doc: hostingDoc, Make: virtual([]string{host}, nil),
			Step: "connect", Status: fail, Code: providers.CodeHostNotFound, Fix: pathStyle},
		{Name: "a bucket's host name that the certificate leaves out", Doc: hostingDoc, Make: virtual([]string{host}, names{"%s." + host: loopback}),
			Step: "connect", Status: fail, Code: providers.CodeCertificateName, Fix: pathStyle},
		{Name: "a store that does not look at the bucket's host name", Doc: hostingDoc, Make: virtual([]string{host, "*." + host}, names{"%s." + host: loopback}),
			Step: "bucket", Status: fail, Code: providers.CodeBucketNotFound, Fix: pathStyle},
		{Name: "a store that wants the bucket in the host name", Doc: huaweiDoc, Make: compatible(func() *fake {
			return &fake{head: bare(403), list: says(403, "VirtualHostDomainRequired", "")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeBucketNotFound, Fix: map[string]any{"path_style": nil}},
		{Name: "an endpoint that doesn't resolve", Make: compatible(everything, map[string]any{"endpoint": "https://nowhere.acme.example"}),
			Step: "connect", Status: fail, Code: providers.CodeHostNotFound},
		{Name: "an endpoint with a path", Doc: hostingDoc, Level: 3, Make: compatible(everything, map[string]any{"endpoint": "https://" + host + "/base/"})},
		{Name: "an endpoint inside the operator's network", Make: compatible(everything, map[string]any{"endpoint": "https://inside.acme.example"}),
			Step: "connect", Status: fail, Code: providers.CodeEgressDenied},
		{Name: "an endpoint that is a metadata service", Make: compatible(everything, map[string]any{"endpoint": "http://metadata.acme.example"}),
			Step: "connect", Status: fail, Code: providers.CodeEgressDenied},
		{Name: "an endpoint on loopback", Make: func(t *testing.T) (providers.Provider, providers.Input) {
			d, err := egress.New(egress.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return bound(providers.Runtime{DialContext: d.DialContext, Transport: d.Transport()}),
				input(map[string]any{"endpoint": "http://127.0.0.1:9000"}, nil)
		}, Step: "connect", Status: fail, Code: providers.CodeEgressDenied},
		{Name: "a host name that leads inside from the second look-up on, and a store that is down", Make: func(t *testing.T) (providers.Provider, providers.Input) {
			const rebinds = "rebinds.acme.example"
			c := authority(t).Issue(t, rebinds)
			f := &fake{cert: &c, head: bare(503), list: says(503, "ServiceUnavailable", "")}
			return bound(runtime(t, f.start(t), names{rebinds: loopback + ",10.1.2.3"})), input(map[string]any{"endpoint": "https://" + rebinds, "path_style": true}, nil)
		}, Step: "bucket", Status: fail, Code: providers.CodeVendorError},
		{Name: "an access point of Amazon at another store", Doc: hostingDoc, Make: compatible(everything, map[string]any{"bucket": "arn:aws:s3:us-east-1:123456789012:accesspoint/acme"}),
			Step: "connect", Status: fail, Code: providers.CodeConfigIncomplete},
		{Name: "a wrong port", Make: func(t *testing.T) (providers.Provider, providers.Input) {
			return bound(runtime(t, "", nil)), input(map[string]any{"endpoint": fmt.Sprintf("https://127.0.0.1:%d", testenv.FreePort(t))}, nil)
		}, Step: "connect", Status: fail, Code: providers.CodeConnectionRefused},
		{Name: "a connection that nobody accepts", Make: func(*testing.T) (providers.Provider, providers.Input) {
			blocked := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}
			return bound(providers.Runtime{Transport: blocked}), input(nil, nil)
		}, Step: "connect", Status: fail, Code: providers.CodeTimeout},
		{Name: "a process without a way out", Make: func(*testing.T) (providers.Provider, providers.Input) { return s3.New(), input(nil, nil) },
			Step: "connect", Status: fail, Code: providers.CodeNoNetwork},
		{Name: "R2, whose region is auto", Doc: r2Doc, Level: 2, Make: func(t *testing.T) (providers.Provider, providers.Input) {
			const r2 = "account.r2.cloudflarestorage.com"
			f := &fake{}
			return bound(runtime(t, f.start(t), names{r2: loopback})), input(map[string]any{"endpoint": "https://" + r2, "path_style": true}, nil)
		}},

		// TLS.
		{Name: "an expired certificate", Make: certified(func(t *testing.T) tls.Certificate {
			return authority(t).IssueUntil(t, time.Now().Add(-time.Hour), host)
		}), Step: "connect", Status: fail, Code: providers.CodeCertificateExpired},
		{Name: "a certificate for another name", Make: certified(func(t *testing.T) tls.Certificate {
			return authority(t).Issue(t, "other.acme.example")
		}), Step: "connect", Status: fail, Code: providers.CodeCertificateName},
		{Name: "a certificate of an authority that the operator does not know", Make: certified(func(t *testing.T) tls.Certificate {
			return testenv.NewAuthority(t).Issue(t, host)
		}), Step: "connect", Status: fail, Code: providers.CodeCertificateUnknown},
		{Name: "a self-signed certificate", Make: certified(func(t *testing.T) tls.Certificate {
			c, _ := testenv.SelfSigned(t, host)
			return c
		}), Step: "connect", Status: fail, Code: providers.CodeCertificateUnknown},
		{Name: "https where http is spoken", Make: func(t *testing.T) (providers.Provider, providers.Input) {
			return bound(runtime(t, "", nil)), input(map[string]any{"endpoint": fmt.Sprintf("https://127.0.0.1:%d", testenv.S3(t).Port)}, administrator(t))
		}, Step: "connect", Status: fail, Code: providers.CodeTLSWrongMode},
		{Name: "http where https is spoken", Make: func(t *testing.T) (providers.Provider, providers.Input) {
			nginx := httptest.NewServer(vendortest.Answer(400, vendortest.PlainToTLS))
			t.Cleanup(nginx.Close)
			return bound(runtime(t, "", nil)), input(map[string]any{"endpoint": nginx.URL, "path_style": true}, nil)
		}, Step: "bucket", Status: fail, Code: providers.CodeTLSWrongMode},
		{Name: "a self-signed certificate that the operator trusts", Make: func(t *testing.T) (providers.Provider, providers.Input) {
			c, roots := testenv.SelfSigned(t, host)
			rt := runtime(t, (&fake{cert: &c}).start(t), nil)
			rt.Roots = roots
			rt.Transport.(*http.Transport).TLSClientConfig.RootCAs = roots
			return bound(rt), input(map[string]any{"endpoint": "https://" + host, "path_style": true}, nil)
		}},
		{Name: "a TLS handshake that nobody answers", Make: secureDeadEnd(func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }),
			Step: "connect", Status: fail, Code: providers.CodeTimeout},
		{Name: "binary noise where TLS is expected", Make: secureDeadEnd(func(c net.Conn) {
			_, _ = io.WriteString(c, "\x00\x8f\x13\xff\n\x01\xfe\x00\x00\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}), Step: "connect", Status: fail, Code: providers.CodeTLSWrongMode},

		// What Amazon answers.
		{Name: "a bucket of Amazon that works", Doc: headDoc, Level: 3, Make: amazon(everything, region("us-east-1"))},
		{Name: "a bucket of Amazon in another region", Doc: headDoc, Make: amazon(func() *fake {
			return &fake{head: bare(301, "x-amz-bucket-region", "eu-west-1")}
		}, region("us-east-1")), Step: "bucket", Status: fail, Code: providers.CodeWrongRegion, Fix: region("eu-west-1")},
		{Name: "a bucket of Amazon whose region was left out", Doc: headDoc, Make: amazon(func() *fake {
			return &fake{head: bare(301, "x-amz-bucket-region", "eu-west-1")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeWrongRegion, Fix: region("eu-west-1")},
		{Name: "a bucket of Amazon in another region, said by 400", Doc: headDoc, Make: amazon(func() *fake {
			return &fake{head: bare(400, "x-amz-bucket-region", "eu-west-1")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeWrongRegion, Fix: region("eu-west-1")},
		{Name: "a bucket in another region, said in the document only", Doc: errorsDoc, Make: compatible(func() *fake {
			return &fake{head: bare(400), list: says(400, "AuthorizationHeaderMalformed", "<Region>eu-central-1</Region>")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeWrongRegion, Fix: region("eu-central-1")},
		{Name: "a bucket in another region, which nobody says", Doc: errorsDoc, Make: compatible(func() *fake {
			return &fake{head: bare(400), list: says(400, "AuthorizationHeaderMalformed", "")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeWrongRegion},
		{Name: "a region that would be a script", Doc: errorsDoc, Make: compatible(func() *fake {
			return &fake{head: bare(400, "x-amz-bucket-region", "<script>"), list: says(400, "AuthorizationHeaderMalformed", "<Region>a b</Region>")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeWrongRegion},
		{Name: "a bucket that answers, though in another region", Doc: headDoc, Make: amazon(func() *fake {
			return &fake{head: bare(200, "x-amz-bucket-region", "eu-west-1")}
		}, nil), Step: "bucket", Status: warn, Code: providers.CodeWrongRegion, Fix: region("eu-west-1")},
		{Name: "a bucket that has just been made elsewhere", Doc: errorsDoc, Make: amazon(func() *fake {
			return &fake{head: bare(307), list: says(307, "TemporaryRedirect", "")}
		}, region("us-east-1")), Step: "bucket", Status: fail, Code: providers.CodeWrongRegion},
		{Name: "a session token that has expired", Doc: errorsDoc, Make: amazon(func() *fake {
			return &fake{head: bare(400), list: says(400, "ExpiredToken", "")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeCredentialsExpired},
		{Name: "a session token of another key", Doc: errorsDoc, Make: amazon(func() *fake {
			return &fake{head: bare(400), list: says(400, "InvalidToken", "")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeAuthFailed},
		{Name: "a clock that is wrong", Doc: errorsDoc, Make: amazon(func() *fake {
			return &fake{head: bare(403), list: says(403, "RequestTimeTooSkewed", "")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeClockSkew},
		{Name: "a clock that is wrong, which nobody says", Doc: errorsDoc, Make: amazon(func() *fake {
			return &fake{head: bare(403), list: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", date)
				says(403, "SignatureDoesNotMatch", "")(w, r)
			}}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeClockSkew},
		{Name: "a clock that is wrong, behind a proxy", Make: amazon(func() *fake {
			return &fake{head: bare(403), list: bare(403, "Date", date)}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeClockSkew},
		{Name: "a bucket of Amazon that doesn't exist", Doc: headDoc, Make: amazon(func() *fake {
			return &fake{head: bare(404), list: says(404, "NoSuchBucket", "")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeBucketNotFound},
		{Name: "a bucket of another account", Doc: headDoc, Make: amazon(func() *fake {
			return &fake{head: bare(403), list: says(403, "AccessDenied", "")}
		}, nil), Step: "bucket", Status: warn, Code: providers.CodePermissionDenied},
		{Name: "a key that may list its prefix only", Doc: headDoc, Level: 2, Make: amazon(func() *fake {
			f := &fake{head: bare(403)}
			f.list = func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("prefix") != "uploads/" {
					says(403, "AccessDenied", "")(w, r)
					return
				}
				fmt.Fprint(w, "<ListBucketResult></ListBucketResult>")
			}
			return f
		}, map[string]any{"prefix": "uploads/"})},
		{Name: "a store that asks to slow down", Doc: errorsDoc, Make: amazon(func() *fake {
			return &fake{head: bare(503), list: says(503, "SlowDown", "")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeRateLimited},
		{Name: "a store that is down", Doc: errorsDoc, Make: amazon(func() *fake {
			return &fake{head: bare(503), list: says(503, "ServiceUnavailable", "")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeVendorError},
		{Name: "a store that breaks", Doc: errorsDoc, Make: amazon(func() *fake {
			return &fake{head: bare(500), list: says(500, "InternalError", "")}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeVendorError},

		// What is no store.
		{Name: "a web server that says 200", Make: compatible(func() *fake { return &fake{list: page(200)} }, nil),
			Step: "bucket", Status: fail, Code: providers.CodeProtocolError},
		{Name: "a web server that says 404", Make: compatible(func() *fake { return &fake{head: bare(404), list: page(404)} }, nil),
			Step: "bucket", Status: fail, Code: providers.CodeProtocolError},
		{Name: "a proxy that says 403", Make: compatible(func() *fake { return &fake{head: bare(403), list: page(403)} }, nil),
			Step: "bucket", Status: fail, Code: providers.CodeProtocolError},
		{Name: "a web server that redirects", Make: compatible(func() *fake {
			away := func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "https://evil.example/", http.StatusFound)
			}
			return &fake{head: away, list: away}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeRedirected},
		{Name: "binary noise", Make: deadEnd(func(c net.Conn) { c.Write([]byte("\x00\x01\x02\xff\xfe garbage\r\n\r\n")) }),
			Step: "connect", Status: fail, Code: providers.CodeProtocolError},
		{Name: "a mail server", Make: deadEnd(func(c net.Conn) { c.Write([]byte("220 mail.acme.example ESMTP\r\n")) }),
			Step: "connect", Status: fail, Code: providers.CodeProtocolError},
		{Name: "a server that says nothing", Make: deadEnd(func(c net.Conn) { io.Copy(io.Discard, c) }),
			Step: "connect", Status: fail, Code: providers.CodeTimeout},
		{Name: "a server that hangs up", Make: deadEnd(func(c net.Conn) { c.Read(make([]byte, 1)) }),
			Step: "connect", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "a list of 1 GB", Make: compatible(func() *fake { return &fake{list: flooding} }, nil),
			Step: "bucket", Status: fail, Code: providers.CodeTooLarge},
		{Name: "an error of 1 GB", Make: amazon(func() *fake {
			return &fake{head: bare(403), list: func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(403)
				flooding(w, r)
			}}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeTooLarge},
		{Name: "a HEAD that hangs", Make: amazon(func() *fake { return &fake{head: hanging} }, nil),
			Step: "connect", Status: fail, Code: providers.CodeTimeout},
		{Name: "a list that hangs", Make: compatible(func() *fake { return &fake{list: hanging} }, nil),
			Step: "bucket", Status: fail, Code: providers.CodeTimeout},
		{Name: "a list that is cut off", Make: compatible(func() *fake {
			return &fake{list: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				fmt.Fprint(w, "<ListBucketResult>")
				vanishing(nil, nil)
			}}
		}, nil), Step: "bucket", Status: fail, Code: providers.CodeConnectionReset},

		// Writing.
		{Name: "an upload that hangs", Level: 3, Make: amazon(func() *fake { return &fake{put: hanging} }, nil),
			Step: "put", Status: fail, Code: providers.CodeTimeout},
		{Name: "an upload that ends in a closed connection", Level: 3, Make: amazon(func() *fake { return &fake{put: vanishing} }, nil),
			Step: "put", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "a download that ends in a closed connection", Level: 3, Make: amazon(func() *fake { return &fake{get: vanishing} }, nil),
			Step: "get", Status: fail, Code: providers.CodeConnectionReset},
		{Name: "a download of 1 GB", Level: 3, Make: amazon(func() *fake { return &fake{get: flooding} }, nil),
			Step: "get", Status: fail, Code: providers.CodeTooLarge},
		{Name: "a download that hangs", Level: 3, Make: amazon(func() *fake { return &fake{get: hanging} }, nil),
			Step: "get", Status: fail, Code: providers.CodeTimeout},
		{Name: "an upload that the store breaks at", Doc: errorsDoc, Level: 3, Make: amazon(func() *fake { return &fake{put: says(500, "InternalError", "")} }, nil),
			Step: "put", Status: fail, Code: providers.CodeVendorError},
		{Name: "a store that is full", Doc: errorsDoc, Level: 3, Make: compatible(func() *fake { return &fake{put: says(507, "XMinioStorageFull", "")} }, nil),
			Step: "put", Status: fail, Code: providers.CodeQuotaExceeded},
		{Name: "a download of something else", Level: 3, Make: amazon(func() *fake {
			return &fake{get: func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "another content") }}
		}, nil), Step: "get", Status: fail, Code: providers.CodeUnexpectedBody},
		{Name: "an upload that is not there afterwards", Doc: errorsDoc, Level: 3, Make: amazon(func() *fake { return &fake{get: says(404, "NoSuchKey", "")} }, nil),
			Step: "get", Status: fail, Code: providers.CodeUnexpectedBody},
		{Name: "a bucket with versions", Doc: deleteDoc, Level: 3, Make: amazon(versioned, nil)},
		{Name: "a bucket with object lock", Doc: deleteDoc, Level: 3, Make: amazon(locked, nil),
			Step: "delete", Status: warn, Code: providers.CodeTracesLeft},
		{Name: "a delete that hangs", Level: 3, Make: amazon(func() *fake { return &fake{del: hanging} }, nil),
			Step: "delete", Status: warn, Code: providers.CodeTracesLeft},
		{Name: "a compatible store that refuses checksums", Doc: checksumDoc, Level: 3, Make: compatible(withoutChecksums, nil)},
	}
	providertest.RunTraps(t, traps)
}

// locked is a bucket whose versions can't be deleted yet.
func locked() *fake {
	f := &fake{}
	f.put = func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amz-Version-Id", "v1")
		f.keep(r)
	}
	f.get = f.give
	f.del = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Has("versionId") {
			says(403, "AccessDenied", "")(w, r)
			return
		}
		w.Header().Set("X-Amz-Delete-Marker", "true")
		w.WriteHeader(http.StatusNoContent)
	}
	return f
}

// versioned is a bucket in which only the version itself goes without a trace.
func versioned() *fake {
	f := locked()
	f.del = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("versionId") != "v1" {
			w.Header().Set("X-Amz-Delete-Marker", "true")
		}
		w.WriteHeader(http.StatusNoContent)
	}
	return f
}

// withoutChecksums is a store from before Amazon's SDKs sent checksums by default.
func withoutChecksums() *fake {
	f := &fake{}
	f.get = f.give
	f.put = func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Amz-Checksum") || strings.HasPrefix(name, "X-Amz-Sdk-Checksum") || name == "X-Amz-Trailer" {
				says(501, "NotImplemented", "")(w, r)
				return
			}
		}
		f.keep(r)
	}
	return f
}
