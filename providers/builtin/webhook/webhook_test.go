package webhook_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	"github.com/patchbay-dev/patchbay/providers/builtin/webhook"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

const (
	plainKey      = "canary-signing-secret"
	authorization = "Bearer canary-authorization"
)

// encodedKey is a key as Standard Webhooks writes it.
var encodedKey = "whsec_" + base64.StdEncoding.EncodeToString([]byte("canary-of-thirty-two-random-byte"))

func input(url string, params map[string]any, secrets secret.Map) providers.Input {
	p := map[string]any{"url": url}
	maps.Copy(p, params)
	return providers.Input{Params: p, Secrets: secrets}
}

func key(text string) secret.Map { return secret.Map{"signing_secret": secret.New(text)} }

func TestSuite(t *testing.T) {
	t.Parallel()
	const url = "https://hooks.acme.example/in"
	both := secret.Map{"signing_secret": secret.New(encodedKey), "authorization": secret.New(authorization)}
	providertest.Run(t, webhook.New(), providertest.Cases{
		Minimal: input(url, nil, nil),
		Full:    input(url, map[string]any{"method": "PUT", "headers": map[string]any{"X-Source": "billing"}, "signature": "hmac_sha256"}, both),
		Bad: map[string]providertest.Bad{
			"a URL with a password": {Input: input("https://user:pass@hooks.acme.example/in", nil, nil), Want: []string{"/params/url format"}},
			"another scheme":        {Input: input("file:///etc/passwd", nil, nil), Want: []string{"/params/url format"}},
			"a short key":           {Input: input(url, nil, key("short")), Want: []string{"/secrets/signing_secret min_length"}},
			"a method that deletes": {Input: input(url, map[string]any{"method": "DELETE"}, nil), Want: []string{"/params/method enum"}},
			"nothing":               {Input: providers.Input{}, Want: []string{"/params/url required"}},
		},
		Imports: map[string]providertest.Import{
			"nested": {Raw: map[string]any{"webhook": map[string]any{"url": url}, "signature": map[string]any{"secret": "k"}}, Want: map[string]any{"url": url, "signing_secret": "k"}},
		},
		Test: true,
	})
}

// receiver is a tenant's server, with TLS, and the process's way out, which trusts
// the server's certificate.
type receiver struct {
	URL   string
	rt    providers.Runtime
	asked atomic.Int32
}

func receive(t *testing.T, h http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{}
	r.URL, r.rt = vendortest.Secured(t, func(w http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		h(w, req)
	})
	return r
}

func bind(rt providers.Runtime) providers.Provider { return webhook.New().(providers.Binder).Bind(rt) }

func test(t *testing.T, p providers.Provider, in providers.Input, level int) providers.TestReport {
	t.Helper()
	c, err := p.Schema().Decode(in, providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: level})
	if err != nil {
		t.Fatal(err)
	}
	providertest.CheckReport(t, c, r)
	return r
}

// Below level 3 nothing is asked: a receiver may act on any request.
func TestOnlyLevel3Sends(t *testing.T) {
	t.Parallel()
	r := receive(t, vendortest.Answer(204, ""))
	p := bind(r.rt)
	for level := range 3 {
		if got := test(t, p, input(r.URL+"/in", nil, key(plainKey)), level); !got.OK || r.asked.Load() != 0 {
			t.Errorf("level %d: %d requests, %s", level, r.asked.Load(), providertest.Render(got))
		}
	}
	if got := test(t, p, input(r.URL+"/in", nil, key(plainKey)), 3); !got.OK || r.asked.Load() != 1 {
		t.Errorf("level 3: %d requests, %s", r.asked.Load(), providertest.Render(got))
	}
}

