package httpkind

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/patchbay-dev/patchbay/providers"
)

// template is text in which {{name}} stands for the value of a param or secret.
// It substitutes and can do nothing else; how a value is escaped is decided by
// where the template stands. In a URL {{+name}} is a path of several segments.
type template struct {
	path  string // in the file
	parts []part
}

// part is either literal text or a placeholder.
type part struct {
	text string
	name string // "" for literal text
	plus bool   // {{+name}}
}

// What stands for something of the request instead of a param. No param can have
// such a name.
const (
	nowName       = "patchbay.now"       // the time, RFC 3339
	idName        = "patchbay.id"        // an id of this request
	recipientName = "patchbay.recipient" // the admin's address for level 3, where one was given
)

func (t *template) set() bool { return len(t.parts) > 0 }

// names lists the placeholders.
func (t *template) names() []string {
	var names []string
	for _, p := range t.parts {
		if p.name != "" {
			names = append(names, p.name)
		}
	}
	return names
}

// literal returns the text of a template without placeholders.
func (t *template) literal() (string, bool) {
	if len(t.parts) == 0 {
		return "", true
	}
	return t.parts[0].text, len(t.parts) == 1 && t.parts[0].name == ""
}

func (t *template) fromNode(d *decoder, path string, n ast.Node) {
	text, isText := "", false
	if v, ok := scalar(n); ok {
		text, isText = v.(string)
	}
	if !isText {
		d.addAt(path, "expected text; put it in quotes")
		return
	}
	d.template(t, path, text)
}

// template parses text into t.
func (d *decoder) template(t *template, path, text string) {
	t.path = path
	for text != "" {
		before, rest, found := strings.Cut(text, "{{")
		if before != "" {
			t.parts = append(t.parts, part{text: before})
		}
		if !found {
			return
		}
		inside, after, closed := strings.Cut(rest, "}}")
		if !closed {
			d.addAt(path, "a placeholder {{ is not closed with }}")
			return
		}
		name, plus := strings.CutPrefix(strings.TrimSpace(inside), "+")
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_.") != "" {
			d.addAt(path, "a placeholder is {{name}} with the name of a param: there are no functions, filters or conditions")
			return
		}
		t.parts = append(t.parts, part{name: name, plus: plus})
		text = after
	}
}

// values are what placeholders stand for in one request.
type values struct {
	config providers.Config
	extra  map[string]string
}

// value returns a canonical value; false when the param is unset or is not
// visible under this config.
func (v values) value(name string) (any, bool) {
	if x, ok := v.extra[name]; ok {
		return x, true
	}
	if s := v.config.Secrets[name]; s.IsSet() {
		return s.Reveal(), true
	}
	x, ok := v.config.Params[name]
	return x, ok
}

// text is value as text: lists and maps as JSON.
func (v values) text(name string) (string, bool) {
	x, ok := v.value(name)
	if !ok {
		return "", false
	}
	switch x := x.(type) {
	case string:
		return x, true
	case bool:
		return strconv.FormatBool(x), true
	case int64:
		return strconv.FormatInt(x, 10), true
	case float64:
		return strconv.FormatFloat(x, 'g', -1, 64), true
	}
	b, err := json.Marshal(x)
	return string(b), err == nil
}

// holds evaluates a condition of the file, such as that of an auth mode.
func (v values) holds(c *providers.Condition) bool { return c.Holds(v.value) }

// raw substitutes without escaping. missing is the first name without a value.
func (t *template) raw(v values) (text, missing string) {
	return t.render(v, func(s string) string { return s })
}

// quoted substitutes for a sentence: what an admin typed may be long, or have
// lines.
func (t *template) quoted(v values) (text, missing string) { return t.render(v, providers.Quote) }

func (t *template) render(v values, escape func(string) string) (text, missing string) {
	var b strings.Builder
	for _, p := range t.parts {
		if p.name == "" {
			b.WriteString(p.text)
			continue
		}
		s, ok := v.text(p.name)
		if !ok {
			return "", p.name
		}
		b.WriteString(escape(s))
	}
	return b.String(), ""
}

// leaf is raw for the leaf of a JSON body: a lone placeholder keeps its type.
func (t *template) leaf(v values) (any, bool) {
	if len(t.parts) == 1 && t.parts[0].name != "" {
		return v.value(t.parts[0].name)
	}
	text, missing := t.raw(v)
	return text, missing == ""
}

// body compiles the strings of a plain value into templates.
func (d *decoder) body(path string, x any) any {
	switch x := x.(type) {
	case string:
		t := &template{}
		d.template(t, path, x)
		return t
	case []any:
		out := make([]any, len(x))
		for i, item := range x {
			out[i] = d.body(path+"["+strconv.Itoa(i)+"]", item)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, item := range x {
			out[k] = d.body(join(path, k), item)
		}
		return out
	}
	return x
}

// fill renders a compiled body. What has no value is left out, so that optional
// params are optional in a body too.
func fill(x any, v values) (any, bool) {
	switch x := x.(type) {
	case *template:
		return x.leaf(v)
	case []any:
		out := make([]any, 0, len(x))
		for _, item := range x {
			if y, ok := fill(item, v); ok {
				out = append(out, y)
			}
		}
		return out, true
	case map[string]any:
		out := make(map[string]any, len(x))
		for k, item := range x {
			if y, ok := fill(item, v); ok {
				out[k] = y
			}
		}
		return out, true
	}
	return x, true
}

// templates lists those of a compiled body.
func templates(x any) []*template {
	var out []*template
	switch x := x.(type) {
	case *template:
		out = append(out, x)
	case []any:
		for _, item := range x {
			out = append(out, templates(item)...)
		}
	case map[string]any:
		for _, k := range sortedKeys(x) {
			out = append(out, templates(x[k])...)
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
