package httpkind_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/httpkind"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

const canary = "canary-key-5150"

func TestSuite(t *testing.T) {
	t.Parallel()
	base := map[string]any{"base_url": "https://draw.acme.example", "room": "blue"}
	full := maps.Clone(base)
	maps.Copy(full, map[string]any{
		"mode": "slow", "count": int64(4), "ratio": 0.5, "tags": []any{"x"}, "headers": map[string]any{"X-A": "b"}, "header_name": "X-Other", "on": false,
	})
	providertest.Run(t, everything(t), providertest.Cases{
		Minimal: input(base, "api_key", canary),
		Full:    input(full, "api_key", canary),
		Bad: map[string]providertest.Bad{
			"a rule": {Input: input(map[string]any{"base_url": "https://a.example", "room": "r", "note": "n", "mode": "slow", "ratio": 1.0}, "api_key", canary),
				Want: []string{"/params/ratio conflict"}},
			"a condition": {Input: input(map[string]any{"base_url": "https://a.example", "room": "r", "mode": "slow"}, "api_key", canary),
				Want: []string{"/params/ratio required"}},
		},
		Imports: map[string]providertest.Import{
			"the vendor's file": {
				Raw:  map[string]any{"credentials": map[string]any{"api": map[string]any{"key": "k"}}, "place": map[string]any{"room": "r", "url": "https://x.example"}, "comment": "c"},
				Want: map[string]any{"api_key": "k", "room": "r", "place_url": "https://x.example"},
			},
			"another key": {Raw: map[string]any{"apiKey": "k"}, Want: map[string]any{"api_key": "k"}},
		},
		Withheld: []string{"note"},
		Test:     true,
	})
}

func TestSchemaOfAFile(t *testing.T) {
	t.Parallel()
	s := everything(t).Schema()
	if !slices.Equal(s.Egress.FromParams, []string{"base_url"}) || !slices.Equal(s.Egress.Ports, []int{443, 8443}) {
		t.Errorf("egress is %+v", s.Egress)
	}
	if len(s.Tests) != 2 || s.Tests[0].Level != 1 || s.Tests[1].Label != "Check the room" {
		t.Errorf("levels are %+v", s.Tests)
	}
	for name, want := range map[string]bool{"base_url": true, "room": true, "header_name": true, "count": false} {
		if s.Param(name).AffectsConnection != want {
			t.Errorf("%s affects the connection: %t", name, !want)
		}
	}
	if !s.Secret("api_key").AffectsConnection || s.Secret("api_key").Label != "Api key" {
		t.Errorf("the secret is %+v", s.Secret("api_key"))
	}
	if len(s.AuthModes) != 1 || s.AuthModes[0].Name != "static" {
		t.Errorf("auth modes are %+v", s.AuthModes)
	}
}

