package httpkind

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/token"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// Provider is a declared kind. One that mints OAuth2 tokens comes as a
// providers.Authorizer around it.
type Provider struct {
	providers.Base
	schema *providers.Schema
	file   *file
	rt     providers.Runtime
	now    func() time.Time
	newID  func() string
}

// fileLimit is how large a kind's file may be, in bytes.
const fileLimit = 64 << 10

// Parse makes a kind of a file. name stands for the file in problems. Either the
// provider or a problem is returned.
func Parse(name string, data []byte) (providers.Provider, []Problem) {
	if len(data) > fileLimit {
		return nil, []Problem{{File: name, Message: fmt.Sprintf("is larger than %d KiB", fileLimit>>10)}}
	}
	d := decoder{file: name, at: map[string]*token.Token{}}
	f := &file{}
	d.document(data, f)
	if len(d.problems) > 0 {
		return nil, sorted(d.problems)
	}
	c := &compiler{decoder: &d, f: f}
	c.compile()
	if len(d.problems) > 0 {
		return nil, sorted(d.problems)
	}
	p := &Provider{schema: c.schema, file: f, now: time.Now, newID: newID}
	if slices.ContainsFunc(f.Auth, func(a auth) bool { return a.Type == "oauth2" }) {
		return minting{p}, nil
	}
	return p, nil
}

// MustParse is Parse for a file that is part of the program. It panics where
// that has a problem, which the first test of the program finds.
func MustParse(name string, data []byte) providers.Provider {
	p, problems := Parse(name, data)
	if problems != nil {
		lines := make([]string, len(problems))
		for i, problem := range problems {
			lines[i] = problem.String()
		}
		panic("httpkind: " + strings.Join(lines, "\n"))
	}
	return p
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, see crypto/rand
	return "msg_" + hex.EncodeToString(b[:])
}

// Schema describes the kind.
func (p *Provider) Schema() *providers.Schema { return p.schema }

// Bind returns the provider with a way to the network.
func (p *Provider) Bind(rt providers.Runtime) providers.Provider {
	q := *p
	q.rt = rt
	return &q
}

// values are what placeholders stand for now.
func (p *Provider) values(c providers.Config, recipient string) values {
	v := values{config: c, extra: map[string]string{nowName: p.now().UTC().Format(time.RFC3339), idName: p.newID()}}
	if recipient != "" {
		v.extra[recipientName] = recipient
	}
	return v
}

// Backend answers with the config, what the file derives from it and, where the
// config mints tokens, a fresh access_token. Errors: *providers.TokenError, and
// fault.InvalidArgument where a derived address is none.
func (p *Provider) Backend(ctx context.Context, c providers.Config) (providers.Backend, error) {
	v := p.values(c, "")
	b := providers.Direct(c)
	if m := p.file.mode(v); m != nil && m.Type == "oauth2" {
		var err error
		if b, err = providers.WithToken(ctx, c); err != nil {
			return providers.Backend{}, err
		}
	}
	for _, name := range sortedKeys(p.file.Backend.Derived) {
		t := p.file.Backend.Derived[name]
		if tg := p.file.Backend.targets[name]; tg != nil {
			u, problem := tg.address(p.rt, p.schema.Kind, v)
			if problem != "" {
				return providers.Backend{}, fault.New(fault.InvalidArgument, problem)
			}
			b.Params[name] = u.String()
		} else if text, missing := t.raw(v); missing == "" {
			b.Params[name] = text
		}
	}
	for _, name := range p.file.Backend.Withhold {
		delete(b.Params, name)
		delete(b.Secrets, name)
	}
	return b, nil
}

// TestConnection runs the steps of every level up to the one asked for. With
// OAuth2 the first step is "token".
func (p *Provider) TestConnection(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
	if len(p.file.Test) == 0 {
		return p.Base.TestConnection(ctx, c, o)
	}
	t := providers.NewTest(ctx, c, o)
	v := p.values(c, o.Recipient)
	var access providers.Token
	if m := p.file.mode(v); m != nil && m.Type == "oauth2" {
		t.Step("token", func(ctx context.Context) providers.Outcome {
			var err error
			access, err = c.Token(ctx)
			return providers.TokenOutcome(err)
		})
	}
	for i := range p.file.Test {
		if p.file.Test[i].Level > t.Level() {
			break
		}
		for j := range p.file.Test[i].Steps {
			s := &p.file.Test[i].Steps[j]
			if !v.holds(s.When) {
				continue
			}
			var exposed bool
			t.Step(s.Name, func(ctx context.Context) providers.Outcome {
				var o providers.Outcome
				o, exposed = p.step(ctx, s, v, access)
				return o
			})
			if exposed {
				t.Note(s.Name, providers.Warned(providers.CodeUnencrypted, "The credentials travel without encryption."))
			}
		}
	}
	return t.Report("Connected"), nil
}

