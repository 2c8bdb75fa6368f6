package s3_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/s3"
)

const (
	host       = "s3.acme.example"
	bucket     = "acme-prod"
	amazonHost = bucket + ".s3.us-east-1.amazonaws.com"
)

// authority signs the certificates of all fakes.
func authority(t *testing.T) *testenv.Authority {
	t.Helper()
	shared.once.Do(func() { shared.authority = testenv.NewAuthority(t) })
	return shared.authority
}

var shared struct {
	once      sync.Once
	authority *testenv.Authority
}

// names is the resolver of the tests. A name with several addresses, by comma, has
// the first at the first look-up and the last from then on.
type names map[string]string

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	host = strings.TrimSuffix(host, ".")
	a, known := n[host]
	if !known {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if first, later, changes := strings.Cut(a, ","); changes {
		a, n[host] = first, later
	}
	return []netip.Addr{netip.MustParseAddr(a)}, nil
}

const loopback = "127.0.0.1"

// runtime is what the product gives the kind, with the real dialler. Port 443 is
// the given one, because Amazon's addresses name none.
func runtime(t *testing.T, port string, more names) providers.Runtime {
	t.Helper()
	known := names{
		host: loopback, amazonHost: loopback, "localhost": loopback,
		"inside.acme.example": "10.1.2.3", "metadata.acme.example": "169.254.169.254",
	}
	maps.Copy(known, more)
	d, err := egress.New(egress.Config{AnyLoopback: true, Resolver: known})
	if err != nil {
		t.Fatal(err)
	}
	transport := d.Transport()
	transport.TLSClientConfig.RootCAs = authority(t).Roots()
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if at, found := strings.CutSuffix(address, ":443"); found && port != "" {
			address = at + ":" + port
		}
		return d.DialContext(ctx, network, address)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return providers.Runtime{DialContext: d.DialContext, Transport: transport, Roots: authority(t).Roots()}
}

func bound(rt providers.Runtime) providers.Provider { return s3.New().Bind(rt) }

// input is what an admin would have entered. nil takes a param away.
func input(params map[string]any, secrets secret.Map) providers.Input {
	all := map[string]any{"bucket": bucket}
	for name, v := range params {
		if all[name] = v; v == nil {
			delete(all, name)
		}
	}
	if secrets == nil {
		secrets = keys()
	}
	return providers.Input{Params: all, Secrets: secrets}
}

// fake is a store that speaks Amazon's documented answers. A nil handler is a
// store in which everything works.
type fake struct {
	head, list, put, get, del http.HandlerFunc
	cert                      *tls.Certificate // nil: one for all names of the tests

	mu      sync.Mutex
	objects map[string][]byte
	calls   []string // "PUT /acme-prod/key"
	headers []http.Header
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	path = strings.TrimPrefix(path, "base/") // an endpoint with a path
	if !strings.HasPrefix(r.Host, bucket+".") {
		path = strings.TrimPrefix(strings.TrimPrefix(path, bucket), "/")
	}
	r.Body = io.NopCloser(bytes.NewReader(content(r)))
	f.mu.Lock()
	f.calls = append(f.calls, r.Method+" "+r.URL.RequestURI())
	f.headers = append(f.headers, r.Header)
	f.mu.Unlock()
	w.Header().Set("X-Amz-Request-Id", "TEST")
	handler := map[string]http.HandlerFunc{"HEAD": f.head, "GET": f.get, "PUT": f.put, "DELETE": f.del}[r.Method]
	if path == "" && r.Method == http.MethodGet {
		handler = f.list
	}
	if handler != nil {
		handler(w, r)
		return
	}
	switch {
	case r.Method == http.MethodGet && path == "":
		fmt.Fprint(w, `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>acme-prod</Name><KeyCount>0</KeyCount></ListBucketResult>`)
	case r.Method == http.MethodPut:
		f.keep(r)
	case r.Method == http.MethodGet:
		f.give(w, r)
	case r.Method == http.MethodDelete:
		f.mu.Lock()
		delete(f.objects, r.URL.Path)
		f.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}
}

func (f *fake) keep(r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.objects == nil {
		f.objects = map[string][]byte{}
	}
	f.objects[r.URL.Path] = body
}

func (f *fake) give(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Write(f.objects[r.URL.Path])
}

// content is a request's body without the framing of aws-chunked.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
func content(r *http.Request) []byte {
	if !strings.Contains(r.Header.Get("Content-Encoding"), "aws-chunked") {
		body, _ := io.ReadAll(r.Body)
		return body
	}
	var body []byte
	for in := bufio.NewReader(r.Body); ; {
		line, err := in.ReadString('\n')
		size, _, _ := strings.Cut(strings.TrimSpace(line), ";")
		n, hexErr := strconv.ParseInt(size, 16, 32)
		if err != nil || hexErr != nil || n == 0 {
			_, _ = io.Copy(io.Discard, in)
			return body
		}
		chunk := make([]byte, n+2)
		if _, err := io.ReadFull(in, chunk); err != nil {
			return body
		}
		body = append(body, chunk[:n]...)
	}
}

