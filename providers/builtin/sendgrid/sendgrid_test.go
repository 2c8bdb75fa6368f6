package sendgrid_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	"github.com/patchbay-dev/patchbay/providers/builtin/sendgrid"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

// key has the form of SendGrid's: 69 characters.
const key = "SG.canaryid00canaryid0000.canarysecretcanarysecretcanarysecretcanary1"

func input(params map[string]any) providers.Input {
	return providers.Input{Params: params, Secrets: secret.Map{"api_key": secret.New(key)}}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	providertest.Run(t, sendgrid.New(), providertest.Cases{
		Minimal: input(nil),
		Full:    input(map[string]any{"region": "eu", "from": "Acme <no-reply@acme.example>"}),
		Bad: map[string]providertest.Bad{
			"a region that is a host":       {Input: input(map[string]any{"region": "evil.example"}), Want: []string{"/params/region enum"}},
			"a region in capitals":          {Input: input(map[string]any{"region": "EU"}), Want: []string{"/params/region enum"}},
			"a sender with a second header": {Input: input(map[string]any{"from": "a@acme.example\r\nBcc: b@evil.example"}), Want: []string{"/params/from control_character"}},
			"a sender that is a name":       {Input: input(map[string]any{"from": "Acme"}), Want: []string{"/params/from format"}},
			"a key with a line break":       {Input: providers.Input{Secrets: secret.Map{"api_key": secret.New(key + "\n")}}, Want: []string{"/secrets/api_key control_character"}},
			"nothing":                       {Input: providers.Input{}, Want: []string{"/secrets/api_key required"}},
		},
		Imports: map[string]providertest.Import{
			"by kind": {Raw: map[string]any{"sendgrid": map[string]any{"api_key": "k"}}, Want: map[string]any{"api_key": "k"}},
			"joined":  {Raw: map[string]any{"api": map[string]any{"key": "k"}}, Want: map[string]any{"api_key": "k"}},
			"flat":    {Raw: map[string]any{"api_key": "k", "region": "eu"}, Want: map[string]any{"api_key": "k", "region": "eu"}},
		},
		Test: true,
	})
}

// The documents that say what SendGrid answers.
const (
	docScopes    = "https://www.twilio.com/docs/sendgrid/api-reference/api-key-permissions/retrieve-a-list-of-scopes-for-which-this-user-has-access"
	docErrors    = "https://support.sendgrid.com/hc/en-us/articles/18322114821403-4XX-API-Errors-and-Troubleshooting-Suggestions"
	docStatuses  = "https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/errors"
	docKeys      = "https://www.twilio.com/docs/sendgrid/ui/account-and-settings/api-keys"
	docRegions   = "https://www.twilio.com/docs/sendgrid/api-reference/subusers-api/how-to-create-a-eu-regional-subuser-with-the-twilio-sendgrid-api"
	docLimits    = "https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits"
	docSandbox   = "https://www.twilio.com/docs/sendgrid/for-developers/sending-email/sandbox-mode"
	docSender    = "https://www.twilio.com/docs/sendgrid/for-developers/sending-email/sender-identity"
	docAllowList = "https://www.twilio.com/docs/sendgrid/ui/account-and-settings/ip-access-management"
)

const (
	invalidKey = `{"errors":[{"field":null,"message":"The provided authorization grant is invalid, expired, or revoked"}]}`
	forbidden  = `{"errors":[{"field":null,"message":"access forbidden"}]}`
	fullScopes = `{"scopes":["mail.send","mail.batch.create","alerts.read"]}`
)

const (
	routeScopes = "GET /v3/scopes"
	routeSend   = "POST /v3/mail/send"
)

type routes = map[string]http.HandlerFunc

// at binds the provider to one server per region.
func at(t *testing.T, global, eu routes) (providers.Provider, *vendortest.Server, *vendortest.Server) {
	t.Helper()
	auth := func(rs routes) routes {
		out := routes{}
		for pattern, h := range rs {
			out[pattern] = vendortest.Wants(t, "Bearer "+key, h)
		}
		return out
	}
	g, e := vendortest.Serve(t, auth(global)), vendortest.Serve(t, auth(eu))
	p := sendgrid.New().Bind(vendortest.Runtime(t, map[string]string{"sendgrid.global": g.URL, "sendgrid.eu": e.URL}))
	return p, g, e
}

