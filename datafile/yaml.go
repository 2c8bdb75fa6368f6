package datafile

import (
	"errors"
	"math"
	"strings"

	yaml "github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	yamlparser "github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

func (p *parser) yaml() {
	defer func() {
		// The YAML library has panicked on malformed input before; that is a
		// fault of the file here, not of the process.
		if recover() != nil {
			p.problem(Position{1, 1}, "", "the YAML can't be read")
		}
	}()
	if !p.yamlSize() {
		return
	}
	tokens := lexer.Tokenize(string(p.data))
	if !p.yamlShape(tokens) {
		return
	}
	doc, err := yamlparser.Parse(tokens, 0)
	if err != nil {
		at, message := Position{1, 1}, "the YAML is not well-formed"
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil {
			at = place(syntax.Token)
			if strings.Contains(syntax.Message, "already defined") {
				message = "a key is given twice"
			}
		}
		p.problem(at, "", "%s", message)
		return
	}
	if len(doc.Docs) != 1 || doc.Docs[0].Body == nil {
		p.problem(Position{1, 1}, "", "expected one YAML document with \"records\"")
		return
	}
	entries, ok := p.entries(doc.Docs[0].Body, "", "the file")
	if !ok {
		return
	}
	var records ast.Node
	noUpdate := false
	for _, e := range entries {
		switch e.key {
		case "noupdate":
			noUpdate = p.yamlBool(e, "")
		case "records":
			records = e.node
		default:
			p.problem(e.at, "", "unknown key %q; expected noupdate or records", brief(e.key))
		}
	}
	if records == nil {
		p.problem(Position{1, 1}, "", "\"records\" is missing")
		return
	}
	list, ok := records.(*ast.SequenceNode)
	if !ok {
		p.problem(place(records.GetToken()), "", "\"records\" must be a list")
		return
	}
	for _, n := range list.Values {
		p.yamlRecord(n, noUpdate)
		if p.overspent {
			return
		}
	}
}

func place(t *token.Token) Position {
	if t == nil || t.Position == nil {
		return Position{1, 1}
	}
	return Position{Line: t.Position.Line, Column: t.Position.Column}
}

// entry is one key of a mapping.
type entry struct {
	key  string
	node ast.Node
	at   Position
}

// entries lists a mapping's keys in order; the parser has refused duplicates
// that are spelt alike, here those that are only quoted differently go too.
func (p *parser) entries(n ast.Node, record, what string) ([]entry, bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		p.problem(place(n.GetToken()), record, "%s must be a map", what)
		return nil, false
	}
	out := make([]entry, 0, len(values))
	seen := map[string]bool{}
	for _, v := range values {
		at := place(v.Key.GetToken())
		var key string
		switch k := v.Key.(type) {
		case *ast.StringNode:
			key = k.Value
		case *ast.NullNode, *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode:
			key = v.Key.GetToken().Value
		default:
			p.problem(at, record, "a key must be plain text")
			return nil, false
		}
		if seen[key] {
			p.problem(at, record, "a key is given twice")
			continue
		}
		seen[key] = true
		out = append(out, entry{key, v.Value, at})
	}
	return out, true
}

func (p *parser) yamlBool(e entry, record string) bool {
	switch n := e.node.(type) {
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode:
		if n.Token.Value == "0" || n.Token.Value == "1" {
			return n.Token.Value == "1"
		}
	}
	p.problem(e.at, record, "%s must be true or false", e.key)
	return false
}

func (p *parser) yamlRecord(n ast.Node, noUpdate bool) {
	r := Record{NoUpdate: noUpdate, Position: place(n.GetToken())}
	entries, ok := p.entries(n, "", "a record")
	if !ok {
		return
	}
	var fields ast.Node
	if len(entries) > 0 {
		r.Position = entries[0].at
	}
	for _, e := range entries {
		switch e.key {
		case "id", "model":
			s, ok := e.node.(*ast.StringNode)
			if !ok {
				p.problem(e.at, r.ID, "%s must be text; quote it", e.key)
				continue
			}
			if e.key == "id" {
				r.ID = s.Value
			} else {
				r.Model = s.Value
			}
		case "noupdate":
			r.NoUpdate = p.yamlBool(e, r.ID)
		case "fields":
			fields = e.node
		default:
			p.problem(e.at, r.ID, "unknown key %q; expected id, model, noupdate or fields", brief(e.key))
		}
	}
	if fields != nil {
		if _, null := fields.(*ast.NullNode); !null {
			fs, _ := p.entries(fields, r.ID, "\"fields\"")
			for _, e := range fs {
				if !p.spend() {
					p.tooMany(e.at)
					return
				}
				r.Fields = append(r.Fields, p.yamlField(e, r.ID))
			}
		}
	}
	p.add(r)
}

