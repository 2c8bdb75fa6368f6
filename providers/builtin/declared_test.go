package builtin_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	"github.com/patchbay-dev/patchbay/providers/httpkind"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

// An operator's kinds are files that nobody here has seen. What any of them can
// meet is shown with the guide's, whose host a tenant types.
func TestTrapsOfADeclaredKind(t *testing.T) {
	t.Parallel()
	const (
		doc   = "https://docs.ntfy.sh/publish/#access-tokens"
		token = "tk_canary0123456789"
	)
	kinds, problems := httpkind.LoadDir("../../examples/kinds")
	if len(kinds) != 1 || problems != nil {
		t.Fatal(kinds, problems)
	}
	bind := func(rt providers.Runtime) providers.Provider { return kinds[0].(providers.Binder).Bind(rt) }
	input := func(url, token string) providers.Input {
		return providers.Input{
			Params:  map[string]any{"base_url": url, "topic": "alerts"},
			Secrets: providers.Secrets{"access_token": providers.NewSecret(token)},
		}
	}
	healthy := vendortest.Answer(200, `{"healthy":true}`)
	with := func(token string, auth http.HandlerFunc) func(*testing.T) (providers.Provider, providers.Input) {
		return func(t *testing.T) (providers.Provider, providers.Input) {
			url, rt := vendortest.Secured(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/health" {
					healthy(w, r)
					return
				}
				vendortest.Wants(t, "Bearer "+token, auth)(w, r)
			})
			return bind(rt), input(url, token)
		}
	}
	traps := []providertest.Trap{
		{Name: "all is well", Doc: doc, Make: with(token, vendortest.Answer(200, `{"success":true}`))},
		{Name: "a token with every kind of quote", Doc: doc, Make: with(vendortest.OddSecret, vendortest.Answer(200, `{"success":true}`))},
		{
			Name: "a wrong token", Doc: doc, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAuthFailed,
			Make: with(token, vendortest.Answer(401, `{"code":40101,"http":401,"error":"unauthorized"}`)),
		},
		{
			Name: "a hang at the step authenticate", Step: "authenticate", Status: providers.StepFail, Code: providers.CodeTimeout,
			Make: with(token, vendortest.Hang),
		},
		{
			Name: "a body that ends early", Step: "authenticate", Status: providers.StepFail, Code: providers.CodeConnectionReset,
			Make: with(token, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(w, `{"success":true}`)
			}),
		},
	}
	for _, f := range vendortest.Faults() {
		traps = append(traps, providertest.Trap{
			Name: f.Name, Doc: f.Doc, Step: "health", Status: providers.StepFail, Code: f.Code,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				rt := f.Start(t, "ntfy")
				url := rt.Endpoints["ntfy"]
				if url == "" {
					url = "https://ntfy.acme.example"
				}
				return bind(rt), input(url, token)
			},
		})
	}
	providertest.RunTraps(t, traps)
}