// trap makes a trap's Make from the routes of the two regions.
func trap(global, eu routes, in providers.Input) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		p, _, _ := at(t, global, eu)
		return p, in
	}
}

func TestTraps(t *testing.T) {
	t.Parallel()
	ok := vendortest.Answer(200, fullScopes)
	from := map[string]any{"from": "Acme <no-reply@acme.example>"}
	sends := func(h http.HandlerFunc) routes { return routes{routeScopes: ok, routeSend: h} }
	unknownKey := vendortest.Answer(401, invalidKey)

	traps := []providertest.Trap{
		{Name: "all is well", Doc: docScopes, Level: 1, Make: trap(routes{routeScopes: ok}, nil, input(nil))},
		{Name: "all is well in the EU", Doc: docRegions, Level: 2, Make: trap(nil, routes{routeScopes: ok}, input(map[string]any{"region": "eu"}))},
		{
			Name: "a wrong or revoked key", Doc: docErrors, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAuthFailed,
			Make: trap(routes{routeScopes: unknownKey}, routes{routeScopes: unknownKey}, input(nil)),
		},
		{
			Name: "a key of the EU at the global address", Doc: docRegions, Step: "authenticate", Status: providers.StepFail,
			Code: providers.CodeWrongRegion, Fix: map[string]any{"region": "eu"},
			Make: trap(routes{routeScopes: unknownKey}, routes{routeScopes: ok}, input(nil)),
		},
		{
			Name: "a global key at the EU's address", Doc: docRegions, Step: "authenticate", Status: providers.StepFail,
			Code: providers.CodeWrongRegion, Fix: map[string]any{"region": "global"},
			Make: trap(routes{routeScopes: ok}, routes{routeScopes: unknownKey}, input(map[string]any{"region": "eu"})),
		},
		{
			Name: "a wrong key while the other region is down", Doc: docErrors, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAuthFailed,
			Make: trap(routes{routeScopes: unknownKey}, routes{routeScopes: vendortest.Answer(503, "<html>")}, input(nil)),
		},
		{
			Name: "credits used up", Doc: docErrors, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeQuotaExceeded,
			Make: trap(routes{routeScopes: vendortest.Answer(401, `{"errors":[{"message":"Maximum credits exceeded","field":null,"help":null}]}`)}, nil, input(nil)),
		},
		{
			Name: "403, which is a permission or an IP allow-list", Doc: docAllowList, Step: "authenticate", Status: providers.StepFail, Code: providers.CodePermissionDenied,
			Make: trap(routes{routeScopes: vendortest.Answer(403, forbidden)}, nil, input(nil)),
		},
		{
			Name: "403 by a proxy in between", Doc: docStatuses, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeUnexpectedBody,
			Make: trap(routes{routeScopes: vendortest.Answer(403, "<html>Blocked by policy</html>")}, nil, input(nil)),
		},
		{
			Name: "an IP allow-list that says so", Doc: "https://github.com/sendgrid/docs/issues/5464", Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAddressNotAllowed,
			Make: trap(routes{routeScopes: vendortest.Answer(403, `{"errors":[{"message":"Your IP address is not whitelisted. See http://send.gd/1PemvHz for more details.","field":null}]}`)}, nil, input(nil)),
		},
		{
			Name: "451, because the data has to stay in the other region", Doc: docStatuses, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeWrongRegion,
			Fix: map[string]any{"region": "eu"}, Make: trap(routes{routeScopes: vendortest.Answer(451, `{"errors":[{"field":null,"message":"unavailable"}]}`)}, nil, input(nil)),
		},
		{
			Name: "429 with X-RateLimit-Reset", Doc: docLimits, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeRateLimited,
			Make: trap(routes{routeScopes: vendortest.Answer(429, `{"errors":[{"field":null,"message":"too many requests"}]}`, "X-RateLimit-Limit", "600", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "1392815263")}, nil, input(nil)),
		},
		{
			Name: "a key that is the key's id", Doc: docKeys, Step: "key", Status: providers.StepWarn, Code: providers.CodeKeyMalformed,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				s := vendortest.Serve(t, routes{routeScopes: vendortest.Wants(t, "Bearer canaryid00canaryid0000", ok)})
				p := sendgrid.New().Bind(vendortest.Runtime(t, map[string]string{"sendgrid": s.URL}))
				return p, providers.Input{Secrets: secret.Map{"api_key": secret.New("canaryid00canaryid0000")}}
			},
		},
		{Name: "a key that may send", Doc: docScopes, Level: 2, Make: trap(routes{routeScopes: ok}, nil, input(nil))},
		{
			Name: "a key without mail.send", Doc: docScopes, Level: 2, Step: "scopes", Status: providers.StepFail, Code: providers.CodeScopeMissing,
			Make: trap(routes{routeScopes: vendortest.Answer(200, `{"scopes":["alerts.read","mail.batch.create"]}`)}, nil, input(nil)),
		},
		{
			Name: "a key without any scope", Doc: docScopes, Level: 2, Step: "scopes", Status: providers.StepFail, Code: providers.CodeScopeMissing,
			Make: trap(routes{routeScopes: vendortest.Answer(200, `{"scopes":[]}`)}, nil, input(nil)),
		},
		{
			Name: "a message in sandbox mode", Doc: docSandbox, Level: 3,
			Make: trap(sends(sandbox(t)), nil, input(from)), Recipient: "admin@acme.example",
		},
		{
			Name: "no sender", Doc: docSandbox, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeSenderMissing,
			Make: trap(routes{routeScopes: ok}, nil, input(nil)),
		},
		{
			Name: "a recipient that is no address", Doc: "https://www.rfc-editor.org/rfc/rfc5322#section-3.4", Level: 3, Step: "send", Status: providers.StepFail,
			Code: providers.CodeRecipientRefused, Recipient: "admin@acme.example\r\nBcc: evil@evil.example",
			Make: trap(routes{routeScopes: ok}, nil, input(from)),
		},
		{
			Name: "a sender that is not verified", Doc: docSender, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeSenderRefused,
			Make: trap(sends(vendortest.Answer(403, `{"errors":[{"message":"The from address does not match a verified Sender Identity. Mail cannot be sent until this error is resolved.","field":"from","help":null}]}`)), nil, input(from)),
		},
		{
			Name: "a sender that SendGrid does not accept", Doc: docErrors, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeSenderRefused,
			Make: trap(sends(vendortest.Answer(400, `{"errors":[{"message":"The from email does not contain a valid address.","field":"from.email","help":"http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#message.from"}]}`)), nil, input(from)),
		},
		{
			Name: "a recipient that SendGrid does not accept", Doc: "https://github.com/sklarsa/django-sendgrid-v5/issues/10", Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeRecipientRefused,
			Make: trap(sends(vendortest.Answer(400, `{"errors":[{"message":"The to email parameter is required.","field":"personalizations.0.to.0.email","help":"http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html#message.personalizations.to"}]}`)), nil, input(from)),
		},
		{
			Name: "a message that SendGrid does not accept", Doc: "https://github.com/sendgrid/docs/issues/5060", Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeMessageRefused,
			Make: trap(sends(vendortest.Answer(400, `{"errors":[{"message":"Bad Request","field":null,"help":null}]}`)), nil, input(from)),
		},
		{
			Name: "an account that may not send", Doc: docErrors, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodePermissionDenied,
			Make: trap(sends(vendortest.Answer(401, `{"errors":[{"message":"Authenticated user is not authorized to send mail","field":null,"help":null}]}`)), nil, input(from)),
		},
		{
			Name: "an account whose region may not send here", Doc: docRegions, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeWrongRegion, Fix: map[string]any{"region": "eu"},
			Make: trap(sends(vendortest.Answer(401, `{"errors":[{"message":"Authentication failed: User is not authorized to send mail based on their regional attribute","field":null}]}`)), nil, input(from)),
		},
		{
			Name: "sandbox mode that is ignored", Doc: docSandbox, Level: 3, Step: "send", Status: providers.StepWarn, Code: providers.CodeUnexpectedStatus,
			Make: trap(sends(vendortest.Answer(202, "")), nil, input(from)),
		},
	}
	traps = append(traps,
		providertest.Trap{
			Name: "a hang at the step send", Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeTimeout,
			Make: trap(sends(vendortest.Hang), nil, input(from)),
		},
		providertest.Trap{
			Name: "a key with every kind of quote", Doc: docKeys, Step: "key", Status: providers.StepWarn, Code: providers.CodeKeyMalformed,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				s := vendortest.Serve(t, routes{routeScopes: vendortest.Wants(t, "Bearer "+vendortest.OddSecret, ok)})
				p := sendgrid.New().Bind(vendortest.Runtime(t, map[string]string{"sendgrid": s.URL}))
				return p, providers.Input{Secrets: secret.Map{"api_key": secret.New(vendortest.OddSecret)}}
			},
		},
	)
	traps = append(traps, vendortest.Traps("authenticate", "sendgrid", nil, func(_ *testing.T, rt providers.Runtime) (providers.Provider, providers.Input) {
		return sendgrid.New().Bind(rt), input(nil)
	})...)
	providertest.RunTraps(t, traps)
}

