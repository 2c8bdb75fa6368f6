package httpkind

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/patchbay-dev/patchbay/providers"
)

// owned are headers that the protocol or the transport sets: a second one smuggles
// a request or leads it elsewhere.
var owned = []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade", "Expect"}

// headerProblem says what is wrong with a header's name (RFC 9110, 5.1).
func headerProblem(name string) string {
	const others = "!#$%&'*+-.^_`|~"
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(others, rune(c)) {
			return "is not the name of a header"
		}
	}
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case name == "":
		return "is not the name of a header"
	case slices.Contains(owned, canonical), strings.HasPrefix(canonical, "Proxy-"):
		return canonical + " is set by the transport"
	case canonical == "Authorization":
		return "Authorization belongs under auth"
	}
	return ""
}

// setHeader sets a header to a value that stays on its line.
func setHeader(h http.Header, name, value string) (problem string) {
	if strings.ContainsFunc(value, func(r rune) bool { return unicode.IsControl(r) && r != '\t' }) {
		return "The value for the header " + textproto.CanonicalMIMEHeaderKey(name) + " has a line break or a control character."
	}
	h.Set(name, value)
	return ""
}

// mode is the auth mode that the config uses; nil where none applies.
func (f *file) mode(v values) *auth {
	for i := range f.Auth {
		if v.holds(f.Auth[i].When) {
			return &f.Auth[i]
		}
	}
	return nil
}

// authorize adds the credentials. sent tells whether there were any: an optional
// secret that is unset leaves the request without.
func (a *auth) authorize(r *http.Request, q url.Values, v values, token providers.Token) (sent bool, problem string) {
	switch {
	case a == nil:
		return false, ""
	case a.Type == "oauth2":
		return true, setHeader(r.Header, "Authorization", "Bearer "+token.Access.Reveal())
	case a.Type == "bearer":
		if value, missing := a.Token.raw(v); missing == "" {
			return true, setHeader(r.Header, "Authorization", "Bearer "+value)
		}
	case a.Type == "basic":
		username, noName := a.Username.raw(v)
		password, noPassword := a.Password.raw(v)
		if noName != "" && noPassword != "" {
			return false, ""
		}
		// RFC 7617, 2: the first colon ends the user name.
		if strings.Contains(username, ":") {
			return false, "The user name must not contain a colon."
		}
		r.SetBasicAuth(username, password)
		return true, ""
	case a.Type == "header":
		name, noName := a.Header.raw(v)
		value, noValue := a.Value.raw(v)
		if noName != "" || noValue != "" {
			return false, ""
		}
		if problem := headerProblem(name); problem != "" && !strings.EqualFold(name, "Authorization") {
			return false, "The name of the header for the key " + strings.TrimPrefix(problem, textproto.CanonicalMIMEHeaderKey(name)+" ") + "."
		}
		return true, setHeader(r.Header, name, value)
	case a.Type == "query":
		name, noName := a.Query.raw(v)
		value, noValue := a.Value.raw(v)
		if noName != "" || noValue != "" {
			return false, ""
		}
		q.Set(name, value)
		return true, ""
	}
	return false, ""
}

// build makes the HTTP request of a step.
func (p *Provider) build(ctx context.Context, s *step, v values, token providers.Token) (req *http.Request, sent bool, o providers.Outcome, ok bool) {
	bad := func(problem string) (*http.Request, bool, providers.Outcome, bool) {
		return nil, false, providers.Failed(providers.CodeConfigIncomplete, problem), false
	}
	r := s.Request
	u, problem := s.target.address(p.rt, p.schema.Kind, v)
	if problem != "" {
		return bad(problem)
	}
	body, contentType, err := r.content(v)
	if err != nil {
		return bad("The body of the test request can't be made of this config.")
	}
	method, lacks := r.Method.raw(v)
	if lacks != "" {
		return bad(missing(lacks))
	}
	req, o, ok = providers.Request(ctx, method, u.String(), body.reader())
	if !ok {
		return nil, false, o, false
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if problem := r.headers(req.Header, v); problem != "" {
		return bad(problem)
	}
	q := req.URL.Query()
	for _, name := range sortedKeys(r.Query) {
		t := r.Query[name]
		if value, missing := t.raw(v); missing == "" {
			q.Set(name, value)
		}
	}
	if i := slices.IndexFunc(r.Sign, func(s sign) bool { return v.holds(s.When) }); i >= 0 {
		if problem := r.Sign[i].add(req.Header, v, body); problem != "" {
			return bad(problem)
		}
	}
	if !r.Anonymous {
		if sent, problem = p.file.mode(v).authorize(req, q, v, token); problem != "" {
			return bad(problem)
		}
	}
	if len(q) > 0 {
		req.URL.RawQuery = q.Encode()
	}
	return req, sent, providers.Outcome{}, true
}

// text is a body, nil where there is none.
type text []byte

func (t text) reader() *strings.Reader {
	if t == nil {
		return strings.NewReader("")
	}
	return strings.NewReader(string(t))
}

// content renders the body.
func (r *request) content(v values) (body text, contentType string, err error) {
	switch {
	case r.body != nil:
		filled, _ := fill(r.body, v)
		body, err := json.Marshal(filled)
		return body, "application/json", err
	case r.Form != nil:
		form := url.Values{}
		for _, name := range sortedKeys(r.Form) {
			t := r.Form[name]
			if value, missing := t.raw(v); missing == "" {
				form.Set(name, value)
			}
		}
		return text(form.Encode()), "application/x-www-form-urlencoded", nil
	}
	return nil, "", nil
}

// headers adds those of the file and those that the admin entered.
func (r *request) headers(h http.Header, v values) (problem string) {
	for _, name := range sortedKeys(r.Headers) {
		t := r.Headers[name]
		if value, missing := t.raw(v); missing == "" {
			if problem := setHeader(h, name, value); problem != "" {
				return problem
			}
		}
	}
	entered, _ := v.config.Params[r.HeadersFrom].(map[string]any)
	for _, name := range sortedKeys(entered) {
		if problem := headerProblem(name); problem != "" {
			return "One of the headers can't be sent: " + strings.TrimPrefix(problem, textproto.CanonicalMIMEHeaderKey(name)+" ") + "."
		}
		value, isText := entered[name].(string)
		if !isText {
			return "The value of a header must be text."
		}
		if problem := setHeader(h, name, value); problem != "" {
			return problem
		}
	}
	return ""
}

// reach connects and, for https, agrees on TLS. It asks nothing, and so has no
// effect on the other side, whatever that is.
func (p *Provider) reach(ctx context.Context, s *step, v values) providers.Outcome {
	u, problem := s.target.address(p.rt, p.schema.Kind, v)
	if problem != "" {
		return providers.Failed(providers.CodeConfigIncomplete, problem)
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	conn, err := p.rt.Dial(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return providers.NetworkOutcome(err)
	}
	defer func() { _ = conn.Close() }() // nothing was sent
	if u.Scheme == "http" {
		return providers.Warned(providers.CodeUnencrypted, "")
	}
	session := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), RootCAs: p.rt.Roots, MinVersion: tls.VersionTLS12})
	if err := session.HandshakeContext(ctx); err != nil {
		return providers.NetworkOutcome(err)
	}
	return providers.Good()
}