// step runs one step. exposed tells that credentials went unencrypted to an
// address that the admin entered; what the operator's endpoints do is theirs.
func (p *Provider) step(ctx context.Context, s *step, v values, access providers.Token) (o providers.Outcome, exposed bool) {
	switch {
	case s.Reach.set():
		o = p.reach(ctx, s, v)
	case s.Scopes != nil:
		o = granted(s.Scopes, access)
	default:
		req, sent, bad, ok := p.build(ctx, s, v, access)
		if !ok {
			return bad, false
		}
		exposed = sent && s.target.typed() && req.URL.Scheme == "http"
		r, bad, ok := providers.Call(p.rt.Client(), req)
		if !ok {
			if s.refused(bad.Code) {
				bad = providers.Good()
			}
			return bad, exposed
		}
		o = s.judge(newAnswer(r), v, sent)
	}
	if o.Status == providers.StepOK && o.Hint == "" {
		o.Hint = s.Remark
	}
	return o, exposed
}

// refused tells whether a request got no answer because it carried no credentials,
// and that is what the step wants to see: who has none is sent to a login page,
// hung up on or left hanging. Where the step expects an answer, none is a fault.
func (s *step) refused(code providers.TestCode) bool {
	if !s.Request.Anonymous || !s.Expect.Status.has(http.StatusUnauthorized) {
		return false
	}
	return code == providers.CodeRedirected || code == providers.CodeConnectionReset || code == providers.CodeTimeout
}

// judge says what an answer means: the first finding that applies, else what is
// expected, else what the status means at every vendor.
func (s *step) judge(a answer, v values, sent bool) providers.Outcome {
	for i := range s.Findings {
		f := &s.Findings[i]
		if !f.When.holds(a, v) || !f.Unless.empty() && f.Unless.holds(a, v) {
			continue
		}
		hint, missing := f.Hint.quoted(v)
		if missing != "" {
			hint = ""
		}
		return providers.Outcome{Status: f.Result, Code: f.Code, Hint: hint, Fix: f.Fix}
	}
	good := s.Expect.Status.has(a.Status)
	if s.Expect.Status.list == nil {
		good = a.Status >= 200 && a.Status <= 299
	}
	if good {
		m := match{JSON: s.Expect.JSON, Header: s.Expect.Header}
		if !m.holds(a, v) {
			return providers.Failed(providers.CodeUnexpectedBody, "")
		}
		return providers.Good()
	}
	switch a.Status {
	case http.StatusUnauthorized:
		if !sent {
			return providers.Failed(providers.CodeAuthRequired, "")
		}
		return providers.Failed(providers.CodeAuthFailed, "")
	case http.StatusForbidden:
		return providers.Failed(providers.CodePermissionDenied, "")
	case http.StatusNotFound:
		return providers.Failed(providers.CodeNotFound, "")
	}
	return providers.StatusOutcome(a.Response)
}

// granted looks for scopes among those of the token. An issuer may write them
// with the address of the API in front, as Microsoft's does for some.
func granted(want []string, access providers.Token) providers.Outcome {
	if access.Scopes == nil {
		return providers.Skipped("The issuer did not say which scopes were granted.")
	}
	for _, scope := range want {
		if !slices.ContainsFunc(access.Scopes, func(s string) bool {
			return strings.EqualFold(s, scope) || strings.HasSuffix(strings.ToLower(s), "/"+strings.ToLower(scope))
		}) {
			return providers.Failed(providers.CodeScopeMissing, "The consent does not include "+scope+". Connect again and allow it.")
		}
	}
	return providers.Good()
}