// The receiver verifies as the documents say
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md,
// https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries).
func TestSignatures(t *testing.T) {
	t.Parallel()
	mac := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	standard := func(key []byte) func(http.Header, string) bool {
		return func(h http.Header, body string) bool {
			at, err := strconv.ParseInt(h.Get("Webhook-Timestamp"), 10, 64)
			if err != nil || time.Since(time.Unix(at, 0)).Abs() > time.Minute || h.Get("Webhook-Id") == "" {
				return false
			}
			return h.Get("Webhook-Signature") == "v1,"+base64.StdEncoding.EncodeToString(mac(key, h.Get("Webhook-Id")+"."+h.Get("Webhook-Timestamp")+"."+body))
		}
	}
	none := func(h http.Header, _ string) bool {
		return h.Get("Webhook-Signature") == "" && h.Get("X-Hub-Signature-256") == ""
	}
	for name, tt := range map[string]struct {
		params   map[string]any
		secrets  secret.Map
		verified func(http.Header, string) bool
	}{
		"a key in base64": {nil, key(encodedKey), standard([]byte("canary-of-thirty-two-random-byte"))},
		"a key as it is":  {nil, key(plainKey), standard([]byte(plainKey))},
		"as GitHub": {map[string]any{"signature": "hmac_sha256", "method": "PUT"}, key(plainKey), func(h http.Header, body string) bool {
			return h.Get("X-Hub-Signature-256") == "sha256="+hex.EncodeToString(mac([]byte(plainKey), body)) && h.Get("Webhook-Id") == ""
		}},
		"no key": {nil, nil, none},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			method := "POST"
			if m, ok := tt.params["method"].(string); ok {
				method = m
			}
			r := receive(t, func(w http.ResponseWriter, req *http.Request) {
				body, err := io.ReadAll(req.Body)
				if err != nil {
					t.Error(err)
				}
				var event struct {
					Type      string
					Timestamp time.Time
					Data      struct{ ID string }
				}
				if json.Unmarshal(body, &event) != nil || event.Type != "patchbay.test" || event.Timestamp.IsZero() || event.Data.ID == "" {
					t.Errorf("the event is %s", body)
				}
				if !tt.verified(req.Header, string(body)) || req.Method != method || req.URL.RequestURI() != "/in?x=1" {
					t.Errorf("%s %s with %v", req.Method, req.URL, req.Header)
				}
				w.WriteHeader(http.StatusAccepted)
			})
			if got := test(t, bind(r.rt), input(r.URL+"/in?x=1", tt.params, tt.secrets), 3); !got.OK {
				t.Error(providertest.Render(got))
			}
		})
	}
}

func TestHeadersAndAuthorization(t *testing.T) {
	t.Parallel()
	r := receive(t, func(_ http.ResponseWriter, req *http.Request) {
		if req.Header.Get("X-Source") != "billing" || req.Header.Get("Authorization") != authorization {
			t.Errorf("the headers are %v", req.Header)
		}
	})
	secrets := secret.Map{"authorization": secret.New(authorization)}
	if got := test(t, bind(r.rt), input(r.URL, map[string]any{"headers": map[string]any{"X-Source": "billing"}}, secrets), 3); !got.OK {
		t.Error(providertest.Render(got))
	}
}

