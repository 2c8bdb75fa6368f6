package httpkind

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// compiler turns a decoded file into a kind, and says what is wrong with it.
type compiler struct {
	*decoder
	f       *file
	schema  *providers.Schema
	kinds   map[string]providers.Type // params
	secret  map[string]bool
	used    map[string]bool // what requests are made of
	typed   []*target       // whose host a tenant names
	literal []*url.URL      // those of the file itself
}

func (c *compiler) compile() {
	f := c.f
	c.kinds, c.secret, c.used = map[string]providers.Type{}, map[string]bool{}, map[string]bool{}
	for i := range f.Params {
		c.kinds[f.Params[i].Name] = f.Params[i].Type
		label(&f.Params[i])
	}
	for i := range f.Secrets {
		c.secret[f.Secrets[i].Name] = true
		label(&f.Secrets[i])
		// There is no other reason to have one.
		f.Secrets[i].AffectsConnection = true
	}
	if f.Version == 0 {
		f.Version = 1
	}
	c.schema = &providers.Schema{
		Kind: f.Kind, Aliases: f.Aliases, Category: f.Category, CategoryLabel: f.CategoryLabel, Label: f.Label, Icon: f.Icon,
		Description: f.Description, Docs: f.Docs, Status: f.Status, Egress: f.Egress, Imports: f.Import.Formats, Groups: f.Groups,
		Rules: f.Rules, Version: f.Version,
	}
	c.auth()
	c.test()
	c.backend()
	c.imports()
	c.upgrades()
	for i, p := range f.Params {
		f.Params[i].AffectsConnection = p.AffectsConnection || c.used[p.Name]
	}
	c.bindings()
	c.egress()
	c.schema.Params, c.schema.Secrets = f.Params, f.Secrets
	c.validate()
	if len(c.problems) == 0 {
		c.fixes()
	}
}

// label makes one out of the name: a form shows it.
func label(p *providers.Param) {
	if p.Label == "" && p.Name != "" {
		p.Label = strings.ToUpper(p.Name[:1]) + strings.ReplaceAll(p.Name[1:], "_", " ")
	}
}

// schemaProblem finds the param that a problem of the schema is about.
var schemaProblem = regexp.MustCompile(`^param "([^"]*)"`)

// validate adds what the schema says about itself, each at the line of its param.
func (c *compiler) validate() {
	err := c.schema.Validate()
	if err == nil {
		return
	}
	errs := []error{err}
	if many, ok := errors.Unwrap(err).(interface{ Unwrap() []error }); ok {
		errs = many.Unwrap()
	}
	for _, e := range errs {
		path := ""
		if m := schemaProblem.FindStringSubmatch(e.Error()); m != nil {
			path = c.place(m[1])
		} else if first, _, _ := strings.Cut(e.Error(), " "); c.at[first] != nil {
			path = first
		}
		c.addAt(path, "%s", e)
	}
}

// place is the path of a param or secret.
func (c *compiler) place(name string) string {
	for i, p := range c.f.Params {
		if p.Name == name {
			return fmt.Sprintf("params[%d]", i)
		}
	}
	for i, p := range c.f.Secrets {
		if p.Name == name {
			return fmt.Sprintf("secrets[%d]", i)
		}
	}
	return ""
}

// known reports names that are neither a param nor, where they may be, a secret.
func (c *compiler) known(path, name string, secrets bool) bool {
	switch {
	case c.kinds[name] != "" && c.kinds[name] != providers.Notice:
		return true
	case c.secret[name]:
		if !secrets {
			c.addAt(path, "%s is a secret, which must not stand here", name)
		}
		return secrets
	}
	candidates := sortedKeys(c.kinds)
	if secrets {
		candidates = append(candidates, sortedKeys(c.secret)...)
	}
	if s := providers.Suggest(name, candidates); s != "" {
		c.addAt(path, "%s is no param; did you mean %s?", name, s)
	} else {
		c.addAt(path, "%s is no param", name)
	}
	return false
}

// uses checks a template of a request.
func (c *compiler) uses(ts ...*template) {
	for _, t := range ts {
		for _, p := range t.parts {
			if p.name == "" || p.name == nowName || p.name == idName || p.name == recipientName {
				continue
			}
			if p.plus {
				c.addAt(t.path, "{{+%s}} is for the path of a URL", p.name)
			}
			if c.known(t.path, p.name, true) {
				c.used[p.name] = true
			}
		}
	}
}

