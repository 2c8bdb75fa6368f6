package graphmail_test

import (
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	graphmail "github.com/patchbay-dev/patchbay/providers/builtin/microsoft_graph_mail"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

const clientSecret = "canary~client.secret"

func input(params map[string]any) providers.Input {
	p := map[string]any{"client_id": "11111111-2222-3333-4444-555555555555"}
	maps.Copy(p, params)
	return providers.Input{Params: p, Secrets: secret.Map{"client_secret": secret.New(clientSecret)}}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	providertest.Run(t, graphmail.New(), providertest.Cases{
		Minimal: input(nil),
		Full:    input(map[string]any{"tenant_id": "acme.onmicrosoft.com", "sender": "billing@acme.example"}),
		Bad: map[string]providertest.Bad{
			"a directory that is a path": {Input: input(map[string]any{"tenant_id": "common/../evil"}), Want: []string{"/params/tenant_id pattern"}},
			"a directory that is a host": {Input: input(map[string]any{"tenant_id": "evil.example:443"}), Want: []string{"/params/tenant_id pattern"}},
			"nothing":                    {Input: providers.Input{}, Want: []string{"/params/client_id required", "/secrets/client_secret required"}},
		},
		Imports: map[string]providertest.Import{
			"az ad sp create-for-rbac": {
				Raw:  map[string]any{"appId": "a", "displayName": "Acme", "password": "p", "tenant": "t"},
				Want: map[string]any{"client_id": "a", "client_secret": "p", "tenant_id": "t"},
			},
			"nested": {Raw: map[string]any{"client": map[string]any{"id": "a", "secret": "p"}}, Want: map[string]any{"client_id": "a", "client_secret": "p"}},
		},
		Test:   true,
		Tokens: vendortest.Tokens("Mail.Send", "User.Read"),
	})
}

func TestOAuthApp(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		endpoints       map[string]string
		auth, token, at string
	}{
		"the public cloud": {nil,
			"https://login.microsoftonline.com/acme.onmicrosoft.com/oauth2/v2.0/authorize", "https://login.microsoftonline.com/acme.onmicrosoft.com/oauth2/v2.0/token",
			"https://graph.microsoft.com/v1.0"},
		// https://learn.microsoft.com/en-us/graph/deployments
		"the US government's": {map[string]string{
			"microsoft_graph_mail.auth": "https://login.microsoftonline.us", "microsoft_graph_mail.token": "https://login.microsoftonline.us",
			"microsoft_graph_mail.api": "https://graph.microsoft.us",
		},
			"https://login.microsoftonline.us/acme.onmicrosoft.com/oauth2/v2.0/authorize", "https://login.microsoftonline.us/acme.onmicrosoft.com/oauth2/v2.0/token",
			"https://graph.microsoft.us/v1.0"},
	} {
		p := bind(vendortest.Runtime(t, tt.endpoints))
		c, err := p.Schema().Decode(input(map[string]any{"tenant_id": "acme.onmicrosoft.com", "sender": "billing@acme.example"}), providers.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		app, mints, err := p.(providers.Authorizer).OAuth(c)
		if err != nil || !mints {
			t.Fatal(mints, err)
		}
		if app.Flow != providers.FlowConsent || !app.Rotates || app.AuthURL != tt.auth || app.TokenURL != tt.token || app.AuthStyle != "params" ||
			!slices.Equal(app.Scopes, []string{"offline_access", "Mail.Send", "User.Read"}) || app.AuthParams["login_hint"] != "billing@acme.example" {
			t.Errorf("%s: %+v", name, app)
		}
		c.Tokens = vendortest.Tokens()
		if b, err := p.Backend(t.Context(), c); err != nil || b.Params["base_url"] != tt.at || !b.Secrets["access_token"].IsSet() {
			t.Errorf("%s: %v, %v", name, b, err)
		}
	}
}

// The documents that say what Microsoft answers.
const (
	docErrors   = "https://learn.microsoft.com/en-us/graph/errors"
	docAuth     = "https://learn.microsoft.com/en-us/graph/resolve-auth-errors"
	docUser     = "https://learn.microsoft.com/en-us/graph/api/user-get"
	docTokens   = "https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-auth-code-flow"
	docSend     = "https://learn.microsoft.com/en-us/graph/api/user-sendmail"
	docSendAs   = "https://learn.microsoft.com/en-us/graph/outlook-send-mail-from-other-user"
	docMailbox  = "https://github.com/microsoftgraph/microsoft-graph-docs-contrib/issues/405"
	docThrottle = "https://learn.microsoft.com/en-us/graph/throttling"
	docNobody   = "https://github.com/ggpwnkthx/Microsoft-Graph-SMTP-Relay/issues/7"
)

const (
	routeMe   = "GET /v1.0/me"
	routeSend = "POST /v1.0/me/sendMail"
	me        = `{"@odata.context":"https://graph.microsoft.com/v1.0/$metadata#users/$entity","id":"87d349ed","mail":"Billing@acme.example","userPrincipalName":"billing@acme.onmicrosoft.com"}`
)

func graphError(code, message string) string {
	return `{"error":{"code":"` + code + `","message":"` + message + `","innerError":{"date":"2024-02-09T09:52:12","request-id":"be979fa7","client-request-id":"be979fa7"}}}`
}

type routes = map[string]http.HandlerFunc

// trap makes a trap's Make from Graph's routes, all of which want the token.
func trap(rs routes, params map[string]any) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		checked := routes{}
		for pattern, h := range rs {
			checked[pattern] = vendortest.Wants(t, "Bearer "+vendortest.AccessToken, h)
		}
		s := vendortest.Serve(t, checked)
		return bind(vendortest.Runtime(t, map[string]string{"microsoft_graph_mail.api": s.URL})), input(params)
	}
}

