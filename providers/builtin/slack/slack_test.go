package slack_test

import (
	"net/http"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	"github.com/patchbay-dev/patchbay/providers/builtin/slack"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

const token = "xoxb-canary-0123456789"

func input(params map[string]any) providers.Input {
	return providers.Input{Params: params, Secrets: secret.Map{"bot_token": secret.New(token)}}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	providertest.Run(t, slack.New(), providertest.Cases{
		Minimal: input(nil),
		Full:    input(map[string]any{"channel": "C0123456789"}),
		Bad: map[string]providertest.Bad{
			"a client secret":           {Input: providers.Input{Secrets: secret.Map{"bot_token": secret.New("0123456789abcdef")}}, Want: []string{"/secrets/bot_token pattern"}},
			"a token with a line break": {Input: providers.Input{Secrets: secret.Map{"bot_token": secret.New(token + "\r\nX: y")}}, Want: []string{"/secrets/bot_token control_character"}},
			"nothing":                   {Input: providers.Input{}, Want: []string{"/secrets/bot_token required"}},
		},
		Test: true,
	})
}

// The documents that say what Slack answers.
const (
	docAuthTest = "https://docs.slack.dev/reference/methods/auth.test"
	docScopes   = "https://api.slack.com/legacy/oauth-scopes#working-with-scopes"
	docLimits   = "https://docs.slack.dev/apis/web-api/rate-limits"
	docRotation = "https://docs.slack.dev/authentication/using-token-rotation"
	docTokens   = "https://docs.slack.dev/authentication/tokens"
)

const (
	route = "POST /api/auth.test"
	bot   = `{"ok":true,"url":"https://acme.slack.com/","team":"Acme","user":"bot","team_id":"T0G9PQBBK","user_id":"W23456789","bot_id":"BZYBOTHED"}`
)

// trap makes a trap's Make from the answer of auth.test.
func trap(h http.HandlerFunc) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		s := vendortest.Serve(t, map[string]http.HandlerFunc{route: vendortest.Wants(t, "Bearer "+token, h)})
		return bind(vendortest.Runtime(t, map[string]string{"slack": s.URL})), input(nil)
	}
}

func bind(rt providers.Runtime) providers.Provider { return slack.New().(providers.Binder).Bind(rt) }

func TestTraps(t *testing.T) {
	t.Parallel()
	refused := func(code string) func(*testing.T) (providers.Provider, providers.Input) {
		return trap(vendortest.Answer(200, `{"ok":false,"error":"`+code+`"}`))
	}
	fail := func(name, doc, errorCode string, code providers.TestCode) providertest.Trap {
		return providertest.Trap{Name: name, Doc: doc, Step: "authenticate", Status: providers.StepFail, Code: code, Make: refused(errorCode)}
	}
	traps := []providertest.Trap{
		{Name: "all is well", Doc: docAuthTest, Make: trap(vendortest.Answer(200, bot))},
		fail("a wrong token (200, invalid_auth)", docAuthTest, "invalid_auth", providers.CodeAuthFailed),
		fail("no token (200, not_authed)", docAuthTest, "not_authed", providers.CodeAuthFailed),
		fail("a revoked token (200, token_revoked)", docAuthTest, "token_revoked", providers.CodeAuthFailed),
		fail("a deleted workspace or bot (200, account_inactive)", docAuthTest, "account_inactive", providers.CodeAuthFailed),
		fail("a token of an app with rotation, ended (200, token_expired)", docRotation, "token_expired", providers.CodeCredentialsExpired),
		fail("a token of another sort (200, not_allowed_token_type)", docAuthTest, "not_allowed_token_type", providers.CodeWrongProduct),
		fail("a network that the workspace does not admit (200, accesslimited)", docAuthTest, "accesslimited", providers.CodeAddressNotAllowed),
		fail("administrators who keep apps out (200, ekm_access_denied)", docAuthTest, "ekm_access_denied", providers.CodePermissionDenied),
		fail("a rate limit with status 200 (ratelimited)", docAuthTest, "ratelimited", providers.CodeRateLimited),
		fail("a fault of Slack's with status 200 (internal_error)", docAuthTest, "internal_error", providers.CodeVendorError),
		fail("a refusal that nobody documented", docAuthTest, "brand_new_error", providers.CodeUnexpectedBody),
		{
			Name: "a rate limit with status 429", Doc: docLimits, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeRateLimited,
			Make: trap(vendortest.Answer(429, `{"ok":false,"error":"ratelimited"}`, "Retry-After", "30")),
		},
		{
			Name: "a person's token instead of a bot's", Doc: docTokens, Step: "bot", Status: providers.StepWarn, Code: providers.CodeWrongProduct,
			Make: trap(vendortest.Answer(200, `{"ok":true,"url":"https://acme.slack.com/","team":"Acme","user":"grace","team_id":"T12345678","user_id":"W12345678"}`)),
		},
		{Name: "a bot that may write", Doc: docScopes, Level: 2, Make: trap(vendortest.Answer(200, bot, "X-OAuth-Scopes", "channels:read,chat:write"))},
		{
			Name: "a bot that may not write", Doc: docScopes, Level: 2, Step: "scopes", Status: providers.StepFail, Code: providers.CodeScopeMissing,
			Make: trap(vendortest.Answer(200, bot, "X-OAuth-Scopes", "channels:read,chat:write.customize")),
		},
		{
			Name: "an answer that tells no scopes", Doc: docScopes, Level: 2, Step: "scopes", Status: providers.StepFail, Code: providers.CodeScopeMissing,
			Make: trap(vendortest.Answer(200, bot)),
		},
	}
	traps = append(traps,
		providertest.Trap{
			Name: "a token with every kind of quote", Doc: docTokens,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				const odd = "xoxb-" + vendortest.OddSecret
				s := vendortest.Serve(t, map[string]http.HandlerFunc{route: vendortest.Wants(t, "Bearer "+odd, vendortest.Answer(200, bot))})
				return bind(vendortest.Runtime(t, map[string]string{"slack": s.URL})), providers.Input{Secrets: secret.Map{"bot_token": secret.New(odd)}}
			},
		},
	)
	traps = append(traps, vendortest.Traps("authenticate", "slack", nil, func(_ *testing.T, rt providers.Runtime) (providers.Provider, providers.Input) {
		return bind(rt), input(nil)
	})...)
	providertest.RunTraps(t, traps)
}
