package httpkind

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/patchbay-dev/patchbay/providers"
)

// decoder fills Go values from YAML nodes, strictly, and collects every problem.
// The keys are those of the json tags: the schema vocabulary of package
// providers is written down there, and a second list of it would drift.
type decoder struct {
	file     string
	problems []Problem
	at       map[string]*token.Token // where a path stands in the file
}

// fromNode is implemented by types that are written in a form of their own.
type fromNode interface {
	fromNode(d *decoder, path string, n ast.Node)
}

func (d *decoder) add(t *token.Token, path, message string) {
	p := Problem{File: d.file, Path: path, Message: message}
	if t != nil && t.Position != nil {
		p.Line, p.Column = t.Position.Line, t.Position.Column
	}
	d.problems = append(d.problems, p)
}

// addAt reports a problem at the place of path, or of the nearest thing around it.
func (d *decoder) addAt(path, format string, args ...any) {
	for at := path; ; {
		if t, ok := d.at[at]; ok || at == "" {
			d.add(t, path, fmt.Sprintf(format, args...))
			return
		}
		at = at[:max(strings.LastIndexAny(at, ".["), 0)]
	}
}

// document decodes the only document of data into v, a pointer to a struct.
func (d *decoder) document(data []byte, v any) {
	if body := d.parse(data); body != nil {
		d.value("", body, reflect.ValueOf(v).Elem())
	}
}

func (d *decoder) parse(data []byte) (body ast.Node) {
	defer func() {
		// The library has panicked on malformed input before; that is a fault of
		// the file, not of the process.
		if recover() != nil {
			d.add(nil, "", "the YAML can't be read")
			body = nil
		}
	}()
	if line := tooDeep(data); line > 0 {
		d.problems = append(d.problems, Problem{File: d.file, Line: line, Column: 1, Message: fmt.Sprintf("is nested deeper than %d levels", maxDepth)})
		return nil
	}
	// Duplicate keys are found below, all of them; the parser stops at the first.
	f, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var at *token.Token
		if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			at = syntax.Token
		}
		d.add(at, "", "the YAML is not well-formed")
		return nil
	}
	switch {
	case len(f.Docs) == 0 || f.Docs[0].Body == nil:
		d.add(nil, "", "the file is empty")
		return nil
	case len(f.Docs) > 1:
		d.add(nil, "", "expected a single YAML document: one file, one kind")
		return nil
	}
	return f.Docs[0].Body
}

// maxDepth is how deep lists and maps may be nested. No kind needs a third of it.
const maxDepth = 32

// tooDeep looks for nesting before the library does, which takes a stack frame
// for each level, and the square of the time. It returns the line, 0 where all
// is well. Brackets count wherever they stand: in texts there are few, and they
// come in pairs.
func tooDeep(data []byte) int {
	line, depth := 1, 0
	indents := []int{} // of the blocks that a line stands in
	for text := range strings.Lines(string(data)) {
		body := strings.TrimLeft(text, " ")
		indent := len(text) - len(body)
		for strings.HasPrefix(body, "- ") || strings.HasPrefix(body, "? ") { // "- - -": a level each
			indents = deeper(indents, indent)
			rest := strings.TrimLeft(body[2:], " ")
			indent += len(body) - len(rest)
			body = rest
		}
		if strings.TrimSpace(body) != "" && !strings.HasPrefix(body, "#") {
			indents = deeper(indents, indent)
		}
		for _, c := range body {
			switch c {
			case '[', '{':
				depth++
			case ']', '}':
				depth = max(depth-1, 0)
			}
			if depth+len(indents) > maxDepth {
				return line
			}
		}
		line++
	}
	return 0
}

// deeper ends the blocks that are indented as deep or deeper and opens one.
func deeper(indents []int, indent int) []int {
	for len(indents) > 0 && indents[len(indents)-1] >= indent {
		indents = indents[:len(indents)-1]
	}
	return append(indents, indent)
}

// value decodes n into v and reports every problem below it.
func (d *decoder) value(path string, n ast.Node, v reflect.Value) {
	d.at[path] = n.GetToken()
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		d.addAt(path, "anchors, aliases and tags are not supported")
		return
	case *ast.NullNode:
		return // a key with nothing below it, as left by commenting lines out
	}
	if own, ok := reflect.TypeAssert[fromNode](v.Addr()); ok {
		own.fromNode(d, path, n)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(path, n, v.Elem())
	case reflect.Interface:
		if x := d.plain(path, n); x != nil {
			v.Set(reflect.ValueOf(x))
		}
	case reflect.Slice:
		d.list(path, n, v)
	case reflect.Map:
		out := reflect.MakeMap(v.Type())
		for _, e := range d.entries(path, n) {
			item := reflect.New(v.Type().Elem()).Elem()
			d.value(e.path, e.node, item)
			out.SetMapIndex(reflect.ValueOf(e.key), item)
		}
		v.Set(out)
	case reflect.Struct:
		d.fields(path, n, v)
	default:
		d.scalar(path, n, v)
	}
}