func bind(rt providers.Runtime) providers.Provider {
	return graphmail.New().(providers.Binder).Bind(rt)
}

func TestTraps(t *testing.T) {
	t.Parallel()
	ok := vendortest.Answer(200, me)
	noRecipients := vendortest.Answer(400, graphError("ErrorInvalidRecipients", "At least one recipient is not valid., A message can't be sent because it contains no recipients."))
	all := routes{routeMe: ok, routeSend: noRecipients}
	may := vendortest.Tokens("Mail.Send", "User.Read", "profile", "openid")
	sender := func(address string) map[string]any { return map[string]any{"sender": address} }
	fail := func(name, doc string, status int, body string, code providers.TestCode) providertest.Trap {
		return providertest.Trap{Name: name, Doc: doc, Step: "profile", Status: providers.StepFail, Code: code, Tokens: may,
			Make: trap(routes{routeMe: vendortest.Answer(status, body)}, nil)}
	}
	send := func(name, doc string, status int, body string, code providers.TestCode) providertest.Trap {
		return providertest.Trap{Name: name, Doc: doc, Level: 2, Step: "permission", Status: providers.StepFail, Code: code, Tokens: may,
			Make: trap(routes{routeMe: ok, routeSend: vendortest.Answer(status, body)}, nil)}
	}
	traps := []providertest.Trap{
		{Name: "all is well", Doc: docUser, Tokens: may, Make: trap(all, nil)},
		fail("a token that is refused (InvalidAuthenticationToken)", docAuth, 401, graphError("InvalidAuthenticationToken", "Access token has expired or is not yet valid."), providers.CodeAuthFailed),
		fail("401 without a body", docErrors, 401, "", providers.CodeAuthFailed),
		fail("a consent without User.Read (Authorization_RequestDenied)", docAuth, 403, graphError("Authorization_RequestDenied", "Insufficient privileges to complete the operation."), providers.CodeScopeMissing),
		fail("a policy that blocks the app (ErrorAccessDenied)", docErrors, 403, graphError("ErrorAccessDenied", "Access is denied. Check credentials and try again."), providers.CodeScopeMissing),
		fail("403 that nobody documented", docErrors, 403, graphError("Forbidden", "No."), providers.CodePermissionDenied),
		fail("a deleted account", docErrors, 404, graphError("Request_ResourceNotFound", "Resource does not exist."), providers.CodeNotFound),
		{
			Name: "throttling", Doc: docThrottle, Step: "profile", Status: providers.StepFail, Code: providers.CodeRateLimited, Tokens: may,
			Make: trap(routes{routeMe: vendortest.Answer(429, graphError("TooManyRequests", "Please retry again later."), "Retry-After", "10")}, nil),
		},
		{Name: "an account that may send", Doc: docSend, Level: 2, Tokens: may, Make: trap(all, sender("billing@acme.example"))},
		{Name: "scopes spelt with the API's address", Doc: docTokens, Level: 2, Tokens: vendortest.Tokens("https://graph.microsoft.com/Mail.Send", "https://graph.microsoft.com/User.Read"), Make: trap(all, nil)},
		{
			Name: "a consent without Mail.Send", Doc: docTokens, Level: 2, Step: "scopes", Status: providers.StepFail, Code: providers.CodeScopeMissing,
			Tokens: vendortest.Tokens("User.Read"), Make: trap(routes{routeMe: ok}, nil),
		},
		{
			Name: "an issuer that does not say what was granted", Doc: "https://www.rfc-editor.org/rfc/rfc6749#section-5.1", Level: 2, Step: "scopes", Status: providers.StepSkip,
			Tokens: vendortest.Tokens(), Make: trap(all, nil),
		},
		send("a registration without Mail.Send (ErrorAccessDenied)", "https://github.com/AzureCAT-GSI/DevCamp/issues/44", 403,
			graphError("ErrorAccessDenied", "Access is denied. Check credentials and try again."), providers.CodePermissionDenied),
		send("an account without a mailbox (MailboxNotEnabledForRESTAPI)", docMailbox, 404,
			graphError("MailboxNotEnabledForRESTAPI", "The mailbox is either inactive, soft-deleted, or is hosted on-premise."), providers.CodePermissionDenied),
		send("a refusal for another reason", docErrors, 400, graphError("ErrorInvalidRequest", "Your request can't be completed."), providers.CodeUnexpectedBody),
		send("a message without recipients that is taken", docNobody, 202, "", providers.CodeUnexpectedStatus),
		{
			Name: "a sender that is another mailbox", Doc: docSendAs, Level: 2, Step: "sender", Status: providers.StepWarn, Code: providers.CodeSenderMismatch, Tokens: may,
			Make: trap(all, sender("ceo@acme.example")),
		},
		{
			Name: "an account whose sign-in name is the sender", Doc: docUser, Level: 2, Tokens: may, Make: trap(all, sender("billing@acme.onmicrosoft.com")),
		},
		{
			Name: "nobody connected an account", Doc: docTokens, Step: "token", Status: providers.StepFail, Code: providers.CodeConsentMissing, Make: trap(nil, nil),
		},
	}
	traps = append(traps,
		providertest.Trap{
			Name: "a hang at the step permission", Level: 2, Step: "permission", Status: providers.StepFail, Code: providers.CodeTimeout, Tokens: may,
			Make: trap(routes{routeMe: ok, routeSend: vendortest.Hang}, nil),
		},
	)
	traps = append(traps, vendortest.TokenTraps(docTokens, func() (providers.Provider, providers.Input) {
		return graphmail.New(), input(nil)
	})...)
	traps = append(traps, vendortest.Traps("profile", "microsoft_graph_mail", may, func(_ *testing.T, rt providers.Runtime) (providers.Provider, providers.Input) {
		return bind(rt), input(nil)
	})...)
	providertest.RunTraps(t, traps)
}
