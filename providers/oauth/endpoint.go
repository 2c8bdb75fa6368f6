package oauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// answerLimit is how much of an issuer's answer is read. Tokens have a few KiB.
const answerLimit = 1 << 20

// styles remembers how clients authenticate where their kind doesn't say.
type styles struct {
	mu sync.Mutex
	m  map[string]oauth2.AuthStyle
}

const maxStyles = 4096

func (s *styles) get(k string) (oauth2.AuthStyle, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	style, ok := s.m[k]
	return style, ok
}

func (s *styles) put(k string, style oauth2.AuthStyle) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil || len(s.m) >= maxStyles {
		s.m = make(map[string]oauth2.AuthStyle) // asking an issuer twice once more is cheap
	}
	s.m[k] = style
}

// request asks app's token endpoint (RFC 6749 section 4) with params and app's own.
//
// Where the kind doesn't say how the client authenticates, the header comes first
// (every issuer must support it, section 2.3.1), then the body. x/oauth2's own probe
// asks a second time after any error, a dropped connection too, and would so take a
// refresh token twice; here a second request follows only a refusal of the client.
func (m *Manager) request(ctx context.Context, app providers.OAuthApp, params url.Values) (answer, *trouble) {
	for name, value := range app.TokenParams {
		if !params.Has(name) {
			params.Set(name, value)
		}
	}
	name := string(joined(app.TokenURL, app.ClientID))
	style, sure := m.style(app, name)
	a, x, bad := m.exchange(ctx, app, style, params)
	if bad == nil && !sure {
		m.styles.put(name, style)
	}
	if bad == nil || sure {
		return a, bad
	}
	if x.status >= 400 && x.status < 500 && (bad.class == client && x.status != http.StatusForbidden) {
		if a, _, again := m.exchange(ctx, app, oauth2.AuthStyleInParams, params); again == nil || again.class != client {
			m.styles.put(name, oauth2.AuthStyleInParams)
			return a, again
		}
	}
	return a, bad
}

// style is how app's client authenticates, and whether that is known.
func (m *Manager) style(app providers.OAuthApp, name string) (oauth2.AuthStyle, bool) {
	switch {
	case app.AuthStyle == "header":
		return oauth2.AuthStyleInHeader, true
	case app.AuthStyle == "params", !app.ClientSecret.IsSet():
		return oauth2.AuthStyleInParams, true
	}
	if style, ok := m.styles.get(name); ok {
		return style, true
	}
	return oauth2.AuthStyleInHeader, false
}

// maxToken bounds an access, refresh or id token, in bytes. The largest that are known,
// JWTs with hundreds of groups, are below 20 KiB; what is larger is not stored, held in
// memory and handed to every app. It is refused whole: a token that was cut is none.
const maxToken = 64 << 10

// exchange is one request, bounded in time and size.
func (m *Manager) exchange(ctx context.Context, app providers.OAuthApp, style oauth2.AuthStyle, params url.Values) (answer, *observer, *trouble) {
	ctx, cancel := context.WithTimeout(ctx, m.o.HTTPTimeout)
	defer cancel()
	x := &observer{next: m.o.Client.Transport, step: m.step}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(i httptrace.WroteRequestInfo) { x.wrote.Store(i.Err == nil) },
	})
	ctx = context.WithValue(ctx, oauth2.HTTPClient, providers.Runtime{Transport: x}.Client())
	// This Config's grant type may be overridden, and unlike oauth2.Config it takes
	// further params for every flow.
	cfg := clientcredentials.Config{
		ClientID: app.ClientID, ClientSecret: app.ClientSecret.Reveal(), TokenURL: app.TokenURL,
		AuthStyle: style, EndpointParams: params,
	}
	begun := m.now()
	t, err := cfg.Token(ctx)
	if err != nil {
		return answer{}, x, judge(ctx, x, err)
	}
	id, _ := t.Extra("id_token").(string)
	if max(len(t.AccessToken), len(t.RefreshToken), len(id)) > maxToken {
		return answer{}, x, &trouble{class: outage, code: providers.CodeTooLarge, err: fault.New(fault.Unavailable, "the token endpoint's answer has a token of more than 64 KiB, which can't be used")}
	}
	a := answer{
		access: secret.New(t.AccessToken), kind: t.Type(), begun: begun,
		life: seconds(t.Extra("expires_in")), scopes: scopes(t.Extra("scope")),
	}
	if t.RefreshToken != "" {
		a.refresh, a.replaced = secret.New(t.RefreshToken), t.RefreshToken != params.Get("refresh_token")
	}
	return a, x, nil
}

// seconds reads an expires_in: a number, or a string of one as some issuers write
// it; 0 when there is none. 0 and less say nothing that could be meant.
func seconds(v any) time.Duration {
	var n float64
	switch v := v.(type) {
	case float64:
		n = v
	case int64:
		n = float64(v)
	case string:
		n, _ = strconv.ParseFloat(v, 64)
	}
	return time.Duration(max(min(n, longestLife.Seconds()), 0) * float64(time.Second))
}

// scopes reads a scope: separated by spaces, by commas where the issuer is GitHub
// or Slack; nil when there is none.
func scopes(v any) []string {
	s, ok := v.(string)
	if !ok || s == "" {
		return nil
	}
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' })
}

// observer is the transport of one request: it sees what x/oauth2's error hides, and
// bounds the answer.
type observer struct {
	next http.RoundTripper
	step func(string)

	wrote    atomic.Bool // the request left whole
	status   int         // 0: no answer
	header   http.Header
	network  error // of the request or of reading the answer
	tooLarge bool
}

