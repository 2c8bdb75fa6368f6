package mailgun_test

import (
	"encoding/base64"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	"github.com/patchbay-dev/patchbay/providers/builtin/mailgun"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

const (
	key    = "canary00canary00canary00canary00-canary00-canary00"
	domain = "mg.acme.example"
)

func input(params map[string]any) providers.Input {
	all := map[string]any{"domain": domain}
	maps.Copy(all, params)
	return providers.Input{Params: all, Secrets: secret.Map{"api_key": secret.New(key)}}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	bad := func(name string, value any, want string) providertest.Bad {
		return providertest.Bad{Input: input(map[string]any{name: value}), Want: []string{"/params/" + name + " " + want}}
	}
	providertest.Run(t, mailgun.New(), providertest.Cases{
		Minimal: input(nil),
		Full:    input(map[string]any{"region": "eu", "key_type": "sending", "from": "Acme <no-reply@mg.acme.example>"}),
		Bad: map[string]providertest.Bad{
			"a domain that climbs":           bad("domain", "../accounts", "format"),
			"a domain with a path":           bad("domain", "a.example/b", "format"),
			"a domain with a query":          bad("domain", "a.example?limit=1", "format"),
			"a domain that is escaped":       bad("domain", "a.example%2f..", "format"),
			"a domain with a scheme":         bad("domain", "https://a.example", "format"),
			"a domain that is an address":    bad("domain", "192.0.2.1", "format"),
			"a domain with a line break":     bad("domain", "a.example\nX: y", "control_character"),
			"a region that is a host":        bad("region", "evil.example", "enum"),
			"a key type that does not exist": bad("key_type", "private", "enum"),
			"a sender with a second header":  bad("from", "a@acme.example\r\nBcc: b@evil.example", "control_character"),
			"nothing":                        {Input: providers.Input{}, Want: []string{"/params/domain required", "/secrets/api_key required"}},
		},
		Imports: map[string]providertest.Import{
			"by kind": {Raw: map[string]any{"mailgun": map[string]any{"domain": "d", "api_key": "k"}}, Want: map[string]any{"domain": "d", "api_key": "k"}},
			"joined":  {Raw: map[string]any{"key": map[string]any{"type": "sending"}}, Want: map[string]any{"key_type": "sending"}},
		},
		Test: true,
	})
}

// The documents that say what Mailgun answers.
const (
	docDomains = "https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/domains"
	docRegions = "https://documentation.mailgun.com/docs/mailgun/api-reference"
	docKeys    = "https://documentation.mailgun.com/docs/mailgun/api-reference/authentication"
	docTest    = "https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/test-mode"
	doc401     = "https://github.com/mailgun/mailgun.js/issues/207"
	docInvalid = "https://github.com/mailgun/mailgun.js/issues/227"
	docMissing = "https://github.com/Bogardo/Mailgun-Magento2/issues/15"
	docFrom    = "https://github.com/fastlane/fastlane/issues/8568"
	docTo      = "https://github.com/mailgun/mailgun-js-boland/issues/199"
	docSandbox = "https://documentation.mailgun.com/docs/mailgun/quickstart/"
	docError   = "https://documentation.mailgun.com/docs/mailgun/quickstart-guide/responses"
)

type routes = map[string]http.HandlerFunc

const (
	routeDomain = "GET /v4/domains/" + domain
	routeSend   = "POST /v3/" + domain + "/messages"
)

var authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte("api:"+key))

// at binds the provider to one server per region.
func at(t *testing.T, us, eu routes) (p providers.Provider, usServer, euServer *vendortest.Server) {
	t.Helper()
	auth := func(rs routes) routes {
		out := routes{}
		for pattern, h := range rs {
			out[pattern] = vendortest.Wants(t, authorization, h)
		}
		return out
	}
	usServer, euServer = vendortest.Serve(t, auth(us)), vendortest.Serve(t, auth(eu))
	rt := vendortest.Runtime(t, map[string]string{"mailgun.us": usServer.URL, "mailgun.eu": euServer.URL})
	return mailgun.New().Bind(rt), usServer, euServer
}

func trap(us, eu routes, in providers.Input) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		p, _, _ := at(t, us, eu)
		return p, in
	}
}

func state(s string) http.HandlerFunc {
	return vendortest.Answer(200, `{"domain":{"name":"`+domain+`","state":"`+s+`","type":"custom","is_disabled":false},"receiving_dns_records":[],"sending_dns_records":[]}`)
}

