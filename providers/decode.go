package providers

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// Input is what a caller submits, names not yet checked. A nil param value and
// an unset secret count as not given.
type Input struct {
	Params  map[string]any
	Secrets secret.Map
}

// DecodeOptions says how an Input is to be read.
type DecodeOptions struct {
	// Text allows text where the schema wants another type (param rows, $ENV:).
	// For single values see [TextValue].
	Text bool
	// Configured names secrets that are stored already: required ones among
	// them need not be submitted.
	Configured []string
	// Version is the schema version that the Input was written under; 0 is the
	// present one. An older Input is upgraded first.
	Version int
	// Partial accepts a config that lacks something: a draft. What is there is
	// checked as ever.
	Partial bool
}

// codeRequired is the code of whatever is missing, and of nothing else.
const codeRequired = "required"

// maxViolations bounds an answer whose request was made of garbage.
const maxViolations = 100

// Split sorts a flat map that mixes params and secrets (a data file's config)
// into an Input by the schema, aliases resolved. Unknown names stay in Params,
// so that Decode reports them; so does a secret that is not text, and the alias
// of a name that is given as well. mixed is not modified.
// Errors: fault.Internal when the schema itself is invalid.
func (s *Schema) Split(mixed map[string]any) (Input, error) {
	ix, err := s.compile()
	if err != nil {
		return Input{}, fault.New(fault.Internal, "the kind's schema is invalid").WithCause(err)
	}
	in := Input{Params: make(map[string]any, len(mixed)), Secrets: secret.Map{}}
	taken := make(map[string]bool, len(mixed))
	// Canonical names first, then aliases in order: which of two names wins must
	// not depend on map order.
	names := slices.SortedFunc(maps.Keys(mixed), func(a, b string) int {
		return cmp.Or(compareBool(ix.has(b), ix.has(a)), cmp.Compare(a, b))
	})
	for _, given := range names {
		value, name := mixed[given], s.Canonical(given)
		if taken[name] {
			name = given
		}
		taken[name] = true
		if ix.secrets[name] == nil {
			in.Params[name] = value
			continue
		}
		switch v := value.(type) {
		case nil:
		case string:
			in.Secrets[name] = secret.New(v)
		case TextValue:
			in.Secrets[name] = secret.New(string(v))
		case secret.Value:
			in.Secrets[name] = v
		default:
			in.Params[name] = value
		}
	}
	return in, nil
}

// Decode checks in against the schema, strictly, and returns the canonical
// config, defaults filled in: string, bool, int64, float64, []any,
// map[string]any. The result shares nothing with in. Null and empty text count
// as not given. What is not visible under the config's own values is checked,
// then left out, so that a stored secret of another auth mode is never part of
// an answer.
//
// Errors: fault.InvalidArgument with all problems at once, pointers
// "/params/<name>" and "/secrets/<name>" in order; the names are the submitted
// ones. An unknown name gets a did-you-mean. No message repeats a value. Also
// the errors of [Schema.Upgrade]. It panics when the schema is invalid.
func (s *Schema) Decode(in Input, o DecodeOptions) (Config, error) {
	in, err := s.Upgrade(o.Version, in)
	if err != nil {
		return Config{}, err
	}
	d := &decoder{
		schema: s, ix: s.index(), text: o.Text, partial: o.Partial,
		params: map[string]any{}, secrets: secret.Map{},
		given: map[string]bool{}, visible: map[string]bool{},
	}
	d.readParams(in)
	d.readSecrets(in.Secrets)
	for _, name := range o.Configured {
		if name = s.Canonical(name); d.ix.secrets[name] != nil {
			d.given[name] = true
		}
	}
	c := d.complete()
	if len(d.violations) > 0 {
		return Config{}, d.fault()
	}
	return c, nil
}

// Given returns what in gives, each value by itself: canonical values under
// canonical names, no defaults, and also what the rest of a config makes
// invisible. Null, empty text and unset secrets are left out. It is for those who
// store what somebody gave; whether it makes a config is Decode's to say.
// Errors as Decode, without what is missing or does not go together.
func (s *Schema) Given(in Input) (Input, error) {
	d := &decoder{
		schema: s, ix: s.index(), params: map[string]any{}, secrets: secret.Map{},
		given: map[string]bool{}, visible: map[string]bool{},
	}
	d.readParams(in)
	d.readSecrets(in.Secrets)
	if len(d.violations) > 0 {
		return Input{}, d.fault()
	}
	return Input{Params: d.params, Secrets: d.secrets}, nil
}

// decoder is the state of one Decode.
type decoder struct {
	schema     *Schema
	ix         *index
	text       bool
	partial    bool
	params     map[string]any  // by canonical name
	secrets    secret.Map      // by canonical name
	given      map[string]bool // canonical names that were given, even badly
	visible    map[string]bool // memo of isVisible
	violations []fault.Violation
}

func (d *decoder) add(section, name string, p *problem) {
	if d.partial && p.code == codeRequired {
		return
	}
	d.violations = append(d.violations, fault.Violation{Pointer: pointer(section, name), Code: p.code, Message: p.message})
}