// An operator's firewall is set up by what a kind says of its hosts.
func TestEgressOfLiteralHosts(t *testing.T) {
	t.Parallel()
	const head = "kind: k\ncategory: api\nlabel: K\n"
	const tests = "test: {level: 1, label: Ask, steps: [{name: a, request: {url: \"%s\"}}, {name: b, request: {url: \"%s\"}}]}\n"
	for name, tt := range map[string]struct {
		yaml  string
		ports []int
		tls   string
	}{
		"https":               {fmt.Sprintf(head+tests, "https://a.example/x", "https://b.example:8443/"), []int{443, 8443}, "always"},
		"one of them is http": {fmt.Sprintf(head+tests, "https://a.example/x", "http://b.example/"), []int{80, 443}, ""},
		"as the file says":    {fmt.Sprintf(head+"egress: {ports: [444], tls: optional}\n"+tests, "https://a.example/x", "https://b.example/"), []int{444}, "optional"},
		"no request":          {head, nil, ""},
		"a tenant's host":     {fmt.Sprintf(head+"params: [{name: base_url, type: url}]\n"+tests, "{{base_url}}/x", "https://b.example/"), nil, ""},
	} {
		if e := parse(t, tt.yaml).Schema().Egress; !slices.Equal(e.Ports, tt.ports) || e.TLS != tt.tls {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// What a value could break out of, wherever it stands.
func TestValuesAreEscapedForWhereTheyStand(t *testing.T) {
	t.Parallel()
	const evil = `a/../b?c=d#e&f="g"%2e; \ é`
	v := serve(t, answer(200, `{"ok":true,"list":["a","b"],"at":{"x":1}}`, "X-Version", "v2"))
	p := bound(t, everything(t), nil)
	c := decode(t, p, input(map[string]any{"base_url": v.URL + "/root/?keep=1", "room": evil, "note": "/sub/pa?th", "headers": map[string]any{"X-Mine": evil}}, "api_key", canary))
	r := report(t, p, c, 2)
	if !r.OK {
		t.Fatal(providertest.Render(r))
	}
	providertest.CheckReport(t, c, r)
	got := v.requests()
	if len(got) != 2 {
		t.Fatalf("%d requests", len(got))
	}
	ping, room := got[0], got[1]
	const escaped = `a%2F..%2Fb%3Fc=d%23e&f=%22g%22%252e%3B%20%5C%20%C3%A9`
	const query = `a%2F..%2Fb%3Fc%3Dd%23e%26f%3D%22g%22%252e%3B+%5C+%C3%A9`
	if ping.method != "PUT" || ping.uri != "/root/ping?keep=1" || ping.body != "a="+query || ping.header.Get("X-Key") != "" {
		t.Errorf("the first request is %+v", ping)
	}
	if want := "/root/rooms/" + escaped + "/sub/pa%3Fth?keep=1&note=%2Fsub%2Fpa%3Fth&room=" + query; room.uri != want {
		t.Errorf("the URL is\n%s, not\n%s", room.uri, want)
	}
	if h := room.header; h.Get("X-Key") != "Key "+canary || h.Get("X-Room") != evil || h.Get("X-Mine") != evil || h.Get("Content-Type") != "application/json" {
		t.Errorf("the headers are %v", h)
	}
	const body = `{"list":["/sub/pa?th","x"],"note":"/sub/pa?th","on":true,"room":"a/../b?c=d#e\u0026f=\"g\"%2e; \\ é",` +
		`"said":"it is \"a/../b?c=d#e\u0026f=\"g\"%2e; \\ é\"","tags":["a","b"],"three":3}`
	if room.body != body {
		t.Errorf("the body is\n%s, not\n%s", room.body, body)
	}
	// A config without the optional note leaves it out everywhere.
	c = decode(t, p, input(map[string]any{"base_url": v.URL, "room": "blue"}, "api_key", canary))
	if r := report(t, p, c, 2); !r.OK {
		t.Fatal(providertest.Render(r))
	}
	last := v.requests()[3]
	if last.uri != "/rooms/blue?room=blue" || last.header.Values("X-Note") != nil || strings.Contains(last.body, "note") || !strings.Contains(last.body, `"list":["x"]`) {
		t.Errorf("without a note: %+v", last)
	}
}

func TestWhatCanNotBeSentIsNotSent(t *testing.T) {
	t.Parallel()
	v := serve(t, answer(200, `{}`))
	p := bound(t, everything(t), nil)
	good := map[string]any{"base_url": v.URL, "room": "blue"}
	for name, change := range map[string]map[string]any{
		"a segment that goes up":          {"room": ".."},
		"a segment that stays":            {"room": "."},
		"a path that goes up":             {"note": "/a/../../b"},
		"a line break in a header":        {"note": "a\r\nX-Evil: b"},
		"a line break in the admin's own": {"headers": map[string]any{"X-A": "a\nX-Evil: b"}},
		"a header of the transport":       {"headers": map[string]any{"Content-Length": "3"}},
		"a name with a line break":        {"headers": map[string]any{"X-A: b\u2028X-Evil": "c"}},
		"a header that is no text":        {"headers": map[string]any{"X-A": int64(1)}},
		"a key's header that is none":     {"header_name": "X Key"},
		"the host as the key's header":    {"header_name": "host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			params := maps.Clone(good)
			maps.Copy(params, change)
			r := report(t, p, decode(t, p, input(params, "api_key", canary)), 2)
			if r.OK || r.Code() != providers.CodeConfigIncomplete || len(r.Steps) != 2 || r.Steps[1].Status != providers.StepFail {
				t.Error(providertest.Render(r))
			}
		})
	}
	t.Cleanup(func() {
		for _, s := range v.requests() {
			if s.uri != "/ping" {
				t.Errorf("sent anyway: %s", s.uri)
			}
		}
	})
}

// A redirect is a finding: whoever can place one gets no credential.
func TestNoCredentialFollowsARedirect(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	target := serve(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })
	v := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ping" {
			return
		}
		http.Redirect(w, r, target.URL, http.StatusTemporaryRedirect)
	})
	p := bound(t, everything(t), nil)
	r := report(t, p, decode(t, p, input(map[string]any{"base_url": v.URL, "room": "blue"}, "api_key", canary)), 2)
	if r.OK || r.Code() != providers.CodeRedirected || asked.Load() != 0 {
		t.Errorf("asked %d times: %s", asked.Load(), providertest.Render(r))
	}
}

