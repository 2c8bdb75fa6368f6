package httpapi_test

import (
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	httpapi "github.com/patchbay-dev/patchbay/providers/builtin/http_api"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

const canary = "canary-credential"

func input(url string, params map[string]any, secrets ...string) providers.Input {
	in := providers.Input{Params: map[string]any{"base_url": url}, Secrets: secret.Map{}}
	maps.Copy(in.Params, params)
	for _, name := range secrets {
		in.Secrets[name] = secret.New(canary)
	}
	return in
}

func TestSuite(t *testing.T) {
	t.Parallel()
	const url = "https://api.acme.example/v1"
	providertest.Run(t, httpapi.New(), providertest.Cases{
		Minimal: input(url, nil, "token"),
		Full: input(url, map[string]any{
			"auth": "basic", "username": "acme", "headers": map[string]any{"Accept-Language": "en"}, "test_path": "/me", "test_method": "HEAD",
		}, "password"),
		Bad: map[string]providertest.Bad{
			"a user name with a colon":     {Input: input(url, map[string]any{"auth": "basic", "username": "a:b"}, "password"), Want: []string{"/params/username pattern"}},
			"a path that is another host":  {Input: input(url, map[string]any{"test_path": "https://evil.example/"}, "token"), Want: []string{"/params/test_path pattern"}},
			"a path with a query":          {Input: input(url, map[string]any{"test_path": "/me?x=1"}, "token"), Want: []string{"/params/test_path pattern"}},
			"a header with a line break":   {Input: input(url, map[string]any{"auth": "header", "header_name": "X-A\r\nX-B"}, "api_key"), Want: []string{"/params/header_name control_character"}},
			"a header that is no name":     {Input: input(url, map[string]any{"auth": "header", "header_name": "X Key"}, "api_key"), Want: []string{"/params/header_name pattern"}},
			"a way without its credential": {Input: input(url, map[string]any{"auth": "query"}), Want: []string{"/secrets/api_key required"}},
			"nothing":                      {Input: providers.Input{}, Want: []string{"/params/base_url required", "/secrets/token required"}},
		},
		Imports: map[string]providertest.Import{
			"nested": {Raw: map[string]any{"http_api": map[string]any{"base": map[string]any{"url": url}}}, Want: map[string]any{"base_url": url}},
		},
	})
}

// secured starts an API with TLS that a provider trusts.
func secured(t *testing.T, h http.HandlerFunc) (string, providers.Provider) {
	t.Helper()
	url, rt := vendortest.Secured(t, h)
	return url, bind(rt)
}

func bind(rt providers.Runtime) providers.Provider { return httpapi.New().(providers.Binder).Bind(rt) }

// ways is every way to authenticate, with what an API sees of it.
var ways = map[string]struct {
	params  map[string]any
	secrets []string
	carries func(r *http.Request, credential string) bool
}{
	"bearer": {nil, []string{"token"}, func(r *http.Request, c string) bool { return r.Header.Get("Authorization") == "Bearer "+c }},
	"basic": {map[string]any{"auth": "basic", "username": "acme"}, []string{"password"}, func(r *http.Request, c string) bool {
		u, p, ok := r.BasicAuth()
		return ok && u == "acme" && p == c
	}},
	"a header": {map[string]any{"auth": "header"}, []string{"api_key"}, func(r *http.Request, c string) bool { return r.Header.Get("X-Api-Key") == c }},
	"a header of another name": {map[string]any{"auth": "header", "header_name": "Authorization"}, []string{"api_key"},
		func(r *http.Request, c string) bool { return r.Header.Get("Authorization") == c }},
	"the query": {map[string]any{"auth": "query", "query_name": "key"}, []string{"api_key"}, func(r *http.Request, c string) bool {
		return r.URL.Query().Get("key") == c && r.URL.Query().Get("lang") == "en"
	}},
}

func TestEveryWayToAuthenticate(t *testing.T) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var with, without atomic.Int32
			url, p := secured(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v1/deep/me" || r.Method != http.MethodGet || r.Header.Get("X-Mine") != "yes" {
					t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
				}
				if way.carries(r, canary) {
					with.Add(1)
					return
				}
				without.Add(1)
				w.WriteHeader(http.StatusUnauthorized)
			})
			params := map[string]any{"test_path": "/deep/me", "headers": map[string]any{"X-Mine": "yes"}}
			maps.Copy(params, way.params)
			c, err := p.Schema().Decode(input(url+"/v1?lang=en", params, way.secrets...), providers.DecodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			r, err := p.TestConnection(t.Context(), c, providers.TestOptions{})
			if err != nil {
				t.Fatal(err)
			}
			providertest.CheckReport(t, c, r)
			if !r.OK || with.Load() != 1 || without.Load() != 1 || r.Steps[1].Status != providers.StepOK {
				t.Errorf("%d with, %d without: %s", with.Load(), without.Load(), providertest.Render(r))
			}
		})
	}
}

