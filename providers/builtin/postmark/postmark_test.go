package postmark_test

import (
	"net/http"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	"github.com/patchbay-dev/patchbay/providers/builtin/postmark"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

const token = "canary-5e2b-4a0e-9b1d-0c7e1f3a9d42"

func input(params map[string]any) providers.Input {
	return providers.Input{Params: params, Secrets: secret.Map{"server_token": secret.New(token)}}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	providertest.Run(t, postmark.New(), providertest.Cases{
		Minimal: input(nil),
		Full:    input(map[string]any{"message_stream": "outbound", "from": "Acme <no-reply@acme.example>"}),
		Bad: map[string]providertest.Bad{
			"a stream that is a path":       {Input: input(map[string]any{"message_stream": "../servers"}), Want: []string{"/params/message_stream pattern"}},
			"a sender with a second header": {Input: input(map[string]any{"from": "a@acme.example\r\nBcc: b@evil.example"}), Want: []string{"/params/from control_character"}},
			"nothing":                       {Input: providers.Input{}, Want: []string{"/secrets/server_token required"}},
		},
		Imports: map[string]providertest.Import{
			"by kind": {Raw: map[string]any{"postmark": map[string]any{"server_token": "k"}}, Want: map[string]any{"server_token": "k"}},
		},
		Test: true,
	})
}

// The documents that say what Postmark answers.
const (
	docErrors   = "https://postmarkapp.com/developer/api/overview#error-codes"
	docStatuses = "https://postmarkapp.com/developer/api/overview#response-codes"
	docServer   = "https://postmarkapp.com/developer/api/server-api"
	docSandbox  = "https://postmarkapp.com/developer/user-guide/sandbox-mode"
	docStreams  = "https://postmarkapp.com/developer/api/message-streams-api"
)

// server is Postmark's answer, which repeats the token.
const server = `{"ID":1,"Name":"Acme","ApiTokens":["` + token + `"],"Color":"blue","DeliveryType":"Live","SmtpApiActivated":true}`

const (
	routeServer = "GET /server"
	routeStream = "GET /message-streams/outbound"
)

type routes = map[string]http.HandlerFunc

// trap makes a trap's Make from Postmark's routes.
func trap(rs routes, params map[string]any) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		checked := routes{}
		for pattern, h := range rs {
			checked[pattern] = func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("X-Postmark-Server-Token") != token || r.Header.Get("Authorization") != "" {
					t.Errorf("the request carries %v", r.Header)
				}
				h(w, r)
			}
		}
		s := vendortest.Serve(t, checked)
		return bind(vendortest.Runtime(t, map[string]string{"postmark": s.URL})), input(params)
	}
}

func bind(rt providers.Runtime) providers.Provider {
	return postmark.New().(providers.Binder).Bind(rt)
}

func TestTraps(t *testing.T) {
	t.Parallel()
	ok := vendortest.Answer(200, server)
	stream := map[string]any{"message_stream": "outbound"}
	streams := func(status int, body string) routes {
		return routes{routeServer: ok, routeStream: vendortest.Answer(status, body)}
	}
	traps := []providertest.Trap{
		{Name: "all is well", Doc: docServer, Make: trap(routes{routeServer: ok}, nil)},
		{
			Name: "a wrong or deleted token", Doc: docErrors, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAuthFailed,
			Make: trap(routes{routeServer: vendortest.Answer(401, `{"ErrorCode":10,"Message":"Request does not contain a valid Server token."}`)}, nil),
		},
		{
			Name: "an account's token in a server's place", Doc: "https://github.com/PipedreamHQ/pipedream/issues/10254", Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAuthFailed,
			Make: trap(routes{routeServer: vendortest.Answer(401, `{"ErrorCode":10,"Message":"Request does not contain a valid Server token."}`)}, nil),
		},
		{
			Name: "401 of a proxy in between", Doc: docStatuses, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeAuthFailed,
			Make: trap(routes{routeServer: vendortest.Answer(401, "<html>")}, nil),
		},
		{
			Name: "maintenance", Doc: docErrors, Step: "authenticate", Status: providers.StepFail, Code: providers.CodeVendorError,
			Make: trap(routes{routeServer: vendortest.Answer(422, `{"ErrorCode":100,"Message":"Maintenance"}`)}, nil),
		},
		{
			Name: "a sandbox server, which delivers nothing", Doc: docSandbox, Level: 2, Step: "delivery", Status: providers.StepWarn, Code: providers.CodeMessageRefused,
			Make: trap(routes{routeServer: vendortest.Answer(200, `{"ID":1,"Name":"Acme","DeliveryType":"Sandbox"}`)}, nil),
		},
		{
			Name: "a message stream that is there", Doc: docStreams, Level: 2,
			Make: trap(streams(200, `{"ID":"outbound","ServerID":1,"MessageStreamType":"Transactional","ArchivedAt":null}`), stream),
		},
		{
			Name: "a message stream that is not there", Doc: docStreams, Level: 2, Step: "stream", Status: providers.StepFail, Code: providers.CodeNotFound,
			Make: trap(streams(404, `{"ErrorCode":1226,"Message":"The message stream for the provided 'ID' was not found."}`), stream),
		},
		{
			Name: "an archived message stream", Doc: docStreams, Level: 2, Step: "stream", Status: providers.StepFail, Code: providers.CodeNotFound,
			Make: trap(streams(200, `{"ID":"outbound","MessageStreamType":"Broadcasts","ArchivedAt":"2020-07-01T00:00:00-04:00"}`), stream),
		},
		{
			Name: "an inbound message stream", Doc: docStreams, Level: 2, Step: "stream", Status: providers.StepFail, Code: providers.CodeMessageRefused,
			Make: trap(streams(200, `{"ID":"inbound","MessageStreamType":"Inbound","ArchivedAt":null}`), stream),
		},
	}
	traps = append(traps,
		providertest.Trap{
			Name: "a hang at the step stream", Level: 2, Step: "stream", Status: providers.StepFail, Code: providers.CodeTimeout,
			Make: trap(routes{routeServer: ok, routeStream: vendortest.Hang}, stream),
		},
		providertest.Trap{
			Name: "a token with every kind of quote", Doc: docServer,
			Make: func(t *testing.T) (providers.Provider, providers.Input) {
				s := vendortest.Serve(t, routes{routeServer: func(w http.ResponseWriter, r *http.Request) {
					if got := r.Header.Get("X-Postmark-Server-Token"); got != vendortest.OddSecret {
						t.Errorf("the token arrives as %q", got)
					}
					ok(w, r)
				}})
				return bind(vendortest.Runtime(t, map[string]string{"postmark": s.URL})), providers.Input{Secrets: secret.Map{"server_token": secret.New(vendortest.OddSecret)}}
			},
		},
	)
	traps = append(traps, vendortest.Traps("authenticate", "postmark", nil, func(_ *testing.T, rt providers.Runtime) (providers.Provider, providers.Input) {
		return bind(rt), input(nil)
	})...)
	providertest.RunTraps(t, traps)
}
