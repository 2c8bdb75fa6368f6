package providers

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
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
	for _, t := range s.Tests {
		if t.Level < 1 || t.Level > 3 {
			c.addf("test level %d: levels are 1, 2 and 3", t.Level)
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
	v := p.Validate
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
		if _, problem := p.canonical(value, false); problem != nil {
			bad("%s: %s", what, problem.message)
		}
	}
}

// relations checks what spans several params.
func (c *checker) relations(s *Schema, ix *index) {
	for _, f := range ix.fields {
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