func TestWhatAnAnswerMeans(t *testing.T) {
	t.Parallel()
	const good = `{"ok":true,"list":["b"],"at":{"x":1.5}}`
	for name, tt := range map[string]struct {
		h    http.HandlerFunc
		code providers.TestCode
		hint string
		fix  map[string]any
	}{
		"as expected":             {h: answer(202, good, "X-Version", "v1, v2")},
		"another status":          {h: answer(204, "", "X-Version", "v2"), code: providers.CodeUnexpectedStatus},
		"a false assertion":       {h: answer(200, strings.Replace(good, "true", "false", 1), "X-Version", "v2"), code: providers.CodeUnexpectedBody},
		"a string for a bool":     {h: answer(200, strings.Replace(good, "true", `"true"`, 1), "X-Version", "v2"), code: providers.CodeUnexpectedBody},
		"a missing item":          {h: answer(200, strings.Replace(good, "b", "c", 1), "X-Version", "v2"), code: providers.CodeUnexpectedBody},
		"another type":            {h: answer(200, strings.Replace(good, "1.5", "[]", 1), "X-Version", "v2"), code: providers.CodeUnexpectedBody},
		"no JSON":                 {h: answer(200, "<html>"+canary, "X-Version", "v2"), code: providers.CodeUnexpectedBody},
		"JSON with a tail":        {h: answer(200, good+"{}", "X-Version", "v2"), code: providers.CodeUnexpectedBody},
		"a finding with its hint": {h: answer(409, `{"errors":[{"code":"full"}]}`, "X-Version", "v2"), code: providers.CodeQuotaExceeded, hint: "The room blue is full.", fix: map[string]any{"mode": "slow", "note": nil}},
		"a finding by number":     {h: answer(503, `{"errors":[{"code":7}]}`, "X-Version", "v2"), code: providers.CodeQuotaExceeded, hint: "The room blue is full.", fix: map[string]any{"mode": "slow", "note": nil}},
		"half a finding":          {h: answer(503, `{"errors":[{"code":8}]}`, "X-Version", "v2"), code: providers.CodeVendorError},
		"no version":              {h: answer(200, good), code: providers.CodeWrongProduct},
		"another version":         {h: answer(200, good, "X-Version", "v22"), code: providers.CodeWrongProduct},
		"401":                     {h: answer(401, canary, "X-Version", "v2"), code: providers.CodeAuthFailed},
		"403":                     {h: answer(403, canary, "X-Version", "v2"), code: providers.CodePermissionDenied},
		"404":                     {h: answer(404, canary, "X-Version", "v2"), code: providers.CodeNotFound},
		"429":                     {h: answer(429, canary, "X-Version", "v2", "Retry-After", "7"), code: providers.CodeRateLimited},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/ping" {
					tt.h(w, r)
				}
			})
			p := bound(t, everything(t), nil)
			c := decode(t, p, input(map[string]any{"base_url": v.URL, "room": "blue"}, "api_key", canary))
			r := report(t, p, c, 2)
			providertest.CheckReport(t, c, r)
			s := r.Steps[1]
			var fix map[string]any
			if s.Fix != nil {
				fix = s.Fix.Params
			}
			if s.Code != tt.code || tt.hint != "" && s.Hint != tt.hint || !reflect.DeepEqual(fix, tt.fix) {
				t.Error(providertest.Render(r))
			}
			if tt.code == "" && s.Hint != "There is room." {
				t.Errorf("the remark is %q", s.Hint)
			}
		})
	}
}

