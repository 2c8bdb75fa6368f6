package providers

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// index is what a schema is compiled to, once.
type index struct {
	params, secrets map[string]*Param
	aliases         map[string]string // alias to canonical name
	fields          []Field           // layout order
	names           []string          // every canonical name but notices, then every alias
}

func (ix *index) has(name string) bool { return ix.params[name] != nil || ix.secrets[name] != nil }

// field returns the param or secret of a canonical name, nil when there is none.
func (ix *index) field(name string) *Param {
	if p := ix.params[name]; p != nil {
		return p
	}
	return ix.secrets[name]
}

// index panics on an invalid schema: the registry has refused it already, so
// that only a schema that bypassed the registry gets here.
func (s *Schema) index() *index {
	ix, err := s.compile()
	if err != nil {
		panic(err)
	}
	return ix
}

func (s *Schema) compile() (*index, error) {
	s.once.Do(func() { s.compiled, s.err = newIndex(s) })
	return s.compiled, s.err
}

// Validate checks the schema itself: names, types, defaults, conditions, rules,
// upgrades. All problems come at once. They are a programmer's, not a user's.
func (s *Schema) Validate() error {
	_, err := s.compile()
	return err
}

// checker collects the problems of a schema.
type checker struct{ errs []error }

func (c *checker) addf(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

func newIndex(s *Schema) (*index, error) {
	c := &checker{}
	ix := &index{params: map[string]*Param{}, secrets: map[string]*Param{}, aliases: map[string]string{}}
	c.head(s)
	groups := map[string]bool{"": true}
	for _, g := range s.Groups {
		groups[g.Name] = true
	}
	var aliases []string
	add := func(p *Param, secret bool) {
		if !nameGrammar.MatchString(p.Name) {
			c.addf("param %q: a name consists of a-z, 0-9 and _ and starts with a letter", p.Name)
		}
		if ix.has(p.Name) {
			c.addf("param %q is declared twice", p.Name)
		}
		if !groups[p.Group] {
			c.addf("param %q: group %q is not declared", p.Name, p.Group)
		}
		if secret {
			ix.secrets[p.Name] = p
		} else {
			ix.params[p.Name] = p
		}
		ix.fields = append(ix.fields, Field{Param: p, Secret: secret})
		if p.Type != Notice {
			ix.names = append(ix.names, p.Name)
		}
		c.param(p, secret)
	}
	for i := range s.Params {
		add(&s.Params[i], false)
	}
	for i := range s.Secrets {
		add(&s.Secrets[i], true)
	}
	for _, f := range ix.fields {
		for _, a := range f.Aliases {
			if _, taken := ix.aliases[a]; taken || ix.has(a) || a == "" {
				c.addf("param %q: alias %q is empty or taken", f.Name, a)
			}
			ix.aliases[a] = f.Name
			aliases = append(aliases, a)
		}
	}
	slices.SortStableFunc(ix.fields, func(a, b Field) int { return cmp.Compare(a.Order, b.Order) })
	ix.names = append(ix.names, aliases...)
	c.relations(s, ix)
	if len(c.errs) > 0 {
		return nil, fmt.Errorf("schema of kind %q: %w", s.Kind, errors.Join(c.errs...))
	}
	return ix, nil
}

func (c *checker) head(s *Schema) {
	for _, k := range append([]Kind{s.Kind}, s.Aliases...) {
		if _, err := ParseKind(string(k)); err != nil {
			c.addf("kind %q: %w", k, err)
		}
	}
	if _, err := ParseCategory(string(s.Category)); err != nil {
		c.addf("category %q: %w", s.Category, err)
	}
	if builtinLabel(s.Category) == "" && s.CategoryLabel == "" {
		c.addf("category %q is not a built-in one and has no label", s.Category)
	}
	if s.Label == "" {
		c.addf("label is missing")
	}
	switch s.Status {
	case "", Stable, Beta, Experimental, Deprecated:
	default:
		c.addf("unknown status %q", s.Status)
	}
	if s.Version < 1 {
		c.addf("version starts at 1")
	} else if len(s.Upgrades) != s.Version-1 {
		c.addf("version %d wants %d upgrades, not %d", s.Version, s.Version-1, len(s.Upgrades))
	}
	for i, u := range s.Upgrades {
		if u.From != i+1 {
			c.addf("upgrade %d starts from version %d", i, u.From)
		}
	}
	levels := map[int]bool{}
	for _, t := range s.Tests {
		if t.Level < 1 || t.Level > 3 || levels[t.Level] {
			c.addf("test level %d: levels are 1, 2 and 3, each once", t.Level)
		}
		levels[t.Level] = true
	}
	once(c, "group", s.Groups, func(g Group) string { return g.Name })
	once(c, "import format", s.Imports, func(f ImportFormat) string { return f.Name })
	once(c, "auth mode", s.AuthModes, func(m AuthMode) string { return m.Name })
	once(c, "scope", s.Scopes, func(s string) string { return s })
	always := 0
	for _, m := range s.AuthModes {
		if m.When == nil {
			always++
		}
	}
	if always > 0 && len(s.AuthModes) > 1 {
		c.addf("of several auth modes each needs a condition")
	}
	c.link("docs", s.Docs)
	c.egress(s.Egress)
}

// once finds names that are empty or given twice.
func once[T any](c *checker, what string, list []T, name func(T) string) {
	seen := map[string]bool{"": true}
	for _, item := range list {
		if seen[name(item)] {
			c.addf("%s %q: its name is empty or taken", what, name(item))
		}
		seen[name(item)] = true
	}
}

// link accepts nothing that a page must not link to.
func (c *checker) link(what, url string) {
	if url != "" && checkURL(strings.SplitN(url, "#", 2)[0], nil) != nil {
		c.addf("%s: %q is no http or https URL", what, url)
	}
}

// egress checks what an operator's network policy is made from.
func (c *checker) egress(e Egress) {
	switch e.TLS {
	case "", "always", "optional", "starttls":
	default:
		c.addf("egress: unknown tls %q", e.TLS)
	}
	for _, port := range e.Ports {
		if port < 1 || port > 65535 {
			c.addf("egress: port %d is none", port)
		}
	}
	for _, host := range e.Hosts {
		if checkHost(strings.TrimPrefix(host, "*.")) != nil {
			c.addf("egress: %q is no host, and no *. with a host", host)
		}
	}
}

func (c *checker) param(p *Param, secret bool) {
	bad := func(format string, args ...any) {
		c.addf("param %q: %w", p.Name, fmt.Errorf(format, args...))
	}
	if !slices.Contains(Types(), p.Type) {
		bad("unknown type %q", p.Type)
		return
	}
	switch p.Source {
	case "", SourceUser, SourceOAuth, SourceDerived, SourceOperator:
	default:
		bad("unknown source %q", p.Source)
	}
	if secret {
		if !p.Type.secretType() {
			bad("a secret is text; type %q is not", p.Type)
		}
		if p.Default != nil || p.Example != nil || len(p.Options) > 0 || len(p.BindsSecrets) > 0 {
			bad("a secret has no default, example, options or bound secrets")
		}
	}
	if enum := p.Type == Enum || p.Type == MultiEnum; enum != (len(p.Options) > 0) {
		bad("options belong to enum and multi_enum, which need them")
	}
	if p.Type == Notice && (p.Required || p.RequiredWhen != nil || p.Default != nil) {
		bad("a notice has no value")
	}
	if p.Required && (p.RequiredWhen != nil || p.Default != nil) {
		bad("required excludes required_when and default")
	}
	once(c, fmt.Sprintf("param %q: option", p.Name), p.Options, func(o Option) string { return o.Value })
	c.link(fmt.Sprintf("param %q: doc_url", p.Name), p.DocURL)
	v := p.Validate
	// What would never be looked at is a mistake: its author relies on it.
	switch {
	case v.Min != nil && v.Max != nil && *v.Min > *v.Max, v.MaxLength > 0 && v.MinLength > v.MaxLength:
		bad("the minimum is above the maximum")
	case v.MinLength < 0 || v.MaxLength < 0:
		bad("a length is below zero")
	case (v.MinLength > 0 || v.MaxLength > 0) && !p.Type.textual() && p.Type != List && p.Type != MultiEnum && p.Type != MapOf && !secret:
		bad("lengths need text, a list or a map")
	case (v.Pattern != "" || v.Format != "") && !p.Type.textual() && !secret:
		bad("pattern and format need text")
	case v.PatternMessage != "" && v.Pattern == "":
		bad("a pattern's message needs the pattern")
	case len(v.Schemes) > 0 && p.Type != URL:
		bad("schemes need the type url")
	}
	if (v.Min != nil || v.Max != nil) && (!p.Type.ordered() || p.Type == Duration) {
		bad("min and max need a number type")
	}
	if v.Pattern != "" {
		re, err := regexp.Compile(v.Pattern)
		if err != nil {
			bad("pattern: %w", err)
		}
		p.re = re
		if v.PatternMessage == "" {
			bad("a pattern needs a message for people")
		}
	}
	if v.Format != "" && formats[v.Format] == nil {
		bad("unknown format %q", v.Format)
	}
	if c.errs != nil {
		return // canonical relies on what was checked above
	}
	for what, value := range map[string]any{"default": p.Default, "example": p.Example} {
		if value == nil {
			continue
		}
		canonical, problem := p.canonical(value, false)
		if problem != nil {
			bad("%s: %s", what, problem.message)
		} else if what == "default" && !sameScalar(canonical, value) {
			// Conditions see the default as it is written, apps see the canonical one.
			bad("default: write it as %v", canonical)
		}
	}
}

// sameScalar tells whether a scalar is written in its canonical form; lists and
// maps, which no condition compares, pass.
func sameScalar(canonical, written any) bool {
	switch canonical.(type) {
	case string, bool, int64, float64:
		return scalarEqual(canonical, written)
	}
	return true
}

// relations checks what spans several params.
func (c *checker) relations(s *Schema, ix *index) {
	for _, f := range ix.fields {
		once(c, fmt.Sprintf("param %q: bound secret", f.Name), f.BindsSecrets, func(b string) string { return b })
		for _, b := range f.BindsSecrets {
			if ix.secrets[b] == nil {
				c.addf("param %q binds %q, which is no secret", f.Name, b)
			}
		}
		for _, cond := range []*Condition{f.VisibleWhen, f.RequiredWhen} {
			if err := cond.check(ix); err != nil {
				c.addf("param %q: %w", f.Name, err)
			}
		}
	}
	for _, m := range s.AuthModes {
		if err := m.When.check(ix); err != nil {
			c.addf("auth mode %q: %w", m.Name, err)
		}
	}
	for _, name := range s.Egress.FromParams {
		if p := ix.params[name]; p == nil || p.Type != Host && p.Type != URL {
			c.addf("egress names %q, which is no param of type host or url", name)
		}
	}
	for _, r := range s.Rules {
		if err := r.check(ix); err != nil {
			c.addf("%w", err)
		}
	}
	// A param whose visibility depends on itself has no answer.
	state := map[string]int{}
	var visit func(name string) bool
	visit = func(name string) bool {
		if state[name] == 1 {
			return false
		}
		p := ix.field(name)
		if p == nil || state[name] == 2 {
			return true
		}
		state[name] = 1
		ok := true
		p.VisibleWhen.fields(func(dep string) { ok = ok && visit(dep) })
		state[name] = 2
		return ok
	}
	for _, f := range ix.fields {
		if !visit(f.Name) {
			c.addf("param %q: visible_when goes in a circle", f.Name)
		}
	}
}