// values of a map of templates, in order.
func (c *compiler) usesMap(m map[string]template) {
	for _, k := range sortedKeys(m) {
		t := m[k]
		c.uses(&t)
	}
}

// url compiles a URL and notes where it leads.
func (c *compiler) url(t *template, purpose string) *target {
	if !t.set() {
		return nil
	}
	for _, p := range t.parts {
		if p.name == nowName || p.name == idName || p.name == recipientName {
			c.addAt(t.path, "{{%s}} must not stand in a URL", p.name)
			return nil
		}
		if p.name != "" && !c.known(t.path, p.name, true) {
			return nil
		}
		c.used[p.name] = true
	}
	tg := c.target(*t, purpose, c.kinds)
	if tg == nil {
		return nil
	}
	e := &c.schema.Egress
	if tg.typed() {
		c.typed = append(c.typed, tg)
		for _, n := range []string{tg.base, tg.host} {
			if n != "" && !slices.Contains(e.FromParams, n) {
				e.FromParams = append(e.FromParams, n)
			}
		}
	} else if u, err := url.Parse(tg.origin); err == nil {
		c.literal = append(c.literal, u)
		if !slices.Contains(e.Hosts, u.Hostname()) {
			e.Hosts = append(e.Hosts, u.Hostname())
		}
	}
	return tg
}

// egress says the ports and the encryption of a kind whose hosts are all literal,
// where the file doesn't: an operator's firewall is set up by it. Where a param
// names a host, it may bring any port.
func (c *compiler) egress() {
	e := &c.schema.Egress
	if len(c.typed) > 0 || len(c.literal) == 0 {
		return
	}
	var ports []int
	encrypted := true
	for _, u := range c.literal {
		port := map[string]int{"https": 443, "http": 80}[u.Scheme]
		if n, err := strconv.Atoi(u.Port()); err == nil {
			port = n
		}
		if !slices.Contains(ports, port) {
			ports = append(ports, port)
		}
		encrypted = encrypted && u.Scheme == "https"
	}
	slices.Sort(ports)
	if len(e.Ports) == 0 {
		e.Ports = ports
	}
	if e.TLS == "" && encrypted {
		e.TLS = "always"
	}
}

// bindings holds DESIGN's rule about stored secrets: who can change where a
// secret goes must know the secret.
func (c *compiler) bindings() {
	consent := slices.ContainsFunc(c.f.Auth, func(a auth) bool { return a.Type == "oauth2" && a.Flow == providers.FlowConsent })
	for _, t := range c.typed {
		if consent {
			c.addAt(t.path, "a kind with a consent (authorization_code) has literal hosts only: its token is bound to no param")
		}
		for _, name := range t.params() {
			i := slices.IndexFunc(c.f.Params, func(p providers.Param) bool { return p.Name == name })
			for _, s := range sortedKeys(c.secret) {
				if i >= 0 && !slices.Contains(c.f.Params[i].BindsSecrets, s) {
					c.addAt(c.place(name), "%s says where %s is sent: its binds_secrets must list %s, else whoever changes it collects the stored one", name, s, s)
				}
			}
		}
	}
}

func (c *compiler) auth() {
	f := c.f
	if len(f.Auth) == 0 {
		f.Auth = []auth{{Type: "none"}}
	}
	for i := range f.Auth {
		a := &f.Auth[i]
		path := c.item("auth", i, len(f.Auth))
		mode := "static"
		switch a.Type {
		case "none":
			mode = "none"
		case "bearer":
			c.need(path, "token", a.Token.set())
		case "basic":
			c.need(path, "username", a.Username.set())
			c.need(path, "password", a.Password.set())
		case "header":
			c.need(path, "header", a.Header.set())
			c.need(path, "value", a.Value.set())
			c.header(a.Header)
		case "query":
			c.need(path, "query", a.Query.set())
			c.need(path, "value", a.Value.set())
		case "oauth2":
			mode = "oauth2"
			c.oauth(path, a)
		case "":
			c.addAt(path, "type is missing: none, bearer, basic, header, query or oauth2")
		default:
			c.addAt(join(path, "type"), "unknown type; expected none, bearer, basic, header, query or oauth2")
		}
		c.stray(path, a)
		c.uses(&a.Token, &a.Username, &a.Password, &a.Header, &a.Query, &a.Value)
		eachField(a.When, func(name string) { c.used[name] = true })
		if a.Mode == "" {
			a.Mode = mode
		}
		c.schema.AuthModes = append(c.schema.AuthModes, providers.AuthMode{
			Name: a.Mode, Label: a.Label, When: a.When, Grant: a.Type == "oauth2" && a.Flow == providers.FlowConsent,
		})
	}
}

