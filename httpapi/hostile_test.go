package httpapi

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestUnixSocketIsGuarded: its mode stands in for the Host check, and for nothing
// else: a proxy that speaks to the socket brings a web page's requests too.
func TestUnixSocketIsGuarded(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *LocalOptions) { o.UnixSocket = true })
	head := "/v1/env HTTP/1.1\r\nHost: anything\r\nAuthorization: " + w.token() + "\r\n"
	for name, row := range map[string]struct {
		request string
		status  int
		code    string
	}{
		"origin":      {"GET " + head + "Origin: http://localhost\r\n", 403, "permission_denied"},
		"referer":     {"GET " + head + "Referer: http://localhost/\r\n", 403, "permission_denied"},
		"forwarded":   {"GET " + head + "Forwarded: for=127.0.0.1\r\n", 403, "permission_denied"},
		"x-forwarded": {"GET " + head + "X-Forwarded-Host: localhost\r\n", 403, "permission_denied"},
		"target":      {"GET http://localhost" + head, 403, "permission_denied"},
		"post":        {"POST " + head + "Content-Length: 0\r\n", 405, "method_not_allowed"},
		"head":        {"HEAD " + head, 405, "method_not_allowed"},
		"oversized":   {"GET " + head + "X: " + strings.Repeat("x", 16<<10) + "\r\n", 431, "too_large"},
		"no token":    {"GET /v1/env HTTP/1.1\r\nHost: anything\r\n", 401, "unauthenticated"},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			res, body := w.raw(row.request + "\r\n")
			w.problem(res, body, row.status, row.code)
		})
	}
}

// TestForwarderOnADualStack: there an IPv4 peer's address is one of IPv6, and the
// operator wrote the one that everybody knows.
func TestForwarderOnADualStack(t *testing.T) {
	t.Parallel()
	for forwarder, want := range map[string]int{"127.0.0.1": 200, "127.0.0.0/8": 200, "10.0.0.0/8": 403, "::1": 403} {
		w := startOn(t, ":0", func(o *LocalOptions) { o.TrustedForwarders = []string{forwarder} })
		_, port, err := net.SplitHostPort(w.addr)
		if err != nil {
			t.Fatal(err)
		}
		w.addr = net.JoinHostPort("127.0.0.1", port)
		for _, line := range []string{"X-Forwarded-For: 1.2.3.4", "X-Forwarded-Anything: x", "Forwarded: for=1.2.3.4"} {
			if res, body := w.get("/v1/env", line); res.StatusCode != want {
				t.Errorf("from 127.0.0.1, trusting %s: %d %s", forwarder, res.StatusCode, body)
			}
		}
	}
}

// TestHeaderLimit: a request line with its headers may be 16 KiB, to the byte.
func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	const limit = 16 << 10
	w := start(t, nil)
	sized := func(n int) string {
		const front, end = "GET /v1/env HTTP/1.1\r\nHost: localhost\r\n", "\r\n\r\n"
		fill := front + "Authorization: " + w.token() + "\r\nX: "
		return fill + strings.Repeat("x", n-len(fill)-len(end)) + end
	}
	if res, body := w.raw(sized(limit)); res.StatusCode != 200 {
		t.Errorf("16 KiB: %d %s", res.StatusCode, body)
	}
	res, body := w.raw(sized(limit + 1))
	w.problem(res, body, 431, "too_large")
	// Where it ends was never read: the next request can't be found after it.
	if !res.Close {
		t.Error("the connection of an oversized request is kept")
	}
}

// TestHeadHasNoBody: a problem after HEAD has its headers alone, else its body
// would be read as the next answer.
func TestHeadHasNoBody(t *testing.T) {
	t.Parallel()
	w := start(t, nil)
	conn, r := w.dial()
	for _, path := range []string{"/v1/resolve/storage", "/v1/resolve", "/nowhere"} {
		if _, err := io.WriteString(conn, "HEAD "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v1/env HTTP/1.1\r\nHost: localhost\r\nAuthorization: "+w.token()+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(r, &http.Request{Method: "HEAD"})
		if err != nil {
			t.Fatal(err)
		}
		w.problem(res, "", 405, "method_not_allowed")
		if got := res.Header.Get("Allow"); got != "GET" {
			t.Errorf("%s: Allow %q", path, got)
		}
		if res, body := w.read(r); res.StatusCode != 200 {
			t.Errorf("after HEAD %s: %d %s", path, res.StatusCode, body)
		}
	}
}

// TestEveryOtherMethod: nothing but GET reaches a handler, on any route.
func TestEveryOtherMethod(t *testing.T) {
	t.Parallel()
	w := start(t, func(o *LocalOptions) { o.Verifier = badVerifier{} }) // which would panic
	conn, r := w.dial()
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "GETS", "get"} {
		for _, path := range []string{"/v1/resolve/storage", "/v1/resolve", "/v1/connectors/" + connectorID.String(), "/v1/env", "/nowhere", awsCredentials} {
			// X-HTTP-Method-Override is a habit of frameworks, and none of ours.
			text := method + " " + path + " HTTP/1.1\r\nHost: localhost\r\nX-HTTP-Method-Override: GET\r\nAuthorization: x\r\nContent-Length: 0\r\n\r\n"
			if _, err := io.WriteString(conn, text); err != nil {
				t.Fatal(err)
			}
			res, body := w.readAs(r, method)
			w.problem(res, body, 405, "method_not_allowed")
			if got := res.Header.Get("Allow"); got != "GET" {
				t.Errorf("%s %s: Allow %q", method, path, got)
			}
		}
	}
}

func (w *world) readAs(r *bufio.Reader, method string) (*http.Response, string) {
	w.t.Helper()
	res, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res, string(body)
}

// TestTokenIsComparedInConstantTime looks at the code, because a clock on a busy
// machine proves nothing: the second token is compared by its digest, by the one
// function that doesn't stop at the first difference, and by nothing else.
func TestTokenIsComparedInConstantTime(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "token.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	plain := func(x ast.Expr) bool {
		_, literal := x.(*ast.BasicLit)
		name, ok := x.(*ast.Ident)
		return literal || ok && name.Name == "nil"
	}
	constant := 0
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Name.Name != "check" {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BinaryExpr:
				if (n.Op == token.EQL || n.Op == token.NEQ) && !plain(n.X) && !plain(n.Y) {
					t.Errorf("two values are compared with %s", n.Op)
				}
			case *ast.SelectorExpr:
				switch n.Sel.Name {
				case "ConstantTimeCompare":
					constant++
				case "Equal", "EqualFold", "Compare", "HasPrefix", "DeepEqual":
					t.Errorf("%s stops at the first difference", n.Sel.Name)
				}
			}
			return true
		})
	}
	if constant != 1 {
		t.Errorf("%d comparisons in constant time", constant)
	}
}
