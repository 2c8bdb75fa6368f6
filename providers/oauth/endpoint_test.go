package oauth

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/vault"
)

// canary stands in all that a token endpoint could repeat.
const canary = "canary-7f3a"

func header(name, value string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(name, value)
		h(w, r)
	}
}

// Everything that a token endpoint does wrong ends in a stable code within the time
// limit, keeps the grant unless the issuer clearly refuses it, and shows no secret.
func TestFaultyTokenEndpoints(t *testing.T) {
	t.Parallel()
	html := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>"+canary+"</html>")
	}
	endless := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		chunk := bytes.Repeat([]byte(" "), 1<<20)
		for range 1024 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
		fmt.Fprint(w, `{"access_token":"x"}`)
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	half := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, `{"access_token":"`+canary)
		panic(http.ErrAbortHandler)
	}
	slow := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, " ")
			_ = http.NewResponseController(w).Flush()
			<-time.After(10 * time.Millisecond)
		}
	}
	const grantless = connector.GrantNeedsReauthorization
	for _, tc := range []struct {
		name  string
		h     http.HandlerFunc
		code  providers.TestCode
		as    fault.Code
		asked int64         // requests; 1 when 0
		least time.Duration // of Retry-After
		row   connector.GrantStatus
	}{
		{name: "200 with HTML", h: html, code: providers.CodeTokenEndpointDown},
		{name: "200 without a token", h: answersWith(200, `{"token_type":"bearer","x":"`+canary+`"}`), code: providers.CodeTokenEndpointDown},
		{name: "200 with an empty body", h: answersWith(200, ``), code: providers.CodeTokenEndpointDown},
		{name: "200 with a list", h: answersWith(200, `["`+canary+`"]`), code: providers.CodeTokenEndpointDown},
		{name: "200 with text", h: header("Content-Type", "text/plain", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, canary) }), code: providers.CodeTokenEndpointDown},
		{name: "400 invalid_grant", h: answersWith(400, `{"error":"invalid_grant","error_description":"`+canary+`"}`), code: providers.CodeNeedsReauthorization, as: fault.NeedsReauthorization, row: grantless},
		{name: "401 invalid_grant", h: answersWith(401, `{"error":"invalid_grant"}`), code: providers.CodeNeedsReauthorization, as: fault.NeedsReauthorization, row: grantless},
		{name: "400 interaction_required, as Microsoft says it", h: answersWith(400, `{"error":"interaction_required","error_description":"AADSTS50076 `+canary+`"}`), code: providers.CodeNeedsReauthorization, as: fault.NeedsReauthorization, row: grantless},
		{name: "200 bad_refresh_token, as GitHub says it", h: answersWith(200, `{"error":"bad_refresh_token","error_description":"`+canary+`"}`), code: providers.CodeNeedsReauthorization, as: fault.NeedsReauthorization, row: grantless},
		{name: "200 invalid_refresh_token, as Slack says it", h: answersWith(200, `{"ok":false,"error":"invalid_refresh_token"}`), code: providers.CodeNeedsReauthorization, as: fault.NeedsReauthorization, row: grantless},
		{name: "401 invalid_client", h: answersWith(401, `{"error":"invalid_client","error_description":"`+canary+`"}`), code: providers.CodeOAuthClientInvalid, least: 20 * time.Second},
		{name: "400 unauthorized_client", h: answersWith(400, `{"error":"unauthorized_client"}`), code: providers.CodeOAuthClientInvalid, least: 20 * time.Second},
		{name: "401 deleted_client, as Google says it", h: answersWith(401, `{"error":"deleted_client"}`), code: providers.CodeOAuthClientInvalid},
		{name: "401 without a word", h: answersWith(401, canary), code: providers.CodeOAuthClientInvalid},
		{name: "400 invalid_scope", h: answersWith(400, `{"error":"invalid_scope"}`), code: providers.CodeOAuthRefused, least: 20 * time.Second},
		{name: "400 with an error that nobody knows", h: answersWith(400, `{"error":"`+canary+`"}`), code: providers.CodeOAuthRefused},
		{name: "404", h: answersWith(404, `<html>`+canary), code: providers.CodeOAuthRefused},
		{name: "429", h: header("Retry-After", "90", answersWith(429, canary)), code: providers.CodeTokenEndpointDown, least: 89 * time.Second},
		{name: "429 until a date", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", time.Now().Add(2*time.Minute).UTC().Format(http.TimeFormat))
			w.WriteHeader(429)
		}, code: providers.CodeTokenEndpointDown, least: 100 * time.Second},
		{name: "429 for a year", h: header("Retry-After", "31536000", answersWith(429, "")), code: providers.CodeTokenEndpointDown, least: 4 * time.Minute},
		{name: "429 with nonsense", h: header("Retry-After", "soon "+canary, answersWith(429, "")), code: providers.CodeTokenEndpointDown},
		{name: "500 with invalid_grant in it", h: answersWith(500, `{"error":"invalid_grant"}`), code: providers.CodeTokenEndpointDown},
		{name: "503", h: header("Retry-After", "30", answersWith(503, canary)), code: providers.CodeTokenEndpointDown, least: 29 * time.Second},
		{name: "400 temporarily_unavailable", h: answersWith(400, `{"error":"temporarily_unavailable"}`), code: providers.CodeTokenEndpointDown},
		{name: "hangs", h: hang, code: providers.CodeTokenEndpointDown},
		{name: "a body without an end", h: slow, code: providers.CodeTokenEndpointDown},
		{name: "drops after reading", h: func(w http.ResponseWriter, r *http.Request) { drop(w, r) }, code: providers.CodeTokenEndpointDown, asked: 2},
		{name: "drops in the middle of its answer", h: half, code: providers.CodeTokenEndpointDown, asked: 2},
		{name: "sends 1 GB", h: endless, code: providers.CodeTooLarge},
		{name: "an access token of more than 64 KiB", h: answersWith(200, `{"token_type":"bearer","access_token":"`+strings.Repeat("x", 64<<10+1)+`"}`), code: providers.CodeTooLarge},
		{name: "a refresh token of more than 64 KiB", h: answersWith(200, `{"token_type":"bearer","access_token":"a","refresh_token":"`+strings.Repeat("x", 64<<10+1)+`"}`), code: providers.CodeTooLarge},
		{name: "redirects", h: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/"+canary, http.StatusTemporaryRedirect)
		}, code: providers.CodeRedirected},
		{name: "redirects after a POST", h: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/"+canary, http.StatusFound) }, code: providers.CodeRedirected},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, tc.h)
			w := newWorld(t, providers.OAuthApp{
				Flow: providers.FlowConsent, ClientID: "c", ClientSecret: secret.New(canary), TokenURL: s.URL, AuthStyle: "params", Rotates: true,
			})
			w.give(w.old("refresh-"+canary, -time.Second))
			m := w.manager(func(o *Options) { o.HTTPTimeout = 500 * time.Millisecond })
			if tc.as == "" {
				tc.as = fault.Unavailable
			}
			if tc.row == "" {
				tc.row = connector.GrantActive
			}
			begun := time.Now()
			err := w.fails(m, tc.code, tc.as)
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if got := fmt.Sprintf("%v %+v %#v %s", err, err, err, w.log.String()); strings.Contains(got, canary) {
				t.Errorf("a secret shows: %s", got)
			}
			if tc.as == fault.Unavailable && fault.RetryAfter(err) < max(tc.least, time.Second) || fault.RetryAfter(err) > afterMost {
				t.Errorf("come back in %v", fault.RetryAfter(err))
			}
			if n := max(tc.asked, 1); s.asked.Load() != n {
				t.Errorf("asked %d times", s.asked.Load())
			}
			row, g := w.row(), w.stored()
			if row.Status != tc.row || row.Owner != "" || g.Version != w.ref.GrantVersion || g.Values[grantRefresh].Reveal() != "refresh-"+canary {
				t.Errorf("%+v, version %d", row, g.Version)
			}
		})
	}
}

