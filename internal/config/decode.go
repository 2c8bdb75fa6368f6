package config

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decoder fills the config from YAML nodes. The library's own strict mode stops
// at the first problem, hence this one.
type decoder struct {
	l    *loader
	file string // for positions; "" when at is set
	at   string // the variable that the text came from
}

func (d *decoder) place(n ast.Node) string {
	if d.at != "" {
		return d.at
	}
	if n == nil {
		return d.file
	}
	return d.position(n.GetToken())
}

func (d *decoder) position(t *token.Token) string {
	if d.at != "" || t == nil || t.Position == nil {
		return d.at + d.file
	}
	return fmt.Sprintf("%s:%d:%d", d.file, t.Position.Line, t.Position.Column)
}

// parse returns the body of the only document; nil with true is an empty one.
func (d *decoder) parse(path string, data []byte) (body ast.Node, ok bool) {
	defer func() {
		// The library has panicked on malformed input before; that is a fault
		// of the file, not of the process.
		if recover() != nil {
			d.l.problem(path, d.place(nil), "the YAML can't be read")
			body, ok = nil, false
		}
	}()
	// Duplicates are found below, all of them; the parser would stop at the first.
	f, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		at := d.place(nil)
		if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			at = d.position(syntax.Token)
		}
		d.l.problem(path, at, "the YAML is not well-formed")
		return nil, false
	}
	switch {
	case len(f.Docs) == 0:
		return nil, true
	case len(f.Docs) > 1:
		d.l.problem(path, d.place(nil), "expected a single YAML document")
		return nil, false
	}
	return f.Docs[0].Body, true
}

func (d *decoder) document(data []byte) bool {
	body, ok := d.parse("", data)
	if ok && body != nil {
		d.value("", body, reflect.ValueOf(d.l.c).Elem())
	}
	return ok
}

func (d *decoder) json(k leaf, data []byte) {
	if body, ok := d.parse(k.path, data); ok && body != nil {
		d.value(k.path, body, k.value)
	}
}

// value decodes n into v and reports every problem below it.
func (d *decoder) value(path string, n ast.Node, v reflect.Value) {
	t := v.Type()
	switch x := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.l.problem(path, d.place(x), "anchors, aliases and tags are not supported")
		return
	case *ast.NullNode:
		// "local:" with nothing below it, as left by commenting keys out.
		if isScalar(t) {
			d.l.problem(path, d.place(n), expected(t))
		}
		return
	}
	switch {
	case t == loopbackType && n.Type() == ast.SequenceType:
		var ports []int
		d.list(path, n, reflect.ValueOf(&ports).Elem())
		v.Set(reflect.ValueOf(Loopback{Ports: ports}))
	case isScalar(t):
		d.scalar(path, n, v)
	case t.Kind() == reflect.Slice:
		d.list(path, n, v)
	case t.Kind() == reflect.Map:
		d.dictionary(path, n, v)
	default:
		d.section(path, n, v)
	}
}

func (d *decoder) scalar(path string, n ast.Node, v reflect.Value) {
	t := v.Type()
	text, ok := "", false
	switch x := n.(type) {
	case *ast.StringNode:
		text, ok = x.Value, t == secretType || t == durationType || t == sizeType || t.Kind() == reflect.String
	case *ast.LiteralNode:
		text, ok = x.Value.Value, t == secretType || t.Kind() == reflect.String && t != durationType
	case *ast.IntegerNode:
		text, ok = fmt.Sprint(x.Value), t == sizeType || t.Kind() == reflect.Int
	case *ast.BoolNode:
		text, ok = fmt.Sprint(x.Value), t.Kind() == reflect.Bool || t == loopbackType
	case *ast.MappingNode:
		if text = rejoined(x); text != "" {
			ok = t.Kind() == reflect.String || t == secretType
		}
	}
	message := expected(t)
	if ok {
		message = setText(v, text)
	} else if t.Kind() == reflect.String {
		switch n.(type) {
		case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
			message = "expected text; put it in quotes"
		}
	}
	if message != "" {
		d.l.problem(path, d.place(n), message)
	}
}

// rejoined is the text of a plain scalar with a colon inside, such as host:587,
// that stands in a list within braces: the library takes that for a map, though
// a colon without a space after it is text (YAML 1.2, 7.3.3). "" is a real map.
func rejoined(m *ast.MappingNode) string {
	if len(m.Values) != 1 || m.GetToken().Value == "{" {
		return ""
	}
	colon, key, value := m.Values[0].GetToken(), m.Values[0].Key.GetToken(), m.Values[0].Value.GetToken()
	plain := func(t *token.Token) bool {
		return t != nil && t.Type != token.SingleQuoteType && t.Type != token.DoubleQuoteType && t.Position != nil
	}
	if !plain(key) || !plain(value) || colon.Position.Line != value.Position.Line ||
		colon.Position.Column != key.Position.Column+len(key.Value) || value.Position.Column != colon.Position.Column+1 {
		return ""
	}
	return key.Value + ":" + value.Value
}

func (d *decoder) list(path string, n ast.Node, v reflect.Value) {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		d.l.problem(path, d.place(n), expected(v.Type()))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(s.Values), len(s.Values))
	for i, item := range s.Values {
		p := fmt.Sprintf("%s[%d]", path, i)
		d.l.at[p] = d.place(item)
		d.value(p, item, out.Index(i))
	}
	v.Set(out)
}

// entry is one key of a mapping.
type entry struct {
	key  string
	path string
	at   string
	node ast.Node
}

// entries lists a mapping's keys once each; a repeated one is a problem.
func (d *decoder) entries(path string, n ast.Node, t reflect.Type) []entry {
	var values []*ast.MappingValueNode
	switch x := n.(type) {
	case *ast.MappingNode:
		values = x.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{x}
	default:
		d.l.problem(path, d.place(n), expected(t))
		return nil
	}
	var out []entry
	seen := make(map[string]bool)
	for _, mv := range values {
		at := d.position(mv.Key.GetToken())
		var key string
		switch k := mv.Key.(type) {
		case *ast.StringNode:
			key = k.Value
		case *ast.MergeKeyNode:
			d.l.problem(path, at, "anchors, aliases and tags are not supported")
			continue
		default:
			d.l.problem(path, at, "a key must be text")
			continue
		}
		p := join(path, key)
		if seen[key] {
			d.l.problem(p, at, "the key is given twice")
			continue
		}
		seen[key] = true
		out = append(out, entry{key: key, path: p, at: at, node: mv.Value})
	}
	return out
}

func (d *decoder) dictionary(path string, n ast.Node, v reflect.Value) {
	out := reflect.MakeMap(v.Type())
	for _, e := range d.entries(path, n, v.Type()) {
		item := reflect.New(v.Type().Elem()).Elem()
		d.l.at[e.path] = e.at
		d.value(e.path, e.node, item)
		out.SetMapIndex(reflect.ValueOf(e.key), item)
	}
	v.Set(out)
}

func (d *decoder) section(path string, n ast.Node, v reflect.Value) {
	t := v.Type()
	var names []string
	fields := make(map[string]int)
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("yaml")
		fields[name] = i
		names = append(names, name)
	}
	for _, e := range d.entries(path, n, t) {
		i, ok := fields[e.key]
		if !ok {
			message := "unknown key"
			if s := nearest(e.key, names); s != "" {
				message += "; did you mean " + s + "?"
			} else {
				message += "; expected one of " + strings.Join(names, ", ")
			}
			d.l.problem(e.path, e.at, message)
			continue
		}
		d.l.at[e.path] = e.at
		d.value(e.path, e.node, v.Field(i))
	}
}