// sandbox takes a message only if it can't be delivered, and is the one that an
// admin asked for.
func sandbox(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			Personalizations []struct {
				To []struct{ Email, Name string }
			}
			From    struct{ Email, Name string }
			Subject string
			Content []struct{ Type, Value string }
			Mail    struct {
				Sandbox struct {
					Enable any `json:"enable"`
				} `json:"sandbox_mode"`
			} `json:"mail_settings"`
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Errorf("the message: %v", err)
		}
		if m.Mail.Sandbox.Enable != true {
			t.Errorf("sandbox_mode.enable is %v: the mail would be delivered", m.Mail.Sandbox.Enable)
		}
		if len(m.Personalizations) != 1 || len(m.Personalizations[0].To) != 1 || m.Personalizations[0].To[0].Email != "admin@acme.example" ||
			m.From.Email != "no-reply@acme.example" || m.From.Name != "Acme" || m.Subject == "" || len(m.Content) != 1 || m.Content[0].Value == "" {
			t.Errorf("not the message that was asked for: %+v", m)
		}
		w.WriteHeader(http.StatusOK)
	}
}

// Every way to quote must reach SendGrid as it is, and nothing of it the report.
func TestOddKeys(t *testing.T) {
	t.Parallel()
	for _, odd := range []string{`'single'`, `"double"`, "`back`", `back\slash`, `$HOME %d {{x}} <b>`, "ümläut-密码", "with space"} {
		s := vendortest.Serve(t, routes{routeScopes: vendortest.Wants(t, "Bearer "+odd, vendortest.Answer(401, invalidKey))})
		p := sendgrid.New().Bind(vendortest.Runtime(t, map[string]string{"sendgrid": s.URL}))
		c, err := p.Schema().Decode(providers.Input{Secrets: secret.Map{"api_key": secret.New(odd)}}, providers.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.TestConnection(t.Context(), c, providers.TestOptions{})
		if err != nil || r.Code() != providers.CodeAuthFailed || strings.Contains(providertest.Render(r), odd) {
			t.Errorf("%s: %v %s", odd, err, providertest.Render(r))
		}
		// One endpoint for both regions: there is no other one to look in.
		if n := len(s.Requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
	}
}

func TestRateLimitReset(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, reset string
		wait        bool
	}{
		{"in half a minute", strconv.FormatInt(time.Now().Add(30*time.Second).Unix(), 10), true},
		{"passed", "1392815263", false},
		{"next year", strconv.FormatInt(time.Now().Add(9000*time.Hour).Unix(), 10), false},
		{"garbage", "soon", false},
		{"absent", "", false},
	} {
		p, _, _ := at(t, routes{routeScopes: vendortest.Answer(429, "{}", "X-RateLimit-Reset", c.reset)}, nil)
		cfg, err := p.Schema().Decode(input(nil), providers.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.TestConnection(t.Context(), cfg, providers.TestOptions{})
		if err != nil || r.Code() != providers.CodeRateLimited || strings.Contains(r.Message, "Try again in ") != c.wait {
			t.Errorf("%s: %v, %q", c.name, err, r.Message)
		}
	}
}

// A test of level 1 and 2 sends nothing.
func TestLevelsWithoutSideEffects(t *testing.T) {
	t.Parallel()
	p, global, eu := at(t, routes{routeScopes: vendortest.Answer(200, fullScopes)}, nil)
	c, err := p.Schema().Decode(input(map[string]any{"from": "a@acme.example"}), providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for level := range 3 {
		if r, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: level}); err != nil || !r.OK {
			t.Errorf("level %d: %v %+v", level, err, r)
		}
	}
	for _, r := range append(global.Requests(), eu.Requests()...) {
		if r.Method != http.MethodGet || r.Body != "" || r.Query != "" {
			t.Errorf("%s %s?%s %s", r.Method, r.Path, r.Query, r.Body)
		}
	}
}