// ImportConfig takes what the file says out of a vendor's own file and lifts the
// rest, see providers.Schema.Flatten. Errors: fault.InvalidArgument.
func (p *Provider) ImportConfig(_ context.Context, raw map[string]any) (map[string]any, error) {
	rest, taken, err := p.file.Import.take(raw)
	if err != nil {
		return nil, err
	}
	out, err := p.schema.Flatten(rest)
	if err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(taken) {
		if _, twice := out[name]; twice {
			return nil, fault.New(fault.InvalidArgument, "the config can't be imported").WithViolations(fault.Violation{
				Pointer: "/params/" + name, Code: "conflict", Message: "is given twice, once in the vendor's own form"})
		}
		out[name] = taken[name]
	}
	return out, nil
}

// take moves values from their places in a vendor's file to the params' names.
// raw is not modified.
func (im *importing) take(raw map[string]any) (rest, taken map[string]any, err error) {
	rest, taken = copyMap(raw), map[string]any{}
	for _, path := range im.Ignore {
		remove(rest, path)
	}
	for _, name := range sortedKeys(im.From) {
		for _, path := range im.From[name] {
			value, ok := remove(rest, path)
			if !ok {
				continue
			}
			if _, twice := taken[name]; twice {
				return nil, nil, fault.New(fault.InvalidArgument, "the config can't be imported").WithViolations(fault.Violation{
					Pointer: "/params/" + name, Code: "conflict", Message: "is given in two places of the file"})
			}
			taken[name] = value
		}
	}
	return rest, taken, nil
}

// copyMap copies m and the maps below it.
func copyMap(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if nested, ok := v.(map[string]any); ok {
			v = copyMap(nested)
		}
		out[k] = v
	}
	return out
}

// remove takes the value at a path of names out of m, with maps that are empty
// then.
func remove(m map[string]any, path string) (any, bool) {
	name, rest, deep := strings.Cut(path, ".")
	value, ok := m[name]
	if !ok || !deep {
		delete(m, name)
		return value, ok
	}
	nested, isMap := value.(map[string]any)
	if !isMap {
		return nil, false
	}
	value, ok = remove(nested, rest)
	if ok && len(nested) == 0 {
		delete(m, name)
	}
	return value, ok
}

// minting is a declared kind whose configs may mint tokens.
type minting struct{ *Provider }

var _ providers.Authorizer = minting{}

// Bind returns the provider with a way to the network.
func (p minting) Bind(rt providers.Runtime) providers.Provider {
	q := *p.Provider
	q.rt = rt
	return minting{&q}
}

// OAuth describes the client. Errors: fault.InvalidArgument where the config
// lacks a part of an address.
func (p minting) OAuth(c providers.Config) (providers.OAuthApp, bool, error) {
	v := p.values(c, "")
	m := p.file.mode(v)
	if m == nil || m.Type != "oauth2" {
		return providers.OAuthApp{}, false, nil
	}
	id, lacks := m.ClientID.raw(v)
	if lacks != "" {
		return providers.OAuthApp{}, false, fault.New(fault.InvalidArgument, missing(lacks))
	}
	app := providers.OAuthApp{
		Flow: m.Flow, ClientID: id, ClientSecret: c.Secrets[m.ClientSecret], AuthStyle: m.AuthStyle,
		Scopes: slices.Clone(m.Scopes), AuthParams: rendered(m.AuthParams, v), TokenParams: rendered(m.TokenParams, v),
		// In doubt true: two refreshes at once would lose the grant.
		Rotates: m.Rotates == nil || *m.Rotates,
	}
	for _, u := range []struct {
		to *string
		tg *target
	}{{&app.AuthURL, m.authTarget}, {&app.TokenURL, m.tokenTarget}, {&app.RevokeURL, m.revokeTarget}} {
		if u.tg == nil {
			continue
		}
		address, problem := u.tg.address(p.rt, p.schema.Kind, v)
		if problem != "" {
			return providers.OAuthApp{}, false, fault.New(fault.InvalidArgument, problem)
		}
		*u.to = address.String()
	}
	return app, true, nil
}

// rendered leaves out what has no value.
func rendered(m map[string]template, v values) map[string]string {
	out := map[string]string{}
	for name, t := range m {
		if text, missing := t.raw(v); missing == "" {
			out[name] = text
		}
	}
	return out
}