func (x *observer) RoundTrip(req *http.Request) (*http.Response, error) {
	next := x.next
	if next == nil {
		// A client without a transport would dial with net/http's, past the policy.
		return nil, providers.ErrNoNetwork
	}
	x.step("post")
	req.Header.Set("Accept", "application/json") // GitHub answers in a form otherwise
	req.Header.Set("User-Agent", "patchbay")
	res, err := next.RoundTrip(req)
	if err != nil {
		x.network = err
		return nil, err
	}
	x.status, x.header = res.StatusCode, res.Header
	res.Body = &body{ReadCloser: res.Body, x: x, left: answerLimit - 1} // x/oauth2 cuts off at the limit in silence
	return res, nil
}

type body struct {
	io.ReadCloser

	x    *observer
	left int
}

var errTooLarge = errors.New("the answer is too large")

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		b.x.tooLarge = true
		return 0, errTooLarge
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.x.network = err
	}
	return n, err
}

// The error codes that are believed, by what they mean. RFC 6749 section 5.2 has
// invalid_grant, invalid_client and unauthorized_client. The others are vendors':
// interaction_required, consent_required and login_required Microsoft's, bad_refresh_token
// and incorrect_client_credentials GitHub's, invalid_refresh_token, invalid_client_id
// and bad_client_secret Slack's, deleted_client and disabled_client Google's.
var (
	grantCodes = []string{"invalid_grant", "interaction_required", "consent_required", "login_required",
		"bad_refresh_token", "invalid_refresh_token"}
	clientCodes = []string{"invalid_client", "unauthorized_client", "incorrect_client_credentials",
		"invalid_client_id", "bad_client_secret", "deleted_client", "disabled_client"}
	requestCodes = []string{"invalid_request", "invalid_scope", "unsupported_grant_type", "invalid_target", "access_denied"}
	outageCodes  = []string{"temporarily_unavailable", "server_error", "slow_down"}
)

// judge turns an error of x/oauth2 into ours. The error's own text goes nowhere: it
// prints the body. An error code is repeated if it is on a list; an issuer could
// answer with anything, what we sent it included.
func judge(ctx context.Context, x *observer, err error) *trouble {
	code := ""
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		code = e.ErrorCode
	}
	after := retryAfter(x.header)
	switch {
	case x.tooLarge:
		return &trouble{class: outage, code: providers.CodeTooLarge, err: fault.New(fault.Unavailable, "the token endpoint's answer is too large")}
	case x.status == 0 || x.network != nil:
		return unreached(ctx, x, err)
	case x.status >= 300 && x.status < 400:
		return &trouble{class: client, code: providers.CodeRedirected, err: fault.New(fault.Unavailable, "the token endpoint redirects elsewhere")}
	case x.status == http.StatusTooManyRequests:
		bad := down("the issuer limits our requests")
		bad.said, bad.after = true, after
		return bad
	case x.status >= 500, x.status == http.StatusRequestTimeout, slices.Contains(outageCodes, code):
		bad := down("the issuer reports a fault of its own")
		bad.said, bad.after = true, after
		return bad
	case slices.Contains(grantCodes, code):
		return &trouble{class: refused, code: providers.CodeNeedsReauthorization,
			err: fault.Newf(fault.NeedsReauthorization, "the issuer no longer accepts the account's consent (%s); connect it again", code)}
	case slices.Contains(clientCodes, code), code == "" && x.status == http.StatusUnauthorized:
		return &trouble{class: client, code: providers.CodeOAuthClientInvalid, after: after,
			err: fault.New(fault.Unavailable, "the issuer refuses the OAuth2 client"+said(code))}
	case x.status >= 400 || code != "":
		if !slices.Contains(requestCodes, code) {
			code = ""
		}
		return &trouble{class: client, code: providers.CodeOAuthRefused, after: after,
			err: fault.New(fault.Unavailable, "the issuer refuses the token request"+said(code))}
	default: // 200 with HTML, without a token
		return down("the token endpoint's answer holds no token")
	}
}

func said(code string) string {
	if code == "" {
		return ""
	}
	return " (" + code + ")"
}

func down(message string) *trouble {
	return &trouble{class: outage, code: providers.CodeTokenEndpointDown, err: fault.New(fault.Unavailable, message)}
}

// unreached judges a request without a whole answer. What a config or an operator
// can cure keeps its own code.
func unreached(ctx context.Context, x *observer, err error) *trouble {
	if x.network != nil {
		err = x.network
	}
	if ctx.Err() != nil {
		err = ctx.Err() // the transport's own error may only say that something was closed
	}
	bad := down("the token endpoint does not answer")
	switch code := providers.NetworkOutcome(err).Code; code {
	case providers.CodeEgressDenied, providers.CodeNoNetwork, providers.CodeHostNotFound, providers.CodeTLSWrongMode,
		providers.CodeTLSFailed, providers.CodeCertificateExpired, providers.CodeCertificateName, providers.CodeCertificateUnknown:
		bad.code = code
	case providers.CodeTimeout, providers.CodeCancelled:
	default:
		bad.dropped = x.wrote.Load()
	}
	return bad
}

// retryAfter reads RFC 9110's Retry-After, in seconds or as a date.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if n, err := strconv.Atoi(v); err == nil {
		return min(max(time.Duration(n)*time.Second, 0), afterMost)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(time.Until(at), 0), afterMost)
	}
	return 0
}
