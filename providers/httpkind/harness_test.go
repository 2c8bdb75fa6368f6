package httpkind_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/httpkind"
)

// everything is the kind that uses the whole vocabulary.
func everything(t *testing.T) providers.Provider {
	t.Helper()
	data, err := os.ReadFile("testdata/good/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(data))
}

func parse(t *testing.T, yaml string) providers.Provider {
	t.Helper()
	p, problems := httpkind.Parse("kind.yaml", []byte(yaml))
	if p == nil {
		t.Fatal(problems)
	}
	return p
}

// vendor records what it is asked and answers with h.
type vendor struct {
	*httptest.Server
	mu   sync.Mutex
	seen []seen
}

type seen struct {
	method, uri, body string
	header            http.Header
}

func serve(t *testing.T, h http.HandlerFunc) *vendor {
	t.Helper()
	v := &vendor{}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		v.mu.Lock()
		v.seen = append(v.seen, seen{r.Method, r.RequestURI, string(body), r.Header.Clone()})
		v.mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(v.Close)
	return v
}

func (v *vendor) requests() []seen {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]seen(nil), v.seen...)
}

func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// bound gives a kind the real way out, with loopback open.
func bound(t *testing.T, p providers.Provider, endpoints map[string]string) providers.Provider {
	t.Helper()
	d, err := egress.New(egress.Config{AnyLoopback: true})
	if err != nil {
		t.Fatal(err)
	}
	return p.(providers.Binder).Bind(providers.Runtime{DialContext: d.DialContext, Transport: d.Transport(), Endpoints: endpoints})
}

func input(params map[string]any, secrets ...string) providers.Input {
	in := providers.Input{Params: params, Secrets: secret.Map{}}
	for i := 0; i+1 < len(secrets); i += 2 {
		in.Secrets[secrets[i]] = secret.New(secrets[i+1])
	}
	return in
}

func decode(t *testing.T, p providers.Provider, in providers.Input) providers.Config {
	t.Helper()
	c, err := p.Schema().Decode(in, providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// report runs a connection test.
func report(t *testing.T, p providers.Provider, c providers.Config, level int) providers.TestReport {
	t.Helper()
	r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: level})
	if err != nil {
		t.Fatal(err)
	}
	return r
}