// item is the path of an item of a list, which may be written without brackets.
func (c *compiler) item(path string, i, n int) string {
	at := fmt.Sprintf("%s[%d]", path, i)
	if _, ok := c.at[at]; !ok && n == 1 {
		return path
	}
	return at
}

func (c *compiler) need(path, key string, set bool) {
	if !set {
		c.addAt(path, "%s is missing", key)
	}
}

// stray reports keys that the mode's type doesn't look at: their author relies
// on them.
func (c *compiler) stray(path string, a *auth) {
	for key, use := range map[string]struct {
		set   bool
		types string
	}{
		"token":    {a.Token.set(), "bearer"},
		"username": {a.Username.set(), "basic"},
		"password": {a.Password.set(), "basic"},
		"header":   {a.Header.set(), "header"},
		"query":    {a.Query.set(), "query"},
		"value":    {a.Value.set(), "header query"},
		"flow":     {a.Flow != "", "oauth2"}, "client_id": {a.ClientID.set(), "oauth2"}, "client_secret": {a.ClientSecret != "", "oauth2"},
		"auth_url": {a.AuthURL.set(), "oauth2"}, "token_url": {a.TokenURL.set(), "oauth2"}, "revoke_url": {a.RevokeURL.set(), "oauth2"},
		"auth_style": {a.AuthStyle != "", "oauth2"}, "scopes": {a.Scopes != nil, "oauth2"}, "rotates": {a.Rotates != nil, "oauth2"},
		"auth_params": {a.AuthParams != nil, "oauth2"}, "token_params": {a.TokenParams != nil, "oauth2"},
	} {
		if use.set && a.Type != "" && !slices.Contains(strings.Fields(use.types), a.Type) {
			c.addAt(join(path, key), "has no meaning with the type %s", a.Type)
		}
	}
}

func (c *compiler) oauth(path string, a *auth) {
	switch a.Flow {
	case providers.FlowConsent:
		c.need(path, "auth_url", a.AuthURL.set())
	case providers.FlowClientCredentials:
		if a.AuthURL.set() || a.AuthParams != nil {
			c.addAt(path, "auth_url and auth_params belong to authorization_code")
		}
	default:
		c.addAt(path, "flow is authorization_code or client_credentials")
	}
	c.need(path, "token_url", a.TokenURL.set())
	c.need(path, "client_id", a.ClientID.set())
	switch a.AuthStyle {
	case "", "params", "header":
	default:
		c.addAt(join(path, "auth_style"), "expected params or header")
	}
	if a.ClientSecret == "" {
		c.addAt(path, "client_secret is missing: the name of the secret")
	} else if !c.secret[a.ClientSecret] {
		c.addAt(join(path, "client_secret"), "is the name of a secret, and there is none of that name")
	}
	a.authTarget, a.tokenTarget, a.revokeTarget = c.url(&a.AuthURL, "auth"), c.url(&a.TokenURL, "token"), c.url(&a.RevokeURL, "revoke")
	c.uses(&a.ClientID)
	for _, m := range []map[string]template{a.AuthParams, a.TokenParams} {
		for _, k := range sortedKeys(m) {
			t := m[k]
			for _, name := range t.names() {
				c.used[name] = c.known(t.path, name, false)
			}
		}
	}
	for _, s := range a.Scopes {
		if !slices.Contains(c.schema.Scopes, s) {
			c.schema.Scopes = append(c.schema.Scopes, s)
		}
	}
}

// header checks the name of a header, as far as it is literal.
func (c *compiler) header(t template) {
	if name, ok := t.literal(); ok && t.set() {
		if problem := headerProblem(name); problem != "" && !strings.EqualFold(name, "Authorization") {
			c.addAt(t.path, "%s", problem)
		}
	}
}

// methods a test may use. DELETE is none of them: a test leaves things as they are.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPost, http.MethodPut, http.MethodPatch}

