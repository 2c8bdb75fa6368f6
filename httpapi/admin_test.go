package httpapi

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestAdmin(t *testing.T) {
	t.Parallel()
	dev, err := NewAdmin(AdminOptions{JWKS: func() []byte { return []byte(`{"keys":[]}`) }, CheckHost: true})
	if err != nil {
		t.Fatal(err)
	}
	base := run(t, dev)
	if s, body := fetch(t, "GET", base+"/dev/jwks.json"); s != 200 || body != `{"keys":[]}` {
		t.Errorf("%d %s", s, body)
	}
	if s, _ := fetch(t, "GET", base+"/dev/jwks.json", "Origin", "http://evil.example"); s != 403 {
		t.Errorf("a foreign Origin: %d", s)
	}
	if s, body := fetch(t, "POST", base+"/dev/jwks.json"); s != 405 || !strings.Contains(body, `"code":"method_not_allowed"`) {
		t.Errorf("%d %s", s, body)
	}
	plain, err := NewAdmin(AdminOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s, body := fetch(t, "GET", run(t, plain)+"/dev/jwks.json"); s != 404 || !strings.Contains(body, `"code":"not_found"`) {
		t.Errorf("%d %s", s, body)
	}
}

// The dev's control plane is on a laptop's loopback, where every web page can
// send requests to it.
func TestDevAdminIsGuarded(t *testing.T) {
	t.Parallel()
	dev, err := NewAdmin(AdminOptions{
		JWKS: func() []byte { return []byte(`{"keys":[]}`) }, CheckHost: true, AllowedHosts: []string{"dev.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	base := run(t, dev)
	for _, row := range []struct {
		name, header, value string
		status              int
	}{
		{"rebound host", "Host", "evil.example", 403}, {"rebound host with port", "Host", "evil.example:8080", 403},
		{"localhost", "Host", "localhost:8080", 200}, {"IPv6 loopback", "Host", "[::1]:8080", 200}, {"allowed", "Host", "dev.example", 200},
		{"origin", "Origin", "https://evil.example", 403}, {"null origin", "Origin", "null", 403}, {"referer", "Referer", "http://evil.example/", 403},
		{"forwarded", "X-Forwarded-For", "10.0.0.1", 403},
	} {
		for _, path := range []string{"/dev/jwks.json", "/nowhere"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if row.header == "Host" {
				req.Host = row.value
			} else {
				req.Header.Set(row.header, row.value)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = res.Body.Close()
			want := row.status
			if want == 200 && path == "/nowhere" {
				want = 404
			}
			if res.StatusCode != want {
				t.Errorf("%s, %s: %d, want %d", row.name, path, res.StatusCode, want)
			}
		}
	}
	if s, _ := fetch(t, "HEAD", base+"/dev/jwks.json"); s != 405 {
		t.Errorf("HEAD: %d", s)
	}
	if s, body := fetch(t, "BREW", base+"/dev/jwks.json"); s != 405 || !strings.Contains(body, `"code":"method_not_allowed"`) {
		t.Errorf("BREW: %d %s", s, body)
	}
	if s, _ := fetch(t, "GET", base+"/dev/jwks.json/"); s != 404 {
		t.Errorf("another path: %d", s)
	}
}

// A client that sends its request slowly is left, however often it sends a byte.
func TestSlowAdminClient(t *testing.T) {
	t.Parallel()
	a, err := NewAdmin(AdminOptions{timeouts: timeouts{read: 300 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- a.Serve(ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("POST /api/connectors HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.Now().Add(20 * time.Second)
	for { // until the server has closed the connection, a write fails
		if _, err := conn.Write([]byte("{")); err != nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the server still reads")
		}
		<-tick.C
	}
	_ = conn.Close()
	_ = a.Shutdown(t.Context())
	<-served
}
