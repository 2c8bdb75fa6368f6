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

// Probes are polled without a token and by anybody: nothing but GET, nothing but
// what they are for, and nothing that a cache could answer in their place.
func TestProbesAnswerNothingElse(t *testing.T) {
	t.Parallel()
	base := run(t, NewProbes(ProbesOptions{})) // nothing to ask counts as well
	for _, path := range []string{"/livez", "/readyz", "/readyz?verbose"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 200 || res.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", path, res.StatusCode, res.Header)
		}
	}
	if s, body := fetch(t, "GET", base+"/readyz?verbose"); s != 200 || body != `{"ready":true,"dependencies":[]}` {
		t.Errorf("%d %s", s, body)
	}
	for _, row := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/livez", 405}, {"HEAD", "/readyz", 405}, {"DELETE", "/readyz", 405}, {"BREW", "/livez", 405}, {"GET", "/Livez", 404}, {"GET", "/livez/", 404},
		{"GET", "/metrics", 404}, {"GET", "/v1/env", 404}, {"GET", "/", 404},
	} {
		if s, body := fetch(t, row.method, base+row.path); s != row.status {
			t.Errorf("%s %s: %d %s", row.method, row.path, s, body)
		}
	}
}

// Requests that are under way when Shutdown is called are answered; its context
// bounds the wait.
func TestProbesShutDown(t *testing.T) {
	t.Parallel()
	inside, release := make(chan struct{}), make(chan struct{})
	probes := NewProbes(ProbesOptions{Ready: func() []Dependency {
		close(inside)
		<-release
		return nil
	}})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- probes.Serve(ln) }()
	status := make(chan int, 1)
	go func() {
		res, err := http.Get("http://" + ln.Addr().String() + "/readyz")
		if err != nil {
			status <- 0
			return
		}
		_ = res.Body.Close()
		status <- res.StatusCode
	}()
	<-inside
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := probes.Shutdown(short); err == nil {
		t.Error("Shutdown left a request behind and says nothing")
	}
	close(release)
	if code := <-status; code != 200 {
		t.Errorf("the request under way: %d", code)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