// Credentials over http to an address that a tenant typed are pointed out; the
// operator's own endpoints are the operator's business.
func TestUnencryptedCredentialsArePointedOut(t *testing.T) {
	t.Parallel()
	v := serve(t, answer(200, `{"ok":true,"list":["b"],"at":{"x":1}}`, "X-Version", "v2"))
	p := bound(t, everything(t), nil)
	r := report(t, p, decode(t, p, input(map[string]any{"base_url": v.URL, "room": "blue"}, "api_key", canary)), 2)
	last := r.Steps[len(r.Steps)-1]
	if !r.OK || last.Status != providers.StepWarn || last.Code != providers.CodeUnencrypted {
		t.Error(providertest.Render(r))
	}
	// The anonymous request before it is none of it.
	if len(r.Steps) != 3 {
		t.Errorf("%d steps", len(r.Steps))
	}
}

func TestBackend(t *testing.T) {
	t.Parallel()
	p := everything(t)
	c := decode(t, p, input(map[string]any{"base_url": "https://draw.acme.example/x/", "room": "blue", "note": "n"}, "api_key", canary))
	b, err := p.Backend(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if b.Params["home"] != "https://draw.acme.example/x/home" || b.Params["title"] != "Room blue" {
		t.Errorf("derived: %v", b.Params)
	}
	if _, there := b.Params["note"]; there || c.Params["note"] != "n" {
		t.Errorf("withheld: %v, config %v", b.Params, c.Params)
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	p := everything(t)
	c, err := p.Schema().Decode(input(map[string]any{"address": "https://a.example", "room": "r", "colour": "red"}, "password", canary), providers.DecodeOptions{Version: 1})
	if err != nil || c.Text("base_url") != "https://a.example" || c.Secrets["api_key"].Reveal() != canary {
		t.Errorf("%v, %v", c, err)
	}
}

func TestImportRefusesTwoSources(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]map[string]any{
		"two places": {"apiKey": "a", "credentials": map[string]any{"api": map[string]any{"key": "b"}}},
		"and flat":   {"apiKey": "a", "api_key": "b"},
	} {
		if _, err := everything(t).ImportConfig(t.Context(), raw); !errors.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAKindWithoutATest(t *testing.T) {
	t.Parallel()
	p := parse(t, "kind: quiet\ncategory: api\nlabel: Quiet\n")
	r := report(t, p, decode(t, p, providers.Input{}), 1)
	if !r.OK || r.Message == "" {
		t.Error(providertest.Render(r))
	}
}

const minter = `
kind: minter
category: api
label: Minter
params:
  - {name: auth, type: enum, default: user, options: [{value: user}, {value: app}, {value: none}]}
  - {name: tenant, type: string, required: true}
  - {name: client_id, type: string, required: true}
  - {name: login, type: string}
secrets: [{name: client_secret, type: string, required: true}]
auth:
  - {type: none, when: {field: auth, eq: none}}
  - type: oauth2
    when: {field: auth, eq: user}
    flow: authorization_code
    client_id: "{{client_id}}"
    client_secret: client_secret
    auth_url: "https://id.vendor.example/{{tenant}}/authorize"
    token_url: "https://id.vendor.example/{{tenant}}/token"
    revoke_url: "https://id.vendor.example/revoke"
    scopes: [mail.send, offline]
    auth_params: {login_hint: "{{login}}", prompt: consent}
    token_params: {audience: "https://api.vendor.example"}
    auth_style: header
    rotates: false
  - type: oauth2
    mode: app
    when: {field: auth, eq: app}
    flow: client_credentials
    client_id: "{{client_id}}"
    client_secret: client_secret
    token_url: "https://id.vendor.example/{{tenant}}/token"
test:
  level: 1
  label: Ask
  steps:
    - {name: scopes, scopes: [mail.send], when: {field: auth, eq: user}}
    - {name: ask, request: {url: "https://api.vendor.example/me"}}
`

func TestOAuth(t *testing.T) {
	t.Parallel()
	v := serve(t, answer(200, `{}`))
	p := bound(t, parse(t, minter), map[string]string{"minter.token": "https://login.sovereign.example/", "minter.api": v.URL + "/base"})
	a, ok := p.(providers.Authorizer)
	if !ok {
		t.Fatal("a kind that mints is no Authorizer")
	}
	params := map[string]any{"tenant": "a/../b", "client_id": "id", "login": "a@acme.example"}
	c := decode(t, p, input(params, "client_secret", canary))
	app, mints, err := a.OAuth(c)
	if err != nil || !mints {
		t.Fatal(mints, err)
	}
	want := providers.OAuthApp{
		Flow: providers.FlowConsent, ClientID: "id", ClientSecret: c.Secrets["client_secret"], AuthStyle: "header",
		AuthURL: "https://id.vendor.example/a%2F..%2Fb/authorize", TokenURL: "https://login.sovereign.example/a%2F..%2Fb/token",
		RevokeURL: "https://id.vendor.example/revoke", Scopes: []string{"mail.send", "offline"},
		AuthParams: map[string]string{"login_hint": "a@acme.example", "prompt": "consent"}, TokenParams: map[string]string{"audience": "https://api.vendor.example"},
	}
	if !reflect.DeepEqual(app, want) {
		t.Errorf("got %+v\nwant %+v", app, want)
	}
	if s := p.Schema(); !slices.Equal(s.Scopes, []string{"mail.send", "offline"}) || !s.AuthModes[1].Grant || s.AuthModes[2].Grant {
		t.Errorf("scopes %v, modes %+v", s.Scopes, s.AuthModes)
	}

	// Without a token neither an answer nor a test.
	if _, err := p.Backend(t.Context(), c); !errors.Is(err, fault.NeedsReauthorization) {
		t.Errorf("a backend without a consent: %v", err)
	}
	if r := report(t, p, c, 1); r.OK || r.Code() != providers.CodeConsentMissing || r.Steps[0].Name != "token" {
		t.Error(providertest.Render(r))
	}
	if len(v.requests()) != 0 {
		t.Error("asked without a token")
	}

	params["auth"] = "app"
	c = decode(t, p, input(params, "client_secret", canary))
	if app, mints, err = a.OAuth(c); err != nil || !mints || app.Flow != providers.FlowClientCredentials || !app.Rotates || app.AuthURL != "" {
		t.Errorf("%+v, %t, %v", app, mints, err)
	}
	params["auth"] = "none"
	c = decode(t, p, input(params, "client_secret", canary))
	if _, mints, err = a.OAuth(c); err != nil || mints {
		t.Errorf("%t, %v", mints, err)
	}
	if r := report(t, p, c, 1); !r.OK || len(r.Steps) != 1 {
		t.Error(providertest.Render(r))
	}
	if got := v.requests(); len(got) != 1 || got[0].uri != "/base/me" || got[0].header.Get("Authorization") != "" {
		t.Errorf("got %+v", got)
	}
}

func TestAKindWithoutTokensIsNoAuthorizer(t *testing.T) {
	t.Parallel()
	if _, is := everything(t).(providers.Authorizer); is {
		t.Error("it mints no token")
	}
}

func TestMustParsePanicsWithTheProblem(t *testing.T) {
	t.Parallel()
	defer func() {
		if r := fmt.Sprint(recover()); !strings.Contains(r, "k.yaml:1:1: lable: unknown key") {
			t.Error(r)
		}
	}()
	httpkind.MustParse("k.yaml", []byte("lable: x"))
}