func TestTraps(t *testing.T) {
	t.Parallel()
	var (
		active    = state("active")
		noKey     = vendortest.Answer(401, `{"message":"Invalid private key"}`)
		forbidden = vendortest.Answer(401, "Forbidden")
		noDomain  = vendortest.Answer(404, `{"message":"Domain not found"}`)
		missing   = vendortest.Answer(400, `{"message":"'from' parameter is missing"}`)
		unknown   = routes{routeDomain: noKey, routeSend: forbidden}
		sender    = map[string]any{"from": "Acme <no-reply@mg.acme.example>"}
		sending   = map[string]any{"key_type": "sending"}
	)
	sends := func(h http.HandlerFunc) routes { return routes{routeDomain: active, routeSend: h} }

	traps := []providertest.Trap{
		{Name: "all is well", Doc: docDomains, Make: trap(routes{routeDomain: active}, nil, input(nil))},
		{Name: "all is well in the EU", Doc: docRegions, Level: 2, Make: trap(nil, routes{routeDomain: active}, input(map[string]any{"region": "eu"}))},
		{
			Name: "a wrong key in both regions", Doc: docInvalid, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAuthFailed,
			Make: trap(unknown, unknown, input(nil)),
		},
		{
			Name: "401 because the domain is in the EU", Doc: docRegions, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeWrongRegion,
			Fix: map[string]any{"region": "eu"}, Make: trap(unknown, routes{routeDomain: active}, input(nil)),
		},
		{
			Name: "404 because the domain is in the EU", Doc: docRegions, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeWrongRegion,
			Fix: map[string]any{"region": "eu"}, Make: trap(routes{routeDomain: noDomain}, routes{routeDomain: active}, input(nil)),
		},
		{
			Name: "404 because the domain is in the US", Doc: docRegions, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeWrongRegion,
			Fix: map[string]any{"region": "us"}, Make: trap(routes{routeDomain: active}, routes{routeDomain: noDomain}, input(map[string]any{"region": "eu"})),
		},
		{
			Name: "a domain that the account does not have", Doc: docDomains, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeDomainNotFound,
			Make: trap(routes{routeDomain: noDomain}, routes{routeDomain: noDomain}, input(nil)),
		},
		{
			Name: "a domain that the account, known in the EU only, does not have", Doc: docDomains, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeDomainNotFound,
			Make: trap(unknown, routes{routeDomain: noDomain}, input(nil)),
		},
		{
			Name: "a wrong key while the other region is down", Doc: docInvalid, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAuthFailed,
			Make: trap(unknown, routes{routeDomain: vendortest.Answer(503, "<html>"), routeSend: vendortest.Answer(503, "<html>")}, input(nil)),
		},
		{
			Name: "a sending key that is not said to be one", Doc: docKeys, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeSendingKey,
			Fix: sending, Make: trap(routes{routeDomain: forbidden, routeSend: missing}, unknown, input(nil)),
		},
		{
			Name: "a sending key of the EU that is not said to be one", Doc: docKeys, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeWrongRegion,
			Fix: map[string]any{"region": "eu", "key_type": "sending"}, Make: trap(unknown, routes{routeDomain: forbidden, routeSend: missing}, input(nil)),
		},
		{
			Name: "403 to a key that may not look at domains", Doc: docError, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeSendingKey,
			Fix: sending, Make: trap(routes{routeDomain: vendortest.Answer(403, `{"message":"Forbidden"}`), routeSend: missing}, unknown, input(nil)),
		},
		{
			Name: "403 to everything", Doc: docError, Step: "authenticate", Status: providers.StepFail, Code: providers.CodePermissionDenied,
			Make: trap(routes{routeDomain: vendortest.Answer(403, `{"message":"Forbidden"}`), routeSend: vendortest.Answer(403, `{"message":"Forbidden"}`)}, unknown, input(nil)),
		},
		{
			Name: "404 to an endpoint that does not exist", Doc: docError, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeUnexpectedBody,
			Make: trap(routes{routeDomain: vendortest.Answer(404, "404 page not found")}, nil, input(nil)),
		},
		{
			Name: "an answer about another domain", Doc: docDomains, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeUnexpectedBody,
			Make: trap(routes{routeDomain: vendortest.Answer(200, `{"domain":{"name":"other.example","state":"active"}}`)}, nil, input(nil)),
		},
		{Name: "a sending key that is said to be one", Doc: docMissing, Level: 2, Make: trap(routes{routeSend: incomplete(t, missing)}, nil, input(sending))},
		{
			Name: "a sending key that is wrong", Doc: doc401, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAuthFailed,
			Make: trap(unknown, unknown, input(sending)),
		},
		{
			Name: "a sending key of the EU", Doc: docRegions, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeWrongRegion,
			Fix: map[string]any{"region": "eu"}, Make: trap(unknown, routes{routeSend: missing}, input(sending)),
		},
		{
			Name: "a sending key of another domain", Doc: docKeys, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeDomainNotFound,
			Make: trap(routes{routeSend: noDomain}, unknown, input(sending)),
		},
		{
			Name: "a proxy that answers 400 to a sending key", Step: "authenticate", Status: providers.StepFail, Code: providers.CodeUnexpectedBody,
			Make: trap(routes{routeSend: vendortest.Answer(400, "<html>Bad Request</html>")}, nil, input(sending)),
		},
		{Name: "a domain that is active", Doc: docDomains, Level: 2, Make: trap(routes{routeDomain: active}, nil, input(nil))},
		{
			Name: "a domain that is not verified", Doc: docDomains, Level: 2, Step: "domain", Status: providers.StepFail, Code: providers.CodeDomainInactive,
			Make: trap(routes{routeDomain: state("unverified")}, nil, input(nil)),
		},
		{
			Name: "a domain that Mailgun disabled", Doc: docDomains, Level: 2, Step: "domain", Status: providers.StepFail, Code: providers.CodeDomainInactive,
			Make: trap(routes{routeDomain: state("disabled")}, nil, input(nil)),
		},
		{
			Name: "a message in test mode", Doc: docTest, Level: 3, Recipient: "Ädmin <admin@acme.example>",
			Make: trap(sends(testMode(t)), nil, input(sender)),
		},
		{
			Name: "no sender", Doc: docTest, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeSenderMissing,
			Make: trap(routes{routeDomain: active}, nil, input(nil)),
		},
		{
			Name: "a recipient that is no address", Doc: "https://www.rfc-editor.org/rfc/rfc5322#section-3.4", Level: 3, Step: "send", Status: providers.StepFail,
			Code: providers.CodeRecipientRefused, Recipient: "admin@acme.example\r\nBcc: evil@evil.example",
			Make: trap(routes{routeDomain: active}, nil, input(sender)),
		},
		{
			Name: "a sandbox domain and a recipient who is not authorized", Doc: docSandbox, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeRecipientRefused,
			Make: trap(sends(vendortest.Answer(403, `{"message":"Domain `+domain+` is not allowed to send: Free accounts are for test purposes only. Please upgrade or add the address to your authorized recipients."}`)), nil, input(sender)),
		},
		{
			Name: "a domain that may not send", Doc: docError, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodePermissionDenied,
			Make: trap(sends(vendortest.Answer(403, `{"message":"Domain `+domain+` is not allowed to send: The domain is unverified"}`)), nil, input(sender)),
		},
		{
			Name: "a sender that Mailgun does not accept", Doc: docFrom, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeSenderRefused,
			Make: trap(sends(vendortest.Answer(400, `{"message":"'from' parameter is not a valid address. please check documentation"}`)), nil, input(sender)),
		},
		{
			Name: "a recipient that Mailgun does not accept", Doc: docTo, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeRecipientRefused,
			Make: trap(sends(vendortest.Answer(400, `{"message":"'to' parameter is not a valid address. please check documentation"}`)), nil, input(sender)),
		},
		{
			Name: "a message that Mailgun does not accept", Doc: docError, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeMessageRefused,
			Make: trap(sends(vendortest.Answer(400, `{"message":"need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified"}`)), nil, input(sender)),
		},
	}
	traps = append(traps,
		providertest.Trap{
			Name: "a hang at the step send", Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeTimeout,
			Make: trap(sends(vendortest.Hang), nil, input(sender)),
		},
		providertest.Trap{
			Name: "a wrong key while the other region hangs", Level: 1, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAuthFailed,
			Make: trap(routes{routeDomain: noKey, routeSend: forbidden}, routes{routeDomain: vendortest.Hang, routeSend: vendortest.Hang}, input(nil)),
		},
		providertest.Trap{
			Name: "a key with every kind of quote", Doc: docKeys,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				pair := base64.StdEncoding.EncodeToString([]byte("api:" + vendortest.OddSecret))
				s := vendortest.Serve(t, routes{routeDomain: vendortest.Wants(t, "Basic "+pair, active)})
				in := input(nil)
				in.Secrets["api_key"] = secret.New(vendortest.OddSecret)
				return mailgun.New().Bind(vendortest.Runtime(t, map[string]string{"mailgun": s.URL})), in
			},
		},
	)
	traps = append(traps, vendortest.Traps("authenticate", "mailgun", nil, func(_ *testing.T, rt providers.Runtime) (providers.Provider, providers.Input) {
		return mailgun.New().Bind(rt), input(nil)
	})...)
	providertest.RunTraps(t, traps)
}