// yamlField reads one field: a map with the single key "ref" is a reference,
// anything else a value. A dict that holds just "ref" is written inside one
// more {ref: ...}; "config" is never a reference.
func (p *parser) yamlField(e entry, record string) Field {
	f := Field{Name: e.key, Position: e.at}
	v := p.yamlValue(e.node, record, 0)
	if m, ok := v.(map[string]any); ok {
		f.Keys = map[string]Position{}
		keys, _ := p.entries(e.node, record, "a value")
		for _, k := range keys {
			f.Keys[k.key] = k.at
		}
		if target, isRef := m["ref"]; isRef && len(m) == 1 && e.key != "config" {
			if inner, ok := target.(map[string]any); ok {
				f.Keys, f.Value = map[string]Position{}, literalValue(inner)
				return f
			}
			s, ok := target.(string)
			if s = strings.TrimSpace(s); !ok || s == "" {
				p.problem(e.at, record, "a ref must be the id of a record")
			}
			f.Keys, f.Value = nil, Value{Form: Ref, Text: s}
			return f
		}
	}
	f.Value = literalValue(v)
	return f
}

// yamlText refuses the texts that the library changes in silence: a tab inside of
// plain text goes missing, an escape that is no character becomes U+FFFD.
func (p *parser) yamlText(n *ast.StringNode, record string) {
	const replacement = "\ufffd"
	origin := n.Token.Origin
	switch {
	case n.Token.Type == token.StringType && strings.Contains(strings.TrimSpace(origin), "\t"):
		p.problem(place(n.Token), record, "text with a tab must be quoted")
	case n.Token.Type == token.DoubleQuoteType && strings.Contains(n.Value, replacement) &&
		!strings.Contains(origin, replacement) && !strings.Contains(strings.ToLower(origin), "fffd"):
		p.problem(place(n.Token), record, "an escape in this text is not a character")
	}
}

func (p *parser) yamlValue(n ast.Node, record string, depth int) any {
	if !p.spend() {
		p.tooMany(place(n.GetToken()))
		return nil
	}
	switch n.(type) {
	case *ast.SequenceNode, *ast.MappingNode, *ast.MappingValueNode:
		if depth++; depth > p.limits.Depth {
			p.problem(place(n.GetToken()), record, "lists and maps are nested more than %d deep", p.limits.Depth)
			return nil
		}
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.BoolNode:
		return n.Value
	case *ast.StringNode:
		p.yamlText(n, record)
		return n.Value
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.IntegerNode:
		// Octal to some parsers and decimal to others; often neither was meant,
		// but an account's number.
		if digits := strings.TrimLeft(n.Token.Value, "+-"); len(digits) > 1 && digits[0] == '0' && isDigit(digits[1]) {
			p.problem(place(n.Token), record, "a number must not start with 0; quote it when it is text")
			return nil
		}
		switch v := n.Value.(type) {
		case int64:
			return v
		case uint64:
			if v <= math.MaxInt64 {
				return int64(v)
			}
		}
		p.problem(place(n.Token), record, "this is not a whole number of 64 bits")
	case *ast.FloatNode:
		if !math.IsInf(n.Value, 0) && !math.IsNaN(n.Value) {
			return n.Value
		}
		p.problem(place(n.Token), record, "this is not a number of 64 bits")
	case *ast.InfinityNode, *ast.NanNode:
		p.problem(place(n.GetToken()), record, "infinity and NaN are not allowed; quote them when they are text")
	case *ast.SequenceNode:
		out := make([]any, 0, len(n.Values))
		for _, v := range n.Values {
			out = append(out, p.yamlValue(v, record, depth))
		}
		return out
	case *ast.MappingNode, *ast.MappingValueNode:
		entries, _ := p.entries(n, record, "a value")
		out := make(map[string]any, len(entries))
		for _, e := range entries {
			out[e.key] = p.yamlValue(e.node, record, depth)
		}
		return out
	default:
		// Anchors, aliases, tags and merges: none is needed, and aliases are how
		// a small file becomes a huge value.
		p.problem(place(n.GetToken()), record, "only plain YAML is allowed: no anchors, aliases, tags or merge keys")
	}
	return nil
}