// What can't be reached says why, as far as somebody could cure it.
func TestUnreachableTokenEndpoints(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	plain := newScripted(t, answersWith(200, `{}`))
	d, err := egress.New(egress.Config{Resolver: nowhere{}})
	if err != nil {
		t.Fatal(err)
	}
	lost := providers.Runtime{Transport: d.Transport()}.Client()
	for name, tc := range map[string]struct {
		url    string
		client *http.Client
		code   providers.TestCode
	}{
		"nothing listens":       {"http://" + l.Addr().String(), nil, providers.CodeTokenEndpointDown},
		"no such host":          {"https://token.patchbay-test.example.com/", lost, providers.CodeHostNotFound},
		"plain text behind TLS": {strings.Replace(plain.URL, "http:", "https:", 1), nil, providers.CodeTLSWrongMode},
		"a metadata server":     {"http://169.254.169.254/token", nil, providers.CodeEgressDenied},
		"no way out":            {plain.URL, providers.Runtime{}.Client(), providers.CodeNoNetwork},
		"a bare client":         {plain.URL, &http.Client{}, providers.CodeNoNetwork},
		"no URL":                {"::", nil, providers.CodeTokenEndpointDown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, providers.OAuthApp{Flow: providers.FlowClientCredentials, ClientID: "c", ClientSecret: secret.New(canary), TokenURL: tc.url, AuthStyle: "header"})
			m := w.manager(func(o *Options) {
				if tc.client != nil {
					o.Client = tc.client
				}
			})
			w.fails(m, tc.code, fault.Unavailable)
		})
	}
	if plain.asked.Load() != 0 {
		t.Error("something was asked past the policy")
	}
}