func (c *compiler) test() {
	for i := range c.f.Test {
		l := &c.f.Test[i]
		path := c.item("test", i, len(c.f.Test))
		c.need(path, "label", l.Label != "")
		if len(l.Steps) == 0 {
			c.addAt(path, "steps is missing")
		}
		names := map[string]bool{}
		for j := range l.Steps {
			s := &l.Steps[j]
			at := c.item(join(path, "steps"), j, len(l.Steps))
			c.need(at, "name", s.Name != "")
			if names[s.Name] && s.When == nil {
				c.addAt(at, "two steps are called %s: each may have a condition, or a name of its own", s.Name)
			}
			names[s.Name] = true
			c.step(at, s)
		}
		c.schema.Tests = append(c.schema.Tests, providers.TestLevel{Level: l.Level, Label: l.Label, SideEffects: l.SideEffects})
	}
	slices.SortStableFunc(c.f.Test, func(a, b level) int { return a.Level - b.Level })
	slices.SortStableFunc(c.schema.Tests, func(a, b providers.TestLevel) int { return a.Level - b.Level })
}

func (c *compiler) step(path string, s *step) {
	forms := 0
	for _, given := range []bool{s.Reach.set(), s.Scopes != nil, s.Request != nil} {
		if given {
			forms++
		}
	}
	if forms != 1 {
		c.addAt(path, "a step has exactly one of reach, scopes and request")
	}
	if s.Request == nil && (s.Findings != nil || s.Expect.Status.list != nil || s.Expect.JSON != nil || s.Expect.Header != nil) {
		c.addAt(path, "findings and expect are about the answer to a request")
	}
	eachField(s.When, func(name string) { c.known(join(path, "when"), name, true) })
	if s.Reach.set() {
		s.target = c.url(&s.Reach, "api")
	}
	if s.Request != nil {
		c.request(join(path, "request"), s)
	}
	for i := range s.Findings {
		c.finding(c.item(join(path, "findings"), i, len(s.Findings)), &s.Findings[i])
	}
	m := match{JSON: s.Expect.JSON, Header: s.Expect.Header}
	c.match(join(path, "expect"), &m)
}

func (c *compiler) request(path string, s *step) {
	r := s.Request
	if !r.Method.set() {
		r.Method.parts = []part{{text: http.MethodGet}}
	}
	verbs := c.methods(&r.Method)
	for _, verb := range verbs {
		if !slices.Contains(methods, verb) {
			c.addAt(join(path, "method"), "expected one of %s, or one param of type enum with no other options", strings.Join(methods, ", "))
			break
		}
	}
	purpose := r.Endpoint
	if purpose == "" {
		purpose = "api"
	}
	c.need(path, "url", r.URL.set())
	s.target = c.url(&r.URL, purpose)
	for _, name := range sortedKeys(r.Headers) {
		if problem := headerProblem(name); problem != "" {
			c.addAt(join(path, "headers."+name), "%s", problem)
		}
	}
	if r.HeadersFrom != "" && c.known(join(path, "headers_from"), r.HeadersFrom, false) {
		c.used[r.HeadersFrom] = true
		if c.kinds[r.HeadersFrom] != providers.MapOf {
			c.addAt(join(path, "headers_from"), "%s is not of type map", r.HeadersFrom)
		}
	}
	c.usesMap(r.Headers)
	c.usesMap(r.Query)
	c.usesMap(r.Form)
	if r.JSON != nil {
		r.body = c.decoder.body(join(path, "json"), r.JSON)
		c.uses(templates(r.body)...)
	}
	if r.JSON != nil && r.Form != nil {
		c.addAt(path, "a body is either json or form")
	}
	if r.JSON != nil || r.Form != nil {
		for _, verb := range []string{http.MethodGet, http.MethodHead} {
			if slices.Contains(verbs, verb) {
				c.addAt(path, "a %s request has no body", verb)
			}
		}
	}
	for i := range r.Sign {
		c.sign(c.item(join(path, "sign"), i, len(r.Sign)), &r.Sign[i])
	}
}

// methods lists those that a request may have.
func (c *compiler) methods(t *template) []string {
	if verb, ok := t.literal(); ok {
		return []string{verb}
	}
	if len(t.parts) == 1 && c.known(t.path, t.parts[0].name, false) {
		for _, p := range c.f.Params {
			if p.Name == t.parts[0].name && p.Type == providers.Enum {
				c.used[p.Name] = true
				var verbs []string
				for _, o := range p.Options {
					verbs = append(verbs, o.Value)
				}
				return verbs
			}
		}
	}
	return []string{""}
}