func (d *decoder) scalar(path string, n ast.Node, v reflect.Value) {
	x, ok := scalar(n)
	switch v.Kind() {
	case reflect.String:
		if s, isText := x.(string); isText {
			v.SetString(s)
			return
		}
		if ok {
			d.addAt(path, "expected text; put it in quotes")
		} else {
			d.addAt(path, "expected text; where it has a colon or a brace, put it in quotes")
		}
	case reflect.Bool:
		if b, isBool := x.(bool); isBool {
			v.SetBool(b)
			return
		}
		d.addAt(path, "expected true or false")
	case reflect.Int:
		if i, isInt := x.(int64); isInt && i == int64(int(i)) {
			v.SetInt(i)
			return
		}
		d.addAt(path, "expected a whole number")
	case reflect.Float64:
		switch f := x.(type) {
		case int64:
			v.SetFloat(float64(f))
		case float64:
			v.SetFloat(f)
		default:
			d.addAt(path, "expected a number")
		}
	default:
		panic("httpkind: no way to decode " + v.Type().String())
	}
}

// scalar returns string, bool, int64 or float64; false for anything else.
func scalar(n ast.Node) (any, bool) {
	switch x := n.(type) {
	case *ast.StringNode:
		return x.Value, true
	case *ast.LiteralNode:
		return x.Value.Value, true
	case *ast.BoolNode:
		return x.Value, true
	case *ast.FloatNode:
		return x.Value, true
	case *ast.IntegerNode:
		switch i := x.Value.(type) {
		case int64:
			return i, true
		case uint64:
			return int64(i), i <= math.MaxInt64
		}
	}
	return nil, false
}

// plain decodes what has no type of its own: defaults, examples, JSON bodies.
func (d *decoder) plain(path string, n ast.Node) any {
	d.at[path] = n.GetToken()
	switch x := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.SequenceNode:
		out := make([]any, len(x.Values))
		for i, item := range x.Values {
			out[i] = d.plain(fmt.Sprintf("%s[%d]", path, i), item)
		}
		return out
	case *ast.MappingNode, *ast.MappingValueNode:
		out := map[string]any{}
		for _, e := range d.entries(path, n) {
			out[e.key] = d.plain(e.path, e.node)
		}
		return out
	}
	v, ok := scalar(n)
	if !ok {
		d.addAt(path, "expected text, a number, true or false, a list or a map")
	}
	return v
}

// list decodes a sequence; a single value stands for a list of one, since most
// lists of a kind have one.
func (d *decoder) list(path string, n ast.Node, v reflect.Value) {
	items := []ast.Node{n}
	s, isList := n.(*ast.SequenceNode)
	if isList {
		items = s.Values
	}
	out := reflect.MakeSlice(v.Type(), len(items), len(items))
	for i, item := range items {
		at := path
		if isList {
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		d.value(at, item, out.Index(i))
	}
	v.Set(out)
}

// entry is one key of a mapping.
type entry struct {
	key, path string
	at        *token.Token // of the key
	node      ast.Node
}

// entries lists a mapping's keys once each.
func (d *decoder) entries(path string, n ast.Node) []entry {
	var values []*ast.MappingValueNode
	switch x := n.(type) {
	case *ast.MappingNode:
		values = x.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{x}
	default:
		d.addAt(path, "expected a map of keys")
		return nil
	}
	var out []entry
	seen := map[string]bool{}
	for _, mv := range values {
		at := mv.Key.GetToken()
		if _, merged := mv.Key.(*ast.MergeKeyNode); merged {
			d.add(at, path, "anchors, aliases and tags are not supported")
			continue
		}
		key, ok := mv.Key.(*ast.StringNode)
		if !ok {
			d.add(at, path, "a key must be text")
			continue
		}
		p := join(path, key.Value)
		if seen[key.Value] {
			d.add(at, p, "the key is given twice")
			continue
		}
		seen[key.Value] = true
		out = append(out, entry{key.Value, p, at, mv.Value})
	}
	return out
}

func (d *decoder) fields(path string, n ast.Node, v reflect.Value) {
	t := v.Type()
	index, names := map[string]int{}, []string{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		index[name] = i
		names = append(names, name)
	}
	for _, e := range d.entries(path, n) {
		i, ok := index[e.key]
		if !ok {
			message := "unknown key; expected one of " + strings.Join(names, ", ")
			if s := providers.Suggest(e.key, names); s != "" {
				message = "unknown key; did you mean " + s + "?"
			}
			d.add(e.at, e.path, message)
			continue
		}
		d.value(e.path, e.node, v.Field(i))
		// A scalar's own place, but for a block the line that names it.
		switch e.node.(type) {
		case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
			d.at[e.path] = e.at
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