// fields reads a message's form.
func fields(t *testing.T, r *http.Request) map[string][]string {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		t.Errorf("the content type: %v", err)
		return nil
	}
	form, err := multipart.NewReader(r.Body, params["boundary"]).ReadForm(1 << 20)
	if err != nil {
		t.Errorf("the form: %v", err)
		return nil
	}
	return form.Value
}

// incomplete is h for a message that can't be delivered to anybody.
func incomplete(t *testing.T, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f := fields(t, r)
		if len(f["to"])+len(f["cc"])+len(f["bcc"])+len(f["from"]) > 0 || len(f["o:testmode"]) != 1 || f["o:testmode"][0] != "yes" {
			t.Errorf("a message that could be delivered: %v", f)
		}
		h(w, r)
	}
}

// testMode takes a message only if it is the one that was asked for, and is in
// test mode.
func testMode(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f := fields(t, r)
		for name, want := range map[string]string{
			"o:testmode": "yes", "from": `"Acme" <no-reply@mg.acme.example>`, "to": "=?utf-8?q?=C3=84dmin?= <admin@acme.example>",
		} {
			if len(f[name]) != 1 || f[name][0] != want {
				t.Errorf("%s is %q, not %q", name, f[name], want)
			}
		}
		if len(f["subject"]) != 1 || len(f["text"]) != 1 {
			t.Errorf("the message is %v", f)
		}
		vendortest.Answer(200, `{"id":"<20260101000000.1.ABC@mg.acme.example>","message":"Queued. Thank you."}`)(w, r)
	}
}