// nowhere is a DNS that knows no name.
type nowhere struct{}

func (nowhere) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) { return nil, nil }

// Back-off grows with each failure, and no faster than short-lived tokens allow.
func TestPauses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		bad         trouble
		count       int
		life        time.Duration
		least, most time.Duration
	}{
		{trouble{class: outage}, 1, time.Hour, 500 * time.Millisecond, time.Second},
		{trouble{class: outage}, 4, time.Hour, 4 * time.Second, 8 * time.Second},
		{trouble{class: outage}, 1000, time.Hour, 30 * time.Second, time.Minute},
		{trouble{class: outage}, 1000, 5 * time.Second, 1250 * time.Millisecond, 2500 * time.Millisecond},
		{trouble{class: outage, after: 20 * time.Second}, 1, 5 * time.Second, 20 * time.Second, 20 * time.Second},
		{trouble{class: outage, after: time.Hour}, 1, time.Hour, afterMost, afterMost},
		{trouble{class: ours}, 1, time.Hour, 125 * time.Millisecond, 250 * time.Millisecond},
		{trouble{class: ours}, 1000, time.Hour, 2500 * time.Millisecond, 5 * time.Second},
		{trouble{class: client}, 1, time.Second, 30 * time.Second, time.Minute},
		{trouble{class: refused}, 9, time.Hour, 2 * time.Second, 2 * time.Second},
		{trouble{class: paused, after: 3 * time.Second}, 9, time.Hour, 3 * time.Second, 3200 * time.Millisecond},
	} {
		for range 100 {
			if got := tc.bad.pause(tc.count, tc.life); got < tc.least || got > tc.most {
				t.Errorf("class %d after %d: %v", tc.bad.class, tc.count, got)
				break
			}
		}
	}
}

func TestLivesAndScopes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		body string
		life time.Duration // of the token; 0: no end
		say  int           // scopes
	}{
		{`"expires_in":3600,"scope":"a b"`, time.Hour - 10*time.Second, 2},
		{`"expires_in":"3600","scope":"a,b,c"`, time.Hour - 10*time.Second, 3},
		{`"expires_in":5`, 4900 * time.Millisecond, 0},
		{`"expires_in":0,"refresh_token":"r"`, time.Hour - 10*time.Second, 0},
		{`"expires_in":-1`, time.Hour - 10*time.Second, 0},
		{`"expires_in":99999999999,"scope":7`, time.Duration(1<<31-1)*time.Second - 10*time.Second, 0},
		{`"x":1`, time.Hour - 10*time.Second, 0},
	} {
		s := newScripted(t, answersWith(200, `{"access_token":"x","token_type":"bearer",`+tc.body+`}`))
		w := newWorld(t, providers.OAuthApp{Flow: providers.FlowClientCredentials, ClientID: "c", TokenURL: s.URL})
		begun := time.Now()
		tok := w.ask(w.manager(nil))
		want := min(tc.life, longestLife-10*time.Second)
		if got := tok.ExpiresAt.Sub(begun); got > want+time.Second || got < want-time.Millisecond || len(tok.Scopes) != tc.say || tok.Type != "Bearer" {
			t.Errorf("%s: ends in %v, %d scopes", tc.body, got, len(tok.Scopes))
		}
		part := float64(tok.RefreshAt.Sub(begun)) / float64(want)
		if part < renewFrom-0.01 || part > renewTo+0.01 {
			t.Errorf("%s: renewed after %v of its life", tc.body, part)
		}
	}
}