// start runs the fake over TLS until the test ends and returns its port.
func (f *fake) start(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(f)
	if f.cert == nil {
		c := authority(t).Issue(t, host, "*."+host, "*.s3.us-east-1.amazonaws.com", "*.s3.eu-west-1.amazonaws.com", "account.r2.cloudflarestorage.com", loopback)
		f.cert = &c
	}
	server.TLS = &tls.Config{Certificates: []tls.Certificate{*f.cert}}
	server.Config.ErrorLog = quiet()
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return portOf(server.URL)
}

func portOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Port()
}

// says is an error as documented: status, code, and more elements of its document.
func says(status int, code, more string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(status)
		fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>in words</Message>%s<RequestId>TEST</RequestId></Error>`, code, more)
	}
}

// bare is an answer to HEAD: a status, headers, no body.
func bare(status int, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
	}
}

// hanging answers nothing until the other side gives up.
func hanging(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// vanishing closes the connection.
func vanishing(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// flooding sends 1 GiB.
func flooding(w http.ResponseWriter, _ *http.Request) {
	chunk := bytes.Repeat([]byte("<x>"), 1<<15)
	for range 1 << 30 / len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func page(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(status)
		fmt.Fprint(w, "<!DOCTYPE html><html><head><title>Welcome</title></head><body><p>It works<br></body></html>")
	}
}

// listener is anything that is no web server.
func listener(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", loopback+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// gateway is versitygw behind TLS, under a name. It checks signatures, keys, the
// region and policies; the proxy leaves the Host header, which is signed, alone.
func gateway(t *testing.T, hosts ...string) string {
	t.Helper()
	server := testenv.S3(t)
	target, err := url.Parse(server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
		ErrorLog: quiet(),
	})
	proxy.TLS = &tls.Config{Certificates: []tls.Certificate{authority(t).Issue(t, hosts...)}}
	proxy.Config.ErrorLog = quiet()
	proxy.StartTLS()
	t.Cleanup(proxy.Close)
	return portOf(proxy.URL)
}

// root is a client of versitygw's administrator.
func root(t *testing.T) *awss3.Client {
	t.Helper()
	server := testenv.S3(t)
	return awss3.New(awss3.Options{Region: server.Region, BaseEndpoint: aws.String(server.Endpoint), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKeyID, server.SecretAccessKey, "")})
}

// newBucket makes a bucket of the test's own.
func newBucket(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("acme-%d", time.Now().UnixNano())
	if _, err := root(t).CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: aws.String(name)}); err != nil {
		t.Fatal(err)
	}
	return name
}

// newUser makes a user who may do the actions in the bucket and nothing else.
func newUser(t *testing.T, bucket string, actions ...string) secret.Map {
	t.Helper()
	return userWith(t, "canary-user-secret", bucket, actions...)
}

// userWith is newUser with this secret key.
func userWith(t *testing.T, key, bucket string, actions ...string) secret.Map {
	t.Helper()
	server := testenv.S3(t)
	id := fmt.Sprintf("user-%d", time.Now().UnixNano())
	var escaped strings.Builder
	if err := xml.EscapeText(&escaped, []byte(key)); err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf("<Account><Access>%s</Access><Secret>%s</Secret><Role>user</Role></Account>", id, &escaped)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, server.Endpoint+"/create-user", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(body))
	digest := hex.EncodeToString(sum[:])
	req.Header.Set("X-Amz-Content-Sha256", digest)
	admin := aws.Credentials{AccessKeyID: server.AccessKeyID, SecretAccessKey: server.SecretAccessKey}
	if err := v4.NewSigner().SignHTTP(t.Context(), admin, req, digest, "s3", server.Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		t.Fatalf("create a user: %s", res.Status)
	}
	if len(actions) > 0 {
		policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":[%q]},"Action":["%s"],"Resource":["arn:aws:s3:::%s","arn:aws:s3:::%s/*"]}]}`,
			id, strings.Join(actions, `","`), bucket, bucket)
		if _, err := root(t).PutBucketPolicy(t.Context(), &awss3.PutBucketPolicyInput{Bucket: aws.String(bucket), Policy: aws.String(policy)}); err != nil {
			t.Fatal(err)
		}
	}
	return secret.Map{"access_key_id": secret.New(id), "secret_access_key": secret.New(key)}
}

// administrator are the keys of versitygw's root.
func administrator(t *testing.T) secret.Map {
	server := testenv.S3(t)
	return secret.Map{"access_key_id": secret.New(server.AccessKeyID), "secret_access_key": secret.New(server.SecretAccessKey)}
}