// Each region is asked once, and a wrong key costs four requests at most.
func TestRequestsAreFew(t *testing.T) {
	t.Parallel()
	no := vendortest.Answer(401, "Forbidden")
	all := routes{routeDomain: no, routeSend: no}
	p, us, eu := at(t, all, all)
	c, err := p.Schema().Decode(input(nil), providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.TestConnection(t.Context(), c, providers.TestOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []*vendortest.Server{us, eu} {
		seen := map[string]int{}
		for _, r := range s.Requests() {
			seen[r.Method+" "+r.Path]++
		}
		if len(seen) != 2 || seen[routeDomain] != 1 || seen[routeSend] != 1 {
			t.Errorf("%v", seen)
		}
	}
}

// Every way to quote must reach Mailgun as it is, and nothing of it the report.
func TestOddKeys(t *testing.T) {
	t.Parallel()
	for _, odd := range []string{`'single'`, `"double"`, "`back`", `back\slash`, `a:colon`, `$HOME %d {{x}} <b>`, "ümläut-密码", "with space"} {
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("api:"+odd))
		s := vendortest.Serve(t, routes{routeDomain: vendortest.Wants(t, want, state("active"))})
		p := mailgun.New().Bind(vendortest.Runtime(t, map[string]string{"mailgun": s.URL}))
		in := input(nil)
		in.Secrets["api_key"] = secret.New(odd)
		c, err := p.Schema().Decode(in, providers.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.TestConnection(t.Context(), c, providers.TestOptions{})
		if err != nil || !r.OK || strings.Contains(providertest.Render(r), odd) {
			t.Errorf("%s: %v %s", odd, err, providertest.Render(r))
		}
	}
}

// The schema refuses such a domain; should one ever get past it (an older
// record), it is still one segment of the path.
func TestDomainStaysOneSegment(t *testing.T) {
	t.Parallel()
	for domain, want := range map[string]string{
		"../accounts": "/v4/domains/..%2Faccounts", "a/b?c": "/v4/domains/a%2Fb%3Fc", "a#b": "/v4/domains/a%23b", "a%2fb": "/v4/domains/a%252fb",
	} {
		s := vendortest.Serve(t, routes{"/": vendortest.Answer(404, `{"message":"Domain not found"}`)})
		p := mailgun.New().Bind(vendortest.Runtime(t, map[string]string{"mailgun": s.URL}))
		c := providers.Config{Kind: "mailgun", Params: map[string]any{"domain": domain}, Secrets: secret.Map{"api_key": secret.New(key)}}
		if _, err := p.TestConnection(t.Context(), c, providers.TestOptions{}); err != nil {
			t.Fatal(err)
		}
		if got := s.Requests(); len(got) != 1 || got[0].Path != want || got[0].Query != "" {
			t.Errorf("%s: %+v", domain, got)
		}
	}
}