// How a client authenticates is found out once, and no refresh token is sent twice
// for anything but a refusal of the client.
func TestAuthStyles(t *testing.T) {
	t.Parallel()
	paramsOnly := func(w http.ResponseWriter, r *http.Request) {
		if r.PostForm.Get("client_secret") != "s:%&" || r.PostForm.Get("client_id") != "c" {
			answersWith(401, `{"error":"invalid_client"}`)(w, r)
			return
		}
		answersWith(200, `{"access_token":"x","expires_in":3600}`)(w, r)
	}
	headerOnly := func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		user, _ = url.QueryUnescape(user)
		password, _ = url.QueryUnescape(password)
		if user != "c" || password != "s:%&" || r.PostForm.Has("client_secret") {
			answersWith(401, `{"error":"invalid_client"}`)(w, r)
			return
		}
		answersWith(200, `{"access_token":"x","expires_in":3600}`)(w, r)
	}
	for _, tc := range []struct {
		name, style string
		h           http.HandlerFunc
		asked       int64
		fails       bool
	}{
		{"header, told", "header", headerOnly, 1, false},
		{"params, told", "params", paramsOnly, 1, false},
		{"header, found out", "", headerOnly, 1, false},
		{"params, found out", "", paramsOnly, 2, false},
		{"header told to one who wants params", "header", paramsOnly, 1, true},
		{"an outage is no reason to ask again", "", answersWith(503, ""), 1, true},
		{"a refused grant is no reason to ask again", "", answersWith(400, `{"error":"invalid_grant"}`), 1, true},
		{"a refused client is refused both ways", "", answersWith(401, ""), 2, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, tc.h)
			w := newWorld(t, providers.OAuthApp{
				Flow: providers.FlowConsent, ClientID: "c", ClientSecret: secret.New("s:%&"), TokenURL: s.URL, AuthStyle: tc.style,
				TokenParams: map[string]string{"audience": "api", "grant_type": "never"},
			})
			w.give(w.old("r", -time.Second))
			m := w.manager(nil)
			_, err := w.source(m).Token(within(t, 20*time.Second))
			if (err != nil) != tc.fails || s.asked.Load() != tc.asked {
				t.Fatalf("%v after %d requests", err, s.asked.Load())
			}
			forms, _ := s.sent()
			for _, f := range forms {
				if f.Get("audience") != "api" || f.Get("grant_type") != "refresh_token" || f.Get("refresh_token") != "r" || f.Has("scope") {
					t.Errorf("sent %v", f)
				}
			}
			if tc.fails {
				return
			}
			w.give(w.old("r", -time.Second))
			w.ask(m)
			if s.asked.Load() != tc.asked+1 {
				t.Errorf("asked %d times for a second token", s.asked.Load()-tc.asked)
			}
		})
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, providers.OAuthApp{})
	d, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c := providers.Runtime{Transport: d.Transport()}.Client()
	for i, o := range []Options{{Grants: w.grants, Client: c}, {Lease: w.lease, Client: c}, {Lease: w.lease, Grants: w.grants}} {
		if _, err := New(o); fault.CodeOf(err) != fault.InvalidArgument {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func TestWhatIsNoGrant(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]secret.Map{
		"nothing":         {},
		"other things":    {"x": secret.New("y")},
		"empty ones":      {grantRefresh: secret.New(""), grantAccess: secret.New("")},
		"a broken time":   {grantAccess: secret.New("a"), grantIssued: secret.New("now")},
		"no issue at all": {grantAccess: secret.New("a")},
	} {
		if _, ok := grantOf(vault.Grant{Values: v, Version: 1}); ok {
			t.Errorf("%s passes for a grant", name)
		}
	}
	if g, ok := grantOf(vault.Grant{Values: secret.Map{grantRefresh: secret.New("r"), grantAccess: secret.New("a"), grantExpires: secret.New("?")}}); !ok || g.token.Access.IsSet() {
		t.Error("a refresh token is enough, and a token without a readable end is none")
	}
}
