package datafile

import (
	"bytes"

	"github.com/goccy/go-yaml/token"
)

// What the YAML library needs for a token, a key, a level of nesting is far more
// than what the other formats need, and not linear: keys of one map recurse and
// copy their elder siblings, each key is kept with the names of all maps around
// it. So its input is bounded before each of its steps.
const (
	yamlBytes = 8 << 20
	// yamlMarks bounds the bytes that can end or begin a token.
	yamlMarks = 1 << 20
	// yamlPaths bounds the bytes of all keys with their ancestors.
	yamlPaths = 64 << 20
	// maxMarksPerLine bounds compact nesting ("- - - -"), which costs two bytes a
	// level and would let a small file exhaust the parser's stack.
	maxMarksPerLine = 32
	// yamlFrame is how deep the value of a field lies in a file: the file, its
	// list, a record, its fields.
	yamlFrame = 8
)

// yamlSize refuses, before it is taken apart, a file that would be too many
// tokens.
func (p *parser) yamlSize() bool {
	if len(p.data) > yamlBytes {
		p.problem(Position{1, 1}, "", "a YAML file has at most %d bytes; split it, or write it as XML", yamlBytes)
		return false
	}
	marks := 0
	for _, mark := range []byte("\n,:[]{}-#&*!|>?\"'%") {
		marks += bytes.Count(p.data, []byte{mark})
	}
	if marks > yamlMarks {
		p.problem(Position{1, 1}, "", "the YAML has too many parts; split it, or write it as XML")
		return false
	}
	return true
}

// level is one list or map that is open at a token.
type level struct {
	kind   token.Type // SequenceEntryType, MappingValueType: block; else the opening bracket
	column int        // of block levels
	keys   int
	name   int // length of its present key
}

// yamlShape walks the tokens the way that the parser will nest them.
func (p *parser) yamlShape(tokens token.Tokens) bool {
	var open []level
	flow, path, paths := 0, 0, 0
	pop := func() {
		path -= open[len(open)-1].name
		open = open[:len(open)-1]
	}
	// at closes the block levels that a list item or a key in this column ends
	// and tells whether it goes on with the level that is then the innermost.
	at := func(kind token.Type, column int) bool {
		for len(open) > 0 {
			top := open[len(open)-1]
			// A list may stand in the very column of the key that holds it.
			if top.column > column || top.column == column && top.kind != kind && kind == token.MappingValueType {
				pop()
				continue
			}
			return top.kind == kind && top.column == column
		}
		return false
	}
	line, marks := 0, 0
	for i, t := range tokens {
		switch t.Type {
		case token.InvalidType:
			p.problem(place(t), "", "the YAML is not well-formed")
			return false
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType:
			if t.Position.Line != line {
				line, marks = t.Position.Line, 0
			}
			marks++
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
			open = append(open, level{kind: t.Type})
		case token.SequenceEndType, token.MappingEndType:
			if flow > 0 {
				flow--
				pop()
			}
		case token.SequenceEntryType:
			if flow == 0 && !at(t.Type, t.Position.Column) {
				open = append(open, level{kind: t.Type, column: t.Position.Column})
			}
		case token.MappingValueType:
			key := t
			if i > 0 {
				key = tokens[i-1]
			}
			if len(key.Value) > maxName {
				p.problem(place(key), "", "a key has at most %d bytes", maxName)
				return false
			}
			if flow == 0 && !at(t.Type, key.Position.Column) {
				open = append(open, level{kind: t.Type, column: key.Position.Column})
			}
			if len(open) == 0 {
				break // a bracket too many: the parser says so
			}
			top := &open[len(open)-1]
			top.keys++
			path += len(key.Value) + 8 - top.name
			top.name = len(key.Value) + 8
			paths += path
			if top.keys > maxKeys {
				p.problem(place(key), "", "a map has at most %d keys", maxKeys)
				return false
			}
		case token.DocumentHeaderType, token.DocumentEndType:
			for len(open) > 0 {
				pop()
			}
			flow = 0
		}
		switch {
		case len(open) > p.limits.Depth+yamlFrame || flow > p.limits.Depth || marks > maxMarksPerLine:
			p.problem(place(t), "", "lists and maps are nested more than %d deep", p.limits.Depth)
			return false
		case paths > yamlPaths:
			p.problem(place(t), "", "the YAML has too many nested keys; split it, or write it as XML")
			return false
		}
	}
	return true
}
