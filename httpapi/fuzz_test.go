package httpapi

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// exchange is a connection that brings bytes and takes answers.
type exchange struct {
	patientConn
	in  *bytes.Reader
	out bytes.Buffer
}

func (e *exchange) Read(b []byte) (int, error)  { return e.in.Read(b) }
func (e *exchange) Write(b []byte) (int, error) { return e.out.Write(b) }
func (e *exchange) Close() error                { return nil }
func (e *exchange) LocalAddr() net.Addr         { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7411} }
func (e *exchange) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}
}

// FuzzLocalAPI sends any bytes as a request. Whatever they are: every answer is
// well-formed, an error is a problem of the table and repeats no secret, and an
// answer with the secret went to one whose request carries the token, names an
// allowed Host and comes from no web page.
func FuzzLocalAPI(f *testing.F) {
	kit := tenanttest.New(f)
	slot := resolver.Slot{Tenant: tenant.MustID("acme"), Organization: tenant.MustOrganizationID("hq"), Category: "storage"}
	l, err := NewLocal(LocalOptions{
		Verifier: kit.Verifier, Categories: categories{"storage"},
		Resolver: &table{slots: map[resolver.Slot]resolver.Answer{slot: answer(`{"s": "` + canary + `"}`)}},
	})
	if err != nil {
		f.Fatal(err)
	}
	server := l.app.Server()
	server.Handler = l.Handler()
	token := kit.Token(tenanttest.Claims{Tenant: "acme", Organization: "hq"})
	auth := "Authorization: Bearer TOKEN\r\n"
	for _, seed := range []string{
		"GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\n" + auth + "\r\n",
		"GET /v1/resolve/storage?organization=hq&format=json HTTP/1.1\r\nHost: [::1]:7411\r\nAuthorization: TOKEN\r\nIf-None-Match: *\r\n\r\n",
		"GET /v1/resolve HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n" + auth + "X-Organization-Id: hq\r\nX-Patchbay-Min-Revision: 7\r\n\r\n",
		"GET /v1/connectors/0198c0de-0000-7000-8000-000000000001 HTTP/1.1\r\nHost: localhost\r\n" + auth + "\r\nGET /v1/env HTTP/1.1\r\nHost: localhost\r\n" + auth + "\r\n",
		"GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n" + auth + "\r\n",
		"GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\nOrigin : evil\r\n" + auth + "\r\n",
		"GET /v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\n" + auth + " folded\r\nReferer:\r\n\r\n",
		"GET http://evil/v1/resolve/storage HTTP/1.1\r\nHost: localhost\r\n" + auth + "\r\n",
		"POST /v1/env HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nBREW / HTTP/1.1\r\n\r\n",
		"GET //localhost/v1/env HTTP/1.1\nHost: localhost\n" + auth + "\n",
		"GET /v1/env HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: \"}\r\nX-Forwarded-For: ::1\r\n\r\n",
		"GET\r\n\r\n", "\x16\x03\x01\x02\x00", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		if bytes.Contains(request, []byte("HEAD")) || bytes.Contains(request, []byte("Expect")) {
			return // the reader below can't tell where their answers end
		}
		e := &exchange{in: bytes.NewReader(bytes.ReplaceAll(request, []byte("TOKEN"), []byte(token)))}
		_ = server.ServeConn(e) // errors are those of the connection; the answers tell
		r := bufio.NewReader(&e.out)
		for {
			if _, err := r.Peek(1); err != nil {
				return
			}
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("not an answer: %v", err)
			}
			var body bytes.Buffer
			if _, err := body.ReadFrom(res.Body); err != nil {
				t.Fatalf("the body is cut: %v", err)
			}
			lower := bytes.ToLower(request)
			if strings.Contains(body.String(), canary) {
				if !bytes.Contains(request, []byte("TOKEN")) {
					t.Fatal("the secret without a token")
				}
				if !bytes.Contains(lower, []byte("localhost")) && !bytes.Contains(lower, []byte("127.0.0.1")) && !bytes.Contains(lower, []byte("[::1]")) {
					t.Fatal("the secret for a foreign Host")
				}
			}
			if strings.Contains(body.String(), token) {
				t.Fatal("a token is repeated")
			}
			switch res.StatusCode {
			case 200, 304:
			case 500:
				t.Fatalf("%s", body.String())
			default:
				var p problem.Problem
				if err := json.Unmarshal(body.Bytes(), &p); err != nil || p.Status != res.StatusCode || p.Code == "" || p.Type == "" || p.Title == "" || p.Detail == "" || p.RequestID == "" || p.Errors == nil {
					t.Fatalf("%d %s: %v", res.StatusCode, body.String(), err)
				}
				if res.Header.Get("Content-Type") != problem.MediaType || (res.StatusCode == 401) != (res.Header.Get("WWW-Authenticate") == "Bearer") {
					t.Fatalf("%v", res.Header)
				}
			}
		}
	})
}

// FuzzGuard looks at single headers: none that a browser or proxy adds passes,
// however it is spelled.
func FuzzGuard(f *testing.F) {
	kit := tenanttest.New(f)
	l, err := NewLocal(LocalOptions{Verifier: kit.Verifier, Resolver: &table{}, Categories: categories{"storage"}})
	if err != nil {
		f.Fatal(err)
	}
	server := l.app.Server()
	server.Handler = l.Handler()
	for _, h := range []string{"localhost", "LOCALHOST:80", "[::1]:1", "::1", "[::1", "127.0.0.1:", "evil", "localhost:0x1", "localhost.evil", "a@localhost", ""} {
		for _, name := range []string{"Accept", "Origin", "oRIGIN", "Referer", "X-Forwarded-For", "x-forwarded-", "Forwarded", "Host", "Origin ", "X-Forwarded-Host\t"} {
			f.Add(h, name, "x")
		}
	}
	f.Fuzz(func(t *testing.T, host, name, content string) {
		if strings.ContainsAny(host+name+content, "\r\n") {
			return // FuzzLocalAPI's
		}
		e := &exchange{in: bytes.NewReader([]byte("GET /v1/env HTTP/1.1\r\nHost: " + host + "\r\n" + name + ": " + content + "\r\n\r\n"))}
		_ = server.ServeConn(e)
		res, err := http.ReadResponse(bufio.NewReader(&e.out), nil)
		if err != nil {
			t.Fatalf("not an answer: %v", err)
		}
		// 401 is what a request gets that passed: it has no token.
		if res.StatusCode != 401 {
			if res.StatusCode != 403 && res.StatusCode != 400 && res.StatusCode != 431 && res.StatusCode != 413 {
				t.Fatalf("%d", res.StatusCode)
			}
			return
		}
		plain := strings.ToLower(strings.TrimSpace(name))
		plain, _, _ = strings.Cut(plain, ":")
		plain = strings.TrimSpace(plain)
		if plain == "origin" || plain == "referer" || plain == "forwarded" || plain == "host" || strings.HasPrefix(plain, "x-forwarded-") {
			t.Fatalf("%q passed", name)
		}
		h := strings.ToLower(strings.TrimSpace(host))
		if !strings.HasPrefix(h, "localhost") && !strings.HasPrefix(h, "127.0.0.1") && !strings.HasPrefix(h, "[::1]") {
			t.Fatalf("host %q passed", host)
		}
	})
}
