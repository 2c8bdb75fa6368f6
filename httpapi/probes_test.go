package httpapi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/obs"
)

// listener is what all three surfaces are.
type listener interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
}

func run(t *testing.T, s listener) (base string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := errors.Join(s.Shutdown(ctx), <-done); err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String()
}

func fetch(t *testing.T, method, url string, headers ...string) (int, string) {
	t.Helper()
	q, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

func TestProbes(t *testing.T) {
	t.Parallel()
	var postgres, live atomic.Bool
	base := run(t, NewProbes(ProbesOptions{
		Ready: func() []Dependency {
			return []Dependency{{Name: "postgres", OK: postgres.Load(), Required: true}, {Name: "redis", Detail: "not reachable"}}
		},
		Live: func() error {
			if !live.Load() {
				return errors.New(canary)
			}
			return nil
		},
		Metrics: obs.NewRegistry().Handler(),
	}))
	if s, body := fetch(t, "GET", base+"/livez"); s != 503 || strings.Contains(body, canary) {
		t.Errorf("not live: %d %s", s, body)
	}
	if s, _ := fetch(t, "GET", base+"/readyz"); s != 503 {
		t.Errorf("not ready: %d", s)
	}
	postgres.Store(true)
	live.Store(true)
	for path, want := range map[string]string{
		"/livez": "ok\n", "/readyz": "ok\n",
		"/readyz?verbose": `{"ready":true,"dependencies":[{"name":"postgres","ok":true,"required":true},{"name":"redis","ok":false,"required":false,"detail":"not reachable"}]}`,
	} {
		if s, body := fetch(t, "GET", base+path); s != 200 || body != want {
			t.Errorf("%s: %d %s", path, s, body)
		}
	}
	if s, body := fetch(t, "GET", base+"/metrics"); s != 200 || !strings.Contains(body, "go_goroutines ") {
		t.Errorf("metrics: %d %s", s, body)
	}
	if s, body := fetch(t, "GET", base+"/nowhere"); s != 404 || !strings.Contains(body, `"code":"not_found"`) {
		t.Errorf("%d %s", s, body)
	}
}

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
