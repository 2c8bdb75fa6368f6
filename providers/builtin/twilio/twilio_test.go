package twilio_test

import (
	"encoding/base64"
	"maps"
	"net/http"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	"github.com/patchbay-dev/patchbay/providers/builtin/twilio"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

const (
	account   = "AC0123456789abcdef0123456789abcdef"
	key       = "SK0123456789abcdef0123456789abcdef"
	service   = "MG0123456789abcdef0123456789abcdef"
	token     = "canary-auth-token"
	keySecret = "canary-key-secret"
)

// withToken and withKey are configs of the two sorts.
func withToken(params map[string]any) providers.Input {
	p := map[string]any{"account_sid": account}
	maps.Copy(p, params)
	return providers.Input{Params: p, Secrets: secret.Map{"auth_token": secret.New(token)}}
}

func withKey(params map[string]any) providers.Input {
	p := map[string]any{"account_sid": account, "auth": "api_key", "api_key_sid": key}
	maps.Copy(p, params)
	return providers.Input{Params: p, Secrets: secret.Map{"api_key_secret": secret.New(keySecret)}}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	providertest.Run(t, twilio.New(), providertest.Cases{
		Minimal: withToken(nil),
		Full:    withKey(map[string]any{"messaging_service_sid": service}),
		Bad: map[string]providertest.Bad{
			"the key's SID as the account's": {Input: withToken(map[string]any{"account_sid": key}), Want: []string{"/params/account_sid pattern"}},
			"two senders":                    {Input: withToken(map[string]any{"from": "+15550100", "messaging_service_sid": service}), Want: []string{"/params/messaging_service_sid conflict"}},
			"a key without its SID": {Input: providers.Input{Params: map[string]any{"account_sid": account, "auth": "api_key"}, Secrets: secret.Map{"api_key_secret": secret.New(keySecret)}},
				Want: []string{"/params/api_key_sid required"}},
			"nothing": {Input: providers.Input{}, Want: []string{"/params/account_sid required", "/secrets/auth_token required"}},
		},
		Test: true,
	})
}

// The documents that say what Twilio answers.
const (
	docAccount  = "https://www.twilio.com/docs/iam/api/account"
	docKeys     = "https://www.twilio.com/docs/iam/api-keys/keys-in-console"
	doc20003    = "https://www.twilio.com/docs/api/errors/20003"
	doc20008    = "https://www.twilio.com/docs/api/errors/20008"
	doc403      = "https://www.twilio.com/docs/api/errors/403"
	doc20404    = "https://www.twilio.com/docs/api/errors/20404"
	doc20429    = "https://www.twilio.com/docs/api/errors/20429"
	docMessages = "https://www.twilio.com/docs/messaging/api/message-resource"
	docNumbers  = "https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource"
	docServices = "https://www.twilio.com/docs/messaging/api/service-resource"
)

const (
	routeAccount  = "GET /2010-04-01/Accounts/" + account + ".json"
	routeMessages = "GET /2010-04-01/Accounts/" + account + "/Messages.json"
	routeNumbers  = "GET /2010-04-01/Accounts/" + account + "/IncomingPhoneNumbers.json"
	routeService  = "GET /v1/Services/" + service

	unauthorized = `{"code":20003,"message":"Authenticate","more_info":"https://www.twilio.com/docs/errors/20003","status":401}`
	notFound     = `{"code":20404,"message":"The requested resource was not found","more_info":"https://www.twilio.com/docs/errors/20404","status":404}`
)

func state(status string) string {
	return `{"sid":"` + account + `","status":"` + status + `","auth_token":"` + token + `","type":"Full"}`
}

type routes = map[string]http.HandlerFunc

// trap makes a trap's Make from Twilio's routes, all of which want the config's
// own credentials.
func trap(rs routes, in providers.Input) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		pair := account + ":" + token
		if in.Params["auth"] == "api_key" {
			pair = key + ":" + keySecret
		}
		checked := routes{}
		for pattern, h := range rs {
			checked[pattern] = vendortest.Wants(t, "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)), h)
		}
		s := vendortest.Serve(t, checked)
		return bind(vendortest.Runtime(t, map[string]string{"twilio": s.URL})), in
	}
}

func bind(rt providers.Runtime) providers.Provider { return twilio.New().(providers.Binder).Bind(rt) }

