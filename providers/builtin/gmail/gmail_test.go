package gmail_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/mail"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/gmail"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

const address = "no-reply@acme.example"

// Google's scopes, as it spells them.
const (
	send  = "https://www.googleapis.com/auth/gmail.send"
	email = "https://www.googleapis.com/auth/userinfo.email"
	full  = "https://mail.google.com/"
)

func input(params map[string]any) providers.Input {
	all := map[string]any{"client_id": "1234567890-abc.apps.googleusercontent.com"}
	maps.Copy(all, params)
	return providers.Input{Params: all, Secrets: secret.Map{"client_secret": secret.New("GOCSPX-canary-secret")}}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	client := map[string]any{"client_id": "id", "client_secret": "s"}
	providertest.Run(t, gmail.New(), providertest.Cases{
		Minimal: input(nil),
		Full:    input(map[string]any{"sender": "Acme <" + address + ">"}),
		Tokens:  vendortest.Tokens(send),
		Bad: map[string]providertest.Bad{
			"a sender with a second header": {Input: input(map[string]any{"sender": "a@acme.example\r\nBcc: b@evil.example"}), Want: []string{"/params/sender control_character"}},
			"a sender that is a name":       {Input: input(map[string]any{"sender": "me"}), Want: []string{"/params/sender format"}},
			"a refresh token":               {Input: input(map[string]any{"refresh_token": "1//x"}), Want: []string{"/params/refresh_token unknown"}},
			"nothing":                       {Input: providers.Input{}, Want: []string{"/params/client_id required", "/secrets/client_secret required"}},
		},
		Imports: map[string]providertest.Import{
			"a web client":                 {Raw: map[string]any{"web": map[string]any{"client_id": "id", "client_secret": "s", "token_uri": "https://evil.example"}}, Want: client},
			"an installed client":          {Raw: map[string]any{"installed": map[string]any{"client_id": "id", "client_secret": "s"}}, Want: client},
			"as text, beside a sender":     {Raw: map[string]any{"credentials_json": `{"web":{"client_id":"id"}}`, "sender": "s"}, Want: map[string]any{"client_id": "id", "sender": "s"}},
			"dotted keys":                  {Raw: map[string]any{"gmail": map[string]any{"client": map[string]any{"id": "id"}}}, Want: map[string]any{"client_id": "id"}},
			"by kind":                      {Raw: map[string]any{"gmail_oauth2": map[string]any{"sender": "s"}}, Want: map[string]any{"sender": "s"}},
			"a client inside of the alias": {Raw: map[string]any{"gmail": map[string]any{"installed": map[string]any{"client_id": "id", "client_secret": "s"}}}, Want: client},
		},
		Test: true,
	})
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	key, _ := vendortest.ServiceAccount(t)
	for _, c := range []struct {
		name string
		raw  map[string]any
		says string
	}{
		{"a service account", map[string]any{"credentials_json": key}, "service account"},
		{"gcloud's own credentials", map[string]any{"type": "authorized_user", "client_id": "x", "refresh_token": "1//canary"}, "application default credentials"},
		{"a cut-off file", map[string]any{"credentials_json": `{"web":{"client_id":"id"`}, "cut off"},
		{"a client id twice", map[string]any{"web": map[string]any{"client_id": "a"}, "client_id": "b"}, "twice"},
	} {
		_, err := gmail.New().ImportConfig(t.Context(), c.raw)
		v := fault.Violations(err)
		if !errors.Is(err, fault.InvalidArgument) || len(v) != 1 || !strings.Contains(v[0].Message, c.says) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestOAuth(t *testing.T) {
	t.Parallel()
	p := gmail.New()
	c, err := p.Schema().Decode(input(map[string]any{"sender": "Acme <" + address + ">"}), providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	app, wanted, err := p.OAuth(c)
	if err != nil || !wanted {
		t.Fatal(wanted, err)
	}
	if app.Flow != providers.FlowConsent || app.ClientID != c.Text("client_id") || !app.ClientSecret.Equal(c.Secrets["client_secret"]) || app.Rotates ||
		app.AuthURL != "https://accounts.google.com/o/oauth2/v2/auth" || app.TokenURL != "https://oauth2.googleapis.com/token" ||
		app.RevokeURL != "https://oauth2.googleapis.com/revoke" || !slices.Equal(app.Scopes, p.Schema().Scopes) ||
		!reflect.DeepEqual(app.AuthParams, map[string]string{"access_type": "offline", "prompt": "consent", "login_hint": address}) {
		t.Errorf("%+v", app)
	}
	// Restricted scopes would put every customer's OAuth client under a yearly
	// security assessment.
	if slices.Contains(app.Scopes, full) || !slices.Contains(app.Scopes, send) || !slices.Contains(app.Scopes, email) {
		t.Errorf("scopes %v", app.Scopes)
	}
}

// The documents that say what Google answers.
const (
	docProfile  = "https://developers.google.com/workspace/gmail/api/reference/rest/v1/users/getProfile"
	docErrors   = "https://developers.google.com/workspace/gmail/api/guides/handle-errors"
	docUserinfo = "https://developers.google.com/identity/openid-connect/openid-connect#obtainuserinfo"
	docScopes   = "https://developers.google.com/workspace/gmail/api/auth/scopes"
	docGranular = "https://developers.google.com/identity/protocols/oauth2/resources/granular-permissions"
	docSend     = "https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages/send"
	docAlias    = "https://developers.google.com/workspace/gmail/api/guides/alias_and_signature_settings"
	docToken    = "https://www.rfc-editor.org/rfc/rfc6749#section-5.2"
)

type routes = map[string]http.HandlerFunc

const (
	routeProfile = "GET /gmail/v1/users/me/profile"
	routeUser    = "GET /v1/userinfo"
	routeSend    = "POST /gmail/v1/users/me/messages/send"
)

func trap(rs routes, in providers.Input) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		auth := routes{}
		for pattern, h := range rs {
			auth[pattern] = vendortest.Wants(t, "Bearer "+vendortest.AccessToken, h)
		}
		s := vendortest.Serve(t, auth)
		return gmail.New().Bind(vendortest.Runtime(t, map[string]string{"gmail_oauth2": s.URL})), in
	}
}

// refusal is an error answer with a reason in each of Google's two forms.
func refusal(status int, reason, detail string) http.HandlerFunc {
	b, err := json.Marshal(map[string]any{"error": map[string]any{
		"code": status, "message": "Request had insufficient authentication scopes.", "status": "PERMISSION_DENIED",
		"errors":  []any{map[string]any{"message": "m", "domain": "global", "reason": reason}},
		"details": []any{map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": detail, "domain": "googleapis.com"}},
	}})
	if err != nil {
		panic(err)
	}
	return vendortest.Answer(status, string(b))
}

func TestTraps(t *testing.T) {
	t.Parallel()
	var (
		profile = vendortest.Answer(200, `{"emailAddress":"`+address+`","messagesTotal":1,"threadsTotal":1,"historyId":"1"}`)
		user    = vendortest.Answer(200, `{"sub":"110169484474386276334","email":"`+address+`","email_verified":true}`)
		scopes  = refusal(403, "insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT")
		least   = vendortest.Tokens(send, "openid", email)
		whole   = vendortest.Tokens(full)
		sender  = map[string]any{"sender": "Acme <" + address + ">"}
	)
	// With the routes of level 2: a message that is none is refused, last of all.
	two := func(rs routes) routes { rs[routeSend] = refuses(t, nil); return rs }
	sends := func(h http.HandlerFunc) routes { return routes{routeUser: user, routeSend: refuses(t, h)} }

	traps := []providertest.Trap{
		{Name: "all is well with the least scopes", Doc: docUserinfo, Level: 2, Tokens: least, Make: trap(two(routes{routeUser: user}), input(sender))},
		{Name: "all is well with the whole mailbox", Doc: docProfile, Level: 2, Tokens: whole, Make: trap(two(routes{routeProfile: profile}), input(sender))},
		{
			Name: "gmail.send alone, which getProfile refuses", Doc: docProfile, Step: "profile", Status: providers.StepSkip, Level: 2, Tokens: vendortest.Tokens(),
			Make: trap(two(routes{routeProfile: scopes, routeUser: user}), input(sender)),
		},
		{
			Name: "scopes that do not tell whose account it is", Doc: docScopes, Step: "account", Status: providers.StepSkip, Level: 2, Tokens: vendortest.Tokens(send),
			Make: trap(two(routes{}), input(sender)),
		},
		{
			Name: "an account that does not tell its address", Doc: docUserinfo, Step: "sender", Status: providers.StepSkip, Level: 2, Tokens: vendortest.Tokens(send, "email"),
			Make: trap(two(routes{routeUser: vendortest.Answer(200, `{"sub":"110169484474386276334"}`)}), input(sender)),
		},
		{Name: "nobody has connected an account", Doc: docToken, Step: "token", Status: providers.StepFail, Code: providers.CodeConsentMissing, Make: trap(nil, input(nil))},
		{
			Name: "an access token that was revoked", Doc: docErrors, Step: "profile", Status: providers.StepFail, Code: providers.CodeAuthFailed, Tokens: whole,
			Make: trap(routes{routeProfile: vendortest.Answer(401, `{"error":{"errors":[{"domain":"global","reason":"authError","message":"Invalid Credentials","locationType":"header","location":"Authorization"}],"code":401,"message":"Invalid Credentials"}}`)}, input(nil)),
		},
		{
			Name: "an access token that OpenID Connect refuses", Doc: docUserinfo, Step: "account", Status: providers.StepFail, Code: providers.CodeAuthFailed, Tokens: least,
			Make: trap(routes{routeUser: vendortest.Answer(401, `{"error":"invalid_request","error_description":"Invalid Credentials"}`)}, input(nil)),
		},
		{
			Name: "the Gmail API is not enabled", Doc: docErrors, Step: "profile", Status: providers.StepFail, Code: providers.CodeAPIDisabled, Tokens: whole,
			Make: trap(routes{routeProfile: refusal(403, "accessNotConfigured", "SERVICE_DISABLED")}, input(nil)),
		},
		{
			Name: "the project's daily quota is used up", Doc: docErrors, Step: "profile", Status: providers.StepFail, Code: providers.CodeQuotaExceeded, Tokens: whole,
			Make: trap(routes{routeProfile: refusal(403, "dailyLimitExceeded", "")}, input(nil)),
		},
		{
			Name: "403 for too many requests", Doc: docErrors, Step: "profile", Status: providers.StepFail, Code: providers.CodeRateLimited, Tokens: whole,
			Make: trap(routes{routeProfile: refusal(403, "userRateLimitExceeded", "")}, input(nil)),
		},
		{
			Name: "an app that the domain's administrator blocks", Doc: docErrors, Step: "profile", Status: providers.StepFail, Code: providers.CodePermissionDenied, Tokens: whole,
			Make: trap(routes{routeProfile: refusal(403, "domainPolicy", "")}, input(nil)),
		},
		{
			Name: "an account without a mailbox", Doc: docErrors, Step: "profile", Status: providers.StepFail, Code: providers.CodePermissionDenied, Tokens: whole,
			Make: trap(routes{routeProfile: vendortest.Answer(400, `{"error":{"code":400,"message":"Mail service not enabled","errors":[{"message":"Mail service not enabled","domain":"global","reason":"failedPrecondition"}],"status":"FAILED_PRECONDITION"}}`)}, input(nil)),
		},
		{
			Name: "a consent without the box for sending", Doc: docGranular, Level: 2, Step: "scopes", Status: providers.StepFail, Code: providers.CodeScopeMissing,
			Tokens: vendortest.Tokens("openid", email), Make: trap(routes{routeUser: user}, input(nil)),
		},
		{
			Name: "a consent for reading only", Doc: docScopes, Level: 2, Step: "scopes", Status: providers.StepFail, Code: providers.CodeScopeMissing,
			Tokens: vendortest.Tokens("https://www.googleapis.com/auth/gmail.readonly"), Make: trap(routes{routeProfile: profile}, input(nil)),
		},
		{
			Name: "granted scopes that Google does not tell", Doc: docToken, Level: 2, Step: "scopes", Status: providers.StepSkip, Tokens: vendortest.Tokens(),
			Make: trap(two(routes{routeProfile: profile}), input(nil)),
		},
		{
			Name: "the Gmail API is not enabled, which the least scopes show only here", Doc: docErrors, Level: 2, Step: "permission", Status: providers.StepFail, Code: providers.CodeAPIDisabled, Tokens: least,
			Make: trap(routes{routeUser: user, routeSend: refusal(403, "accessNotConfigured", "SERVICE_DISABLED")}, input(nil)),
		},
		{
			Name: "granted scopes that Google does not tell and that do not suffice", Doc: docErrors, Level: 2, Step: "permission", Status: providers.StepFail, Code: providers.CodeScopeMissing,
			Tokens: vendortest.Tokens(), Make: trap(routes{routeProfile: profile, routeSend: scopes}, input(nil)),
		},
		{
			Name: "an account without a mailbox, with the least scopes", Doc: docErrors, Level: 2, Step: "permission", Status: providers.StepFail, Code: providers.CodePermissionDenied, Tokens: least,
			Make: trap(routes{routeUser: user, routeSend: vendortest.Answer(400, `{"error":{"code":400,"message":"Mail service not enabled","errors":[{"reason":"failedPrecondition"}],"status":"FAILED_PRECONDITION"}}`)}, input(nil)),
		},
		{
			Name: "an API that takes a message that is none", Level: 2, Step: "permission", Status: providers.StepFail, Code: providers.CodeUnexpectedBody, Tokens: least,
			Make: trap(routes{routeUser: user, routeSend: vendortest.Answer(200, `{"id":"18c0a"}`)}, input(nil)),
		},
		{
			Name: "a sender who is not the account", Doc: docAlias, Level: 2, Step: "sender", Status: providers.StepWarn, Code: providers.CodeSenderMismatch, Tokens: least,
			Make: trap(two(routes{routeUser: user}), input(map[string]any{"sender": "sales@acme.example"})),
		},
		{
			Name: "a sender in other letters", Doc: docAlias, Level: 2, Tokens: least,
			Make: trap(two(routes{routeUser: user}), input(map[string]any{"sender": "No-Reply@ACME.example"})),
		},
		{Name: "a mail to oneself", Doc: docSend, Level: 3, Tokens: least, Make: trap(sends(takes(t, "Acme", address, address)), input(sender))},
		{Name: "a mail to oneself without a sender", Doc: docSend, Level: 3, Tokens: least, Make: trap(sends(takes(t, "", address, address)), input(nil))},
		{
			Name: "a mail to somebody", Doc: docSend, Level: 3, Tokens: least, Recipient: `"Ädmin, \"A\"" <admin@acme.example>`,
			Make: trap(sends(takes(t, "Acme", address, "admin@acme.example")), input(sender)),
		},
		{
			Name: "a recipient with a second header", Doc: "https://www.rfc-editor.org/rfc/rfc5322#section-2.2", Level: 3, Step: "send", Status: providers.StepFail,
			Code: providers.CodeRecipientRefused, Recipient: "admin@acme.example\r\nBcc: evil@evil.example", Tokens: least,
			Make: trap(two(routes{routeUser: user}), input(sender)),
		},
		{
			Name: "no sender and no address", Doc: docUserinfo, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeSenderMissing,
			Tokens: vendortest.Tokens(send), Make: trap(two(routes{}), input(nil)),
		},
		{
			Name: "a mail that the scopes do not allow", Doc: docErrors, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeScopeMissing,
			Tokens: vendortest.Tokens(), Make: trap(routes{routeProfile: profile, routeSend: refuses(t, scopes)}, input(nil)),
		},
		{
			Name: "a mail to an address that Gmail refuses", Doc: docErrors, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeMessageRefused, Tokens: least,
			Make: trap(sends(vendortest.Answer(400, `{"error":{"code":400,"message":"Invalid To header","errors":[{"message":"Invalid To header","domain":"global","reason":"invalidArgument"}],"status":"INVALID_ARGUMENT"}}`)), input(sender)),
		},
		{
			Name: "an account without a mailbox, which only sending shows", Doc: docErrors, Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodePermissionDenied, Tokens: least,
			Make: trap(sends(vendortest.Answer(400, `{"error":{"code":400,"message":"Mail service not enabled","errors":[{"reason":"failedPrecondition"}],"status":"FAILED_PRECONDITION"}}`)), input(sender)),
		},
		{
			Name: "the account's sending limit is reached", Doc: "https://developers.google.com/workspace/gmail/api/reference/quota", Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeRateLimited, Tokens: least,
			Make: trap(sends(refusal(429, "userRateLimitExceeded", "")), input(sender)),
		},
		{
			Name: "a send that answers something else", Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeUnexpectedBody, Tokens: least,
			Make: trap(sends(vendortest.Answer(200, `{"status":"ok"}`)), input(sender)),
		},
		{
			Name: "an OpenID Connect that answers something else", Step: "account", Status: providers.StepFail, Code: providers.CodeUnexpectedBody, Tokens: least,
			Make: trap(routes{routeUser: vendortest.Answer(200, `{"email":"x@y.example"}`)}, input(nil)),
		},
	}
	traps = append(traps,
		providertest.Trap{
			Name: "a hang at the step account", Level: 1, Step: "account", Status: providers.StepFail, Code: providers.CodeTimeout, Tokens: least,
			Make: trap(routes{routeUser: vendortest.Hang}, input(nil)),
		},
		providertest.Trap{
			Name: "a hang at the step permission", Level: 2, Step: "permission", Status: providers.StepFail, Code: providers.CodeTimeout, Tokens: least,
			Make: trap(routes{routeUser: user, routeSend: vendortest.Hang}, input(nil)),
		},
		providertest.Trap{
			Name: "a hang at the step send", Level: 3, Step: "send", Status: providers.StepFail, Code: providers.CodeTimeout, Tokens: least,
			Make: trap(sends(vendortest.Hang), input(sender)),
		},
	)
	traps = append(traps, vendortest.TokenTraps(docToken, func() (providers.Provider, providers.Input) { return gmail.New(), input(nil) })...)
	traps = append(traps, vendortest.Traps("profile", "gmail_oauth2", whole, func(_ *testing.T, rt providers.Runtime) (providers.Provider, providers.Input) {
		return gmail.New().Bind(rt), input(nil)
	})...)
	providertest.RunTraps(t, traps)
}

// refuses refuses a message that is none, as Gmail does, and leaves others to h
// (https://github.com/omarryhan/aiogoogle/issues/131).
func refuses(t *testing.T, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if string(body) == "{}" {
			const message = "'raw' RFC822 payload message string or uploading message via /upload/* URL required"
			vendortest.Answer(400, `{"error":{"code":400,"message":"`+message+`","errors":[{"message":"`+message+`","domain":"global","reason":"invalidArgument"}],"status":"INVALID_ARGUMENT"}}`)(w, r)
			return
		}
		if h == nil {
			t.Errorf("a mail was sent: %s", body)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		h(w, r)
	}
}

// takes takes a message only if it is, as a mail reader reads it, from and to
// those, and has nothing else in its header.
func takes(t *testing.T, name, from, to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body map[string]string
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(body) != 1 {
			t.Errorf("the request: %v, %v", body, err)
		}
		raw, err := base64.URLEncoding.DecodeString(body["raw"])
		if err != nil {
			t.Errorf("raw is not base64url: %v", err)
		}
		m, err := mail.ReadMessage(strings.NewReader(string(raw)))
		if err != nil {
			t.Errorf("not a message: %v", err)
			return
		}
		for header := range m.Header {
			if !slices.Contains([]string{"From", "To", "Subject", "Date", "Mime-Version", "Content-Type"}, header) {
				t.Errorf("the header %s", header)
			}
		}
		fromList, err := m.Header.AddressList("From")
		if err != nil || len(fromList) != 1 || fromList[0].Address != from || fromList[0].Name != name {
			t.Errorf("from %v, %v", fromList, err)
		}
		toList, err := m.Header.AddressList("To")
		if err != nil || len(toList) != 1 || toList[0].Address != to {
			t.Errorf("to %v, %v", toList, err)
		}
		if text, err := io.ReadAll(m.Body); err != nil || len(text) == 0 {
			t.Errorf("an empty mail: %v", err)
		}
		if _, err := m.Header.Date(); err != nil {
			t.Errorf("the date: %v", err)
		}
		vendortest.Answer(200, `{"id":"18c0a","threadId":"18c0a","labelIds":["SENT"]}`)(w, r)
	}
}

// The backend is what the config holds and a token, and nothing of the consent.
func TestBackend(t *testing.T) {
	t.Parallel()
	p := gmail.New()
	c, err := p.Schema().Decode(input(map[string]any{"sender": address}), providers.DecodeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Backend(t.Context(), c); !errors.Is(err, fault.NeedsReauthorization) {
		t.Errorf("without a consent: %v", err)
	}
	c.Tokens = vendortest.Tokens(send)
	b, err := p.Backend(t.Context(), c)
	if err != nil || !slices.Equal(b.Secrets.Names(), []string{"access_token", "client_secret"}) || len(b.Params) != 2 || !b.ExpiresAt.Equal(vendortest.Expiry()) {
		t.Errorf("%v %v, %v", b.Params, b.Secrets.Names(), err)
	}
	c.Tokens = vendortest.NoTokens(providers.CodeTokenEndpointDown)
	if _, err := p.Backend(t.Context(), c); !errors.Is(err, fault.Unavailable) {
		t.Errorf("with the issuer down: %v", err)
	}
}