// pointer spells an RFC 6901 pointer. A name that no schema could have (too
// long, unprintable) is not repeated: people paste values where names belong.
func pointer(section, name string) string {
	if len(name) > 64 || checkText(name, false) != nil {
		return "/" + section
	}
	return "/" + section + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

func (d *decoder) readParams(in Input) {
	params := in.Params
	for _, given := range slices.Sorted(maps.Keys(params)) {
		name, value := d.schema.Canonical(given), params[given]
		p := d.ix.params[name]
		switch {
		case d.ix.secrets[name] != nil:
			d.given[name] = true
			switch {
			case given != name && in.Secrets[name].IsSet():
				d.add("params", given, wrong("conflict", "is another name of "+name+", which is given too"))
			case isText(value):
				d.add("params", given, wrong("secret_as_param", "is a secret: give it under secrets"))
			default:
				d.add("params", given, wrong("type", "is a secret and must be text, given under secrets"))
			}
			continue
		case p == nil || p.Type == Notice:
			d.add("params", given, d.unknown(given))
			continue
		case given != name && present(params, name):
			d.add("params", given, wrong("conflict", "is another name of "+name+", which is given too"))
			continue
		case d.given[name]:
			d.add("params", given, wrong("conflict", "is another name of "+name+", which is given twice"))
			continue
		}
		c, problem := p.canonical(value, d.text)
		if problem != nil {
			d.given[name] = true
			d.add("params", given, problem)
		} else if c != nil {
			d.given[name] = true
			d.params[name] = c
		}
	}
}

func present(params map[string]any, name string) bool {
	v, ok := params[name]
	return ok && v != nil
}

func (d *decoder) readSecrets(secrets secret.Map) {
	for _, given := range secrets.Names() {
		name, value := d.schema.Canonical(given), secrets[given]
		p := d.ix.secrets[name]
		switch {
		case p == nil && d.ix.params[name] != nil && d.ix.params[name].Type != Notice:
			d.given[name] = true
			d.add("secrets", given, wrong("secret_not_wanted", "is no secret: give it under params"))
		case p == nil:
			d.add("secrets", given, d.unknown(given))
		case !value.IsSet():
		case given != name && secrets[name].IsSet():
			d.add("secrets", given, wrong("conflict", "is another name of "+name+", which is given too"))
		case d.secrets[name].IsSet():
			d.add("secrets", given, wrong("conflict", "is another name of "+name+", which is given twice"))
		default:
			d.given[name] = true
			if problem := p.checkSecret(value); problem != nil {
				d.add("secrets", given, problem)
			} else {
				d.secrets[name] = value
			}
		}
	}
}

func (d *decoder) unknown(name string) *problem {
	if best := suggest(name, d.ix.names); best != "" {
		return wrongf("unknown", "is unknown; did you mean %q?", best)
	}
	return wrong("unknown", "is unknown")
}

// value is what conditions and rules see: given values and defaults of what is
// visible.
func (d *decoder) value(name string) (any, bool) {
	if !d.isVisible(name) {
		return nil, false
	}
	if v, ok := d.params[name]; ok {
		return v, true
	}
	if d.given[name] {
		return nil, true // a secret, or a value that has a problem already
	}
	if p := d.ix.params[name]; p != nil && p.Default != nil {
		return p.Default, true
	}
	return nil, false
}

// isVisible ends because Validate refuses circles.
func (d *decoder) isVisible(name string) bool {
	if v, known := d.visible[name]; known {
		return v
	}
	v := d.ix.field(name).VisibleWhen.Holds(d.value)
	d.visible[name] = v
	return v
}

// complete checks what is missing and how the fields go together, and fills in
// defaults.
func (d *decoder) complete() Config {
	c := Config{Kind: d.schema.Kind, Params: make(map[string]any, len(d.params)), Secrets: make(secret.Map, len(d.secrets))}
	for _, f := range d.ix.fields {
		section := "params"
		if f.Secret {
			section = "secrets"
		}
		if !d.isVisible(f.Name) {
			continue
		}
		if (f.Required || f.RequiredWhen != nil && f.RequiredWhen.Holds(d.value)) && !d.given[f.Name] && f.Default == nil {
			d.add(section, f.Name, wrong(codeRequired, "is required"))
		}
		if f.Secret {
			if v := d.secrets[f.Name]; v.IsSet() {
				c.Secrets[f.Name] = v
			}
			continue
		}
		if v, ok := d.params[f.Name]; ok {
			c.Params[f.Name] = v
		} else if f.Default != nil && !d.given[f.Name] {
			c.Params[f.Name], _ = f.canonical(f.Default, false)
		}
	}
	for _, r := range d.schema.Rules {
		given := func(name string) bool { _, ok := d.value(name); return ok }
		if field, code, message := r.broken(given); field != "" {
			section := "params"
			if d.ix.secrets[field] != nil {
				section = "secrets"
			}
			d.add(section, field, wrong(code, message))
		}
	}
	return c
}

func (d *decoder) fault() error {
	slices.SortFunc(d.violations, func(a, b fault.Violation) int {
		return cmp.Or(cmp.Compare(a.Pointer, b.Pointer), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message))
	})
	v := slices.Compact(d.violations)
	message := fmt.Sprintf("the config of kind %s has %d problems", d.schema.Kind, len(v))
	if len(v) == 1 {
		message = fmt.Sprintf("the config of kind %s has a problem", d.schema.Kind)
	}
	if len(v) > maxViolations {
		v = append(v[:maxViolations:maxViolations], fault.Violation{
			Pointer: "", Code: "too_many", Message: "there are more problems than are listed"})
	}
	return fault.New(fault.InvalidArgument, message).WithViolations(v...)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}

func isText(v any) bool {
	switch v.(type) {
	case nil, string, TextValue, secret.Value:
		return true
	default:
		return false
	}
}