func TestTraps(t *testing.T) {
	t.Parallel()
	ok, messages := vendortest.Answer(200, state("active")), vendortest.Answer(200, `{"messages":[],"page_size":1}`)
	from, sid := map[string]any{"from": "+15550100"}, map[string]any{"messaging_service_sid": service}
	numbers := func(status int, body string) routes {
		return routes{routeAccount: ok, routeNumbers: vendortest.Answer(status, body)}
	}
	services := func(status int, body string) routes {
		return routes{routeAccount: ok, routeService: vendortest.Answer(status, body)}
	}
	fail := func(name, doc string, status int, body string, code providers.TestCode) providertest.Trap {
		return providertest.Trap{Name: name, Doc: doc, Step: "authenticate", Status: providers.StepFail, Code: code,
			Make: trap(routes{routeAccount: vendortest.Answer(status, body)}, withToken(nil))}
	}
	traps := []providertest.Trap{
		{Name: "all is well", Doc: docAccount, Make: trap(routes{routeAccount: ok}, withToken(nil))},
		fail("a wrong auth token (20003)", doc20003, 401, unauthorized, providers.CodeAuthFailed),
		fail("the test credentials (20008)", doc20008, 403,
			`{"code":20008,"message":"Resource not accessible with Test Account Credentials","more_info":"https://www.twilio.com/docs/errors/20008","status":403}`, providers.CodeWrongProduct),
		fail("an unknown account", doc20404, 404, notFound, providers.CodeNotFound),
		fail("a suspended account", docAccount, 200, state("suspended"), providers.CodePermissionDenied),
		fail("a closed account", docAccount, 200, state("closed"), providers.CodePermissionDenied),
		fail("a state that nobody documented", docAccount, 200, state("asleep"), providers.CodeUnexpectedBody),
		fail("too many requests (20429)", doc20429, 429, `{"code":20429,"message":"Too Many Requests","status":429}`, providers.CodeRateLimited),
		{
			Name: "a standard API key, which may not read the account", Doc: docKeys,
			Make: trap(routes{routeMessages: messages, routeAccount: vendortest.Answer(401, unauthorized)}, withKey(nil)),
		},
		{
			Name: "a wrong API key, or one of another region", Doc: doc20003, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAuthFailed,
			Make: trap(routes{routeMessages: vendortest.Answer(401, unauthorized)}, withKey(nil)),
		},
		{
			Name: "a restricted API key that may not read messages", Doc: doc403, Step: "authenticate", Status: providers.StepFail, Code: providers.CodePermissionDenied,
			Make: trap(routes{routeMessages: vendortest.Answer(403, `{"code":70051,"message":"Authorization Error","status":403}`)}, withKey(nil)),
		},
		{
			Name: "an API key of another account", Doc: docMessages, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeNotFound,
			Make: trap(routes{routeMessages: vendortest.Answer(404, notFound)}, withKey(nil)),
		},
		{
			Name: "a number of the account", Doc: docNumbers, Level: 2,
			Make: trap(numbers(200, `{"incoming_phone_numbers":[{"phone_number":"+15550100","capabilities":{"sms":true,"voice":true}}]}`), withToken(from)),
		},
		{
			Name: "a number without SMS", Doc: docNumbers, Level: 2, Step: "sender", Status: providers.StepFail, Code: providers.CodeSenderRefused,
			Make: trap(numbers(200, `{"incoming_phone_numbers":[{"phone_number":"+15550100","capabilities":{"sms":false,"voice":true}}]}`), withToken(from)),
		},
		{
			Name: "a sender that is no number of the account", Doc: docNumbers, Level: 2, Step: "sender", Status: providers.StepWarn, Code: providers.CodeSenderMismatch,
			Make: trap(numbers(200, `{"incoming_phone_numbers":[]}`), withToken(from)),
		},
		{
			Name: "a key that may not read the account's numbers", Doc: doc403, Level: 2, Step: "sender", Status: providers.StepWarn, Code: providers.CodePermissionDenied,
			Make: trap(routes{routeMessages: messages, routeNumbers: vendortest.Answer(403, `{"code":70051}`)}, withKey(from)),
		},
		{
			Name: "a messaging service", Doc: docServices, Level: 2, Make: trap(services(200, `{"sid":"`+service+`"}`), withToken(sid)),
		},
		{
			Name: "a messaging service that is not there", Doc: docServices, Level: 2, Step: "sender", Status: providers.StepFail, Code: providers.CodeNotFound,
			Make: trap(services(404, notFound), withToken(sid)),
		},
	}
	traps = append(traps,
		providertest.Trap{
			Name: "a hang at the step sender", Level: 2, Step: "sender", Status: providers.StepFail, Code: providers.CodeTimeout,
			Make: trap(routes{routeAccount: ok, routeNumbers: vendortest.Hang}, withToken(from)),
		},
		providertest.Trap{
			Name: "an auth token with every kind of quote", Doc: docAccount,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				pair := base64.StdEncoding.EncodeToString([]byte(account + ":" + vendortest.OddSecret))
				s := vendortest.Serve(t, routes{routeAccount: vendortest.Wants(t, "Basic "+pair, ok)})
				in := withToken(nil)
				in.Secrets["auth_token"] = secret.New(vendortest.OddSecret)
				return bind(vendortest.Runtime(t, map[string]string{"twilio": s.URL})), in
			},
		},
	)
	traps = append(traps, vendortest.Traps("authenticate", "twilio", nil, func(_ *testing.T, rt providers.Runtime) (providers.Provider, providers.Input) {
		return bind(rt), withToken(nil)
	})...)
	providertest.RunTraps(t, traps)
}

// What is asked of the account's numbers, and no more of them than needed.
func TestTheSenderIsAskedForByNumber(t *testing.T) {
	t.Parallel()
	s := vendortest.Serve(t, routes{routeMessages: vendortest.Answer(200, `{"messages":[]}`), routeNumbers: vendortest.Answer(200, `{"incoming_phone_numbers":[]}`)})
	p := bind(vendortest.Runtime(t, map[string]string{"twilio": s.URL}))
	c, err := p.Schema().Decode(withKey(map[string]any{"from": "+15550100"}), providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: 2}); err != nil {
		t.Fatal(err)
	}
	got := s.Requests()
	if len(got) != 2 || got[0].Query != "PageSize=1" || got[1].Query != "PageSize=1&PhoneNumber=%2B15550100" {
		t.Errorf("got %+v", got)
	}
}