func (c *compiler) sign(path string, s *sign) {
	eachField(s.When, func(name string) { c.used[name] = c.known(join(path, "when"), name, false) })
	switch s.Scheme {
	case standardWebhooks:
		if s.Header != "" || s.Prefix != "" || s.Base64 {
			c.addAt(path, "header, prefix and base64 belong to hmac_sha256")
		}
	case hmacSHA256:
		if problem := headerProblem(s.Header); problem != "" {
			c.addAt(path, "header: %s", problem)
		}
	default:
		c.addAt(path, "scheme is standard_webhooks or hmac_sha256")
	}
	if !c.secret[s.Secret] {
		c.addAt(path, "secret is the name of a secret")
	}
}

func (c *compiler) finding(path string, f *finding) {
	f.path = path
	if f.When.empty() && f.Unless.empty() {
		c.addAt(path, "a finding has a condition: when, unless or both")
	}
	c.match(join(path, "when"), &f.When)
	c.match(join(path, "unless"), &f.Unless)
	switch f.Result {
	case "":
		f.Result = providers.StepFail
	case providers.StepFail, providers.StepWarn, providers.StepOK:
	default:
		c.addAt(join(path, "result"), "expected fail, warn or ok")
	}
	codes := []string{}
	for _, info := range providers.TestCodes() {
		codes = append(codes, string(info.Code))
	}
	switch known := slices.Contains(codes, string(f.Code)); {
	case f.Code == "" && f.Result != providers.StepOK:
		c.addAt(path, "code is missing")
	case f.Code != "" && !known:
		message := "is no code of connection tests"
		if s := providers.Suggest(string(f.Code), codes); s != "" {
			message += "; did you mean " + s + "?"
		}
		c.addAt(join(path, "code"), "%s", message)
	}
	for _, p := range f.Hint.parts {
		if p.name != "" && p.name != recipientName {
			c.known(f.Hint.path, p.name, false)
		}
	}
	if f.Fix == nil {
		return
	}
	c.need(join(path, "fix"), "label", f.Fix.Label != "")
	if len(f.Fix.Params) == 0 {
		c.addAt(join(path, "fix"), "params is missing")
	}
	for _, name := range sortedKeys(f.Fix.Params) {
		c.known(join(path, "fix.params."+name), name, false)
	}
}

// fixes puts the values of fixes into canonical form, once the schema is valid.
func (c *compiler) fixes() {
	for i := range c.f.Test {
		for j := range c.f.Test[i].Steps {
			s := &c.f.Test[i].Steps[j]
			for k := range s.Findings {
				fix := s.Findings[k].Fix
				if fix == nil {
					continue
				}
				given, err := c.schema.Given(providers.Input{Params: fix.Params})
				if err != nil {
					c.addAt(join(s.Findings[k].path, "fix"), "%s", fixProblem(err))
					continue
				}
				for name := range fix.Params {
					if _, ok := given.Params[name]; !ok {
						given.Params[name] = nil // null clears
					}
				}
				fix.Params = given.Params
			}
		}
	}
}

// fixProblem is what a schema says of a fix's params.
func fixProblem(err error) string {
	for _, v := range fault.Violations(err) {
		return strings.TrimPrefix(v.Pointer, "/params/") + " " + v.Message
	}
	return err.Error()
}

// match checks a condition on an answer: what can never hold, or always does, is
// a mistake.
func (c *compiler) match(path string, m *match) {
	for i := range m.JSON {
		t := &m.JSON[i]
		at := c.item(join(path, "json"), i, len(m.JSON))
		forms := 0
		for _, given := range []bool{t.Eq != nil, t.In != nil, t.Set != nil, t.Type != "", t.Contains != nil} {
			if given {
				forms++
			}
		}
		if forms != 1 {
			c.addAt(at, "has exactly one of eq, in, set, type and contains")
		}
		if t.Type != "" && !slices.Contains([]string{"string", "number", "bool", "object", "array"}, t.Type) {
			c.addAt(join(at, "type"), "expected string, number, bool, object or array")
		}
		var ok bool
		if t.segments, ok = segments(t.Path); !ok {
			c.addAt(join(at, "path"), "expected a path such as error.code or items[0].id")
		}
		if text, isText := t.Eq.(string); isText {
			t.eq = &template{}
			c.template(t.eq, join(at, "eq"), text)
			for _, name := range t.eq.names() {
				c.known(t.eq.path, name, false)
			}
		}
	}
	for i := range m.Header {
		t := &m.Header[i]
		at := c.item(join(path, "header"), i, len(m.Header))
		t.Name = textproto.CanonicalMIMEHeaderKey(t.Name)
		forms := 0
		for _, given := range []bool{t.Eq != "", t.Set != nil, t.Contains != ""} {
			if given {
				forms++
			}
		}
		if t.Name == "" || forms != 1 {
			c.addAt(at, "has a name and exactly one of eq, set and contains")
		}
	}
}