func TestTraps(t *testing.T) {
	t.Parallel()
	const (
		doc     = "https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md"
		rfc     = "https://www.rfc-editor.org/rfc/rfc9110#name-"
		docURLs = "https://www.rfc-editor.org/rfc/rfc9110#name-safe-methods"
	)
	at := func(h http.HandlerFunc, params map[string]any, secrets secret.Map) func(*testing.T) (providers.Provider, providers.Input) {
		return func(t *testing.T) (providers.Provider, providers.Input) {
			r := receive(t, h)
			return bind(r.rt), input(r.URL+"/in", params, secrets)
		}
	}
	fail := func(name, doc string, status int, code providers.TestCode) providertest.Trap {
		return providertest.Trap{Name: name, Doc: doc, Level: 3, Step: "send", Status: providers.StepFail, Code: code,
			Make: at(vendortest.Answer(status, `{"error":"canary-signing-secret"}`), nil, key(plainKey))}
	}
	traps := []providertest.Trap{
		{Name: "all is well", Doc: docURLs, Make: at(vendortest.Answer(500, ""), nil, key(plainKey))},
		{Name: "an event that is taken", Doc: doc, Level: 3, Make: at(vendortest.Answer(204, ""), nil, key(encodedKey))},
		fail("a signature that is refused", rfc+"401-unauthorized", 401, providers.CodeAuthFailed),
		fail("an Authorization that is refused", rfc+"403-forbidden", 403, providers.CodeAuthFailed),
		fail("an address that is gone", rfc+"410-gone", 410, providers.CodeNotFound),
		fail("an address that is not there", rfc+"404-not-found", 404, providers.CodeNotFound),
		fail("another method wanted", rfc+"405-method-not-allowed", 405, providers.CodeMessageRefused),
		fail("an event of an unknown sort", rfc+"422-unprocessable-content", 422, providers.CodeMessageRefused),
		fail("a receiver that is overloaded", rfc+"503-service-unavailable", 503, providers.CodeVendorError),
		fail("too many events", "https://www.rfc-editor.org/rfc/rfc6585#section-4", 429, providers.CodeRateLimited),
		{
			Name: "a receiver that redirects", Doc: rfc + "redirection-3xx", Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeRedirected,
			Make: at(vendortest.Answer(308, "", "Location", "/elsewhere"), nil, key(plainKey)),
		},
		{
			Name: "a key that only looks like base64", Doc: doc, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeConfigIncomplete,
			Make: at(vendortest.Answer(204, ""), nil, key("whsec_not base64 at all!")),
		},
		{
			Name: "a header that would be two", Doc: "https://www.rfc-editor.org/rfc/rfc9110#name-field-values", Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeConfigIncomplete,
			Make: at(vendortest.Answer(204, ""), map[string]any{"headers": map[string]any{"X-A": "a\r\nX-B: b"}}, nil),
		},
		{
			Name: "an address without encryption", Doc: "https://www.rfc-editor.org/rfc/rfc9110#name-http-uri-scheme", Step: "connect", Status: providers.StepWarn, Code: providers.CodeUnencrypted,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				s := vendortest.Serve(t, nil)
				return bind(vendortest.Runtime(t, nil)), input(s.URL, nil, key(plainKey))
			},
		},
	}
	traps = append(traps, providertest.Trap{
		Name: "secrets with every kind of quote", Doc: doc, Level: 3,
		Make: func(t *testing.T) (providers.Provider, providers.Input) {
			r := receive(t, func(w http.ResponseWriter, req *http.Request) {
				body, err := io.ReadAll(req.Body)
				if err != nil {
					t.Error(err)
				}
				m := hmac.New(sha256.New, []byte(vendortest.OddSecret))
				m.Write([]byte(req.Header.Get("Webhook-Id") + "." + req.Header.Get("Webhook-Timestamp") + "." + string(body)))
				want := "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil))
				if req.Header.Get("Webhook-Signature") != want || req.Header.Get("Authorization") != vendortest.OddSecret {
					w.WriteHeader(http.StatusUnauthorized)
				}
			})
			return bind(r.rt), input(r.URL, nil, secret.Map{"signing_secret": secret.New(vendortest.OddSecret), "authorization": secret.New(vendortest.OddSecret)})
		},
	})
	// What shows before anything is asked is found by every level, the rest by an
	// event that is sent.
	for _, f := range vendortest.Faults() {
		trap := providertest.Trap{
			Name: f.Name, Doc: f.Doc, Step: "connect", Status: providers.StepFail, Code: f.Code,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				rt := f.Start(t, "webhook")
				url := rt.Endpoints["webhook"]
				if url == "" {
					url = "https://hooks.acme.example/in"
				}
				return bind(rt), input(url, nil, key(plainKey))
			},
		}
		switch {
		case f.Code == providers.CodeUnexpectedBody:
			continue // what a receiver answers with is its own business
		case f.Early:
		case f.Code == providers.CodeUnexpectedStatus:
			continue // a status of the 400s is a refusal of the event, as above
		case strings.HasPrefix(f.Name, vendortest.Rebinding):
			// The first look-up was for the step that connects; the second is judged too.
			trap.Name, trap.Level, trap.Step, trap.Code = vendortest.Rebinding, 3, "send", providers.CodeEgressDenied
		default:
			trap.Level, trap.Step = 3, "send"
		}
		traps = append(traps, trap)
	}
	providertest.RunTraps(t, traps)
}