func TestTraps(t *testing.T) {
	t.Parallel()
	const rfc = "https://www.rfc-editor.org/rfc/rfc9110#name-"
	at := func(h http.HandlerFunc, params map[string]any, secrets ...string) func(*testing.T) (providers.Provider, providers.Input) {
		return func(t *testing.T) (providers.Provider, providers.Input) {
			url, p := secured(t, h)
			return p, input(url, params, secrets...)
		}
	}
	// known answers who has the token, and refuses everybody else.
	known := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+canary {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	fail := func(name, doc string, status int, code providers.TestCode) providertest.Trap {
		return providertest.Trap{Name: name, Doc: doc, Step: "request", Status: providers.StepFail, Code: code,
			Make: at(vendortest.Answer(status, `{"error":"`+canary+`"}`), nil, "token")}
	}
	traps := []providertest.Trap{
		{Name: "all is well", Doc: rfc + "successful-2xx", Make: at(known, nil, "token")},
		{Name: "an API for everybody", Doc: rfc + "successful-2xx", Make: at(vendortest.Answer(200, "{}"), map[string]any{"auth": "none"})},
		fail("wrong credentials", rfc+"401-unauthorized", 401, providers.CodeAuthFailed),
		fail("credentials without the permission", rfc+"403-forbidden", 403, providers.CodePermissionDenied),
		fail("a path that is not there", rfc+"404-not-found", 404, providers.CodeNotFound),
		fail("another method wanted", rfc+"405-method-not-allowed", 405, providers.CodeUnexpectedStatus),
		{
			Name: "an API that asks for credentials", Doc: rfc + "401-unauthorized", Step: "request", Status: providers.StepFail, Code: providers.CodeAuthRequired,
			Make: at(vendortest.Answer(401, ""), map[string]any{"auth": "none"}),
		},
		{
			Name: "a path that anybody may ask for", Doc: rfc + "authentication-and-authoriz", Step: "credentials", Status: providers.StepWarn, Code: providers.CodeNotAuthenticated,
			Make: at(vendortest.Answer(200, "{}"), nil, "token"),
		},
		{
			Name: "an API that sends who has no credentials to its login page", Doc: rfc + "302-found",
			Make: at(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer "+canary {
					http.Redirect(w, r, "/login", http.StatusFound)
				}
			}, nil, "token"),
		},
		{
			Name: "an API that hangs up on who has no credentials",
			Make: at(func(_ http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer "+canary {
					panic(http.ErrAbortHandler)
				}
			}, nil, "token"),
		},
		{
			Name: "an API that leaves who has no credentials hanging",
			Make: at(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Authorization") != "Bearer "+canary {
					vendortest.Hang(w, r)
				}
			}, nil, "token"),
		},
		{
			Name: "credentials without encryption", Doc: rfc + "http-uri-scheme", Step: "request", Status: providers.StepWarn, Code: providers.CodeUnencrypted,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				s := vendortest.Serve(t, map[string]http.HandlerFunc{"GET /{$}": known})
				return bind(vendortest.Runtime(t, nil)), input(s.URL, nil, "token")
			},
		},
		{
			Name: "a path that leaves the base URL", Doc: "https://www.rfc-editor.org/rfc/rfc3986#section-5.2.4", Step: "request", Status: providers.StepFail, Code: providers.CodeConfigIncomplete,
			Make: at(known, map[string]any{"test_path": "/../admin"}, "token"),
		},
		{
			Name: "a header of the transport's", Doc: rfc + "content-length", Step: "request", Status: providers.StepFail, Code: providers.CodeConfigIncomplete,
			Make: at(known, map[string]any{"headers": map[string]any{"Content-Length": "0"}}, "token"),
		},
	}
	for _, name := range slices.Sorted(maps.Keys(ways)) {
		way := ways[name]
		traps = append(traps, providertest.Trap{
			Name: "a credential with every kind of quote, as " + name,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				url, p := secured(t, func(w http.ResponseWriter, r *http.Request) {
					if !way.carries(r, vendortest.OddSecret) {
						w.WriteHeader(http.StatusUnauthorized)
					}
				})
				in := input(url+"/?lang=en", way.params)
				for _, secretName := range way.secrets {
					in.Secrets[secretName] = secret.New(vendortest.OddSecret)
				}
				return p, in
			},
		})
	}
	for _, f := range vendortest.Faults() {
		if f.Code == providers.CodeUnexpectedBody {
			continue // what an unknown API answers with is its own business
		}
		traps = append(traps, providertest.Trap{
			Name: f.Name, Doc: f.Doc, Step: "request", Status: providers.StepFail, Code: f.Code,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				rt := f.Start(t, "http_api")
				url := rt.Endpoints["http_api"]
				if url == "" {
					url = "https://api.acme.example"
				}
				return bind(rt), input(url, nil, "token")
			},
		})
	}
	providertest.RunTraps(t, traps)
}