func (c *compiler) backend() {
	b := &c.f.Backend
	b.targets = map[string]*target{}
	for _, name := range sortedKeys(b.Derived) {
		t := b.Derived[name]
		path := "backend.derived." + name
		if _, err := providers.ParseKind(name); err != nil {
			c.addAt(path, "a name consists of a-z, 0-9 and _ and starts with a letter")
		}
		if c.kinds[name] != "" || c.secret[name] || name == "access_token" {
			c.addAt(path, "is declared already")
		}
		for _, p := range t.parts {
			if p.name != "" {
				c.known(t.path, p.name, false)
			}
		}
		// A URL of the vendor's follows the operator's endpoint, as requests do, and
		// one of the tenant's is joined as they join it.
		if t.set() && (c.kinds[t.parts[0].name] == providers.URL ||
			strings.HasPrefix(t.parts[0].text, "https://") || strings.HasPrefix(t.parts[0].text, "http://")) {
			b.targets[name] = c.target(t, "api", c.kinds)
		}
	}
	for i, name := range b.Withhold {
		c.known(c.item("backend.withhold", i, len(b.Withhold)), name, true)
	}
}

func (c *compiler) imports() {
	for _, name := range sortedKeys(c.f.Import.From) {
		c.known("import.from."+name, name, true)
		for i, p := range c.f.Import.From[name] {
			c.names(c.item("import.from."+name, i, len(c.f.Import.From[name])), p)
		}
	}
	for i, p := range c.f.Import.Ignore {
		c.names(c.item("import.ignore", i, len(c.f.Import.Ignore)), p)
	}
}

// names checks a path of an import, which has names only.
func (c *compiler) names(path, p string) {
	if s, ok := segments(p); !ok || len(s) == 0 || strings.Contains(p, "[") {
		c.addAt(path, "expected a path such as credentials.api.key")
	}
}

func (c *compiler) upgrades() {
	for i, u := range c.f.Upgrades {
		path := c.item("upgrades", i, len(c.f.Upgrades))
		secrets, params := map[string]string{}, map[string]string{}
		for _, old := range sortedKeys(u.Rename) {
			now := u.Rename[old]
			if c.secret[c.present(now, c.f.Upgrades[i+1:])] {
				secrets[old] = now
			} else {
				params[old] = now
			}
			if c.kinds[old] != "" || c.secret[old] {
				c.addAt(path, "%s is still declared: nothing is renamed", old)
			}
		}
		remove := u.Remove
		c.schema.Upgrades = append(c.schema.Upgrades, providers.Upgrade{From: u.From, Secrets: secrets, Params: func(m map[string]any) error {
			moved := map[string]any{}
			for old, now := range params {
				if v, ok := m[old]; ok {
					delete(m, old)
					moved[now] = v
				}
			}
			maps.Copy(m, moved)
			for _, name := range remove {
				delete(m, name)
			}
			return nil
		}})
	}
}

// present follows a name through later upgrades to the one that it has now.
func (c *compiler) present(name string, later []upgrade) string {
	for _, u := range later {
		if now, ok := u.Rename[name]; ok {
			name = now
		}
	}
	return name
}

// eachField calls f for every name in a condition.
func eachField(cond *providers.Condition, f func(name string)) {
	if cond == nil {
		return
	}
	for _, list := range [][]providers.Condition{cond.All, cond.Any} {
		for i := range list {
			eachField(&list[i], f)
		}
	}
	eachField(cond.Not, f)
	if cond.Field != "" {
		f(cond.Field)
	}
}
