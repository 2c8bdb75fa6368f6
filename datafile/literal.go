package datafile

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// literalError is a problem at a byte offset of a literal.
type literalError struct {
	offset  int
	message string
}

func (e *literalError) Error() string { return e.message }

// parseLiteral parses one Python literal (the grammar of ast.literal_eval
// without sets, complex numbers and f-strings; Python reference, "Lexical
// analysis"). It returns nil, bool, int64, float64, string, []any (lists and
// tuples) or map[string]any, and where the top-level keys of a dict are.
// Nothing is evaluated: a call, a name or an operator is an error. spend is
// asked before each value and ends the parsing when it says no.
func parseLiteral(s string, depth int, spend func() bool) (any, map[string]int, *literalError) {
	l := &literal{s: s, max: depth, spend: spend}
	v, err := l.parse()
	return v, l.keys, err
}

type literal struct {
	s     string
	i     int
	depth int
	max   int
	spend func() bool
	keys  map[string]int // offsets of the outermost dict's keys
}

// fail unwinds to parse; a panic keeps the grammar below readable.
func (l *literal) fail(at int, format string, args ...any) {
	panic(&literalError{at, fmt.Sprintf(format, args...)})
}

func (l *literal) parse() (v any, err *literalError) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*literalError)
			if !ok {
				panic(r)
			}
			v, err = nil, e
		}
	}()
	l.space()
	if l.i >= len(l.s) {
		l.fail(l.i, "eval is empty")
	}
	v = l.value()
	l.space()
	if l.i < len(l.s) {
		l.unexpected()
	}
	return v, nil
}

// space skips white space, comments and line continuations.
func (l *literal) space() {
	for l.i < len(l.s) {
		switch c := l.s[l.i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f':
			l.i++
		case c == '\\' && strings.HasPrefix(l.s[l.i+1:], "\n"):
			l.i += 2
		case c == '\\' && strings.HasPrefix(l.s[l.i+1:], "\r\n"):
			l.i += 3
		case c == '#':
			for l.i < len(l.s) && l.s[l.i] != '\n' {
				l.i++
			}
		default:
			return
		}
	}
}

func (l *literal) peek() byte {
	if l.i < len(l.s) {
		return l.s[l.i]
	}
	return 0
}

// unexpected names what stands where a literal can't go on, without its text.
func (l *literal) unexpected() {
	switch c := l.peek(); {
	case l.i >= len(l.s):
		l.fail(l.i, "the literal ends too early")
	case c == '(' || c == '.' || c == '[':
		l.fail(l.i, "only literals are allowed: this is a call, an attribute or an index, and nothing is evaluated")
	case strings.IndexByte("+-*/%@&|^~<>=!", c) >= 0:
		l.fail(l.i, "only literals are allowed: this is an operator, and nothing is evaluated")
	case isNameByte(c):
		l.fail(l.i, "only literals are allowed: this is a name or an operator, and nothing is evaluated")
	default:
		l.fail(l.i, "this is not part of a literal")
	}
}

func (l *literal) value() any {
	start := l.i
	if !l.spend() {
		l.fail(start, "the file has more than %d records, fields and values; split it", maxParts)
	}
	switch c := l.peek(); {
	case l.i >= len(l.s):
		l.unexpected()
	case c == '[':
		return l.list(']', false)
	case c == '(':
		return l.list(')', true)
	case c == '{':
		return l.dict()
	case c == '\'' || c == '"':
		return l.strings()
	case c >= '0' && c <= '9', c == '.':
		return l.number(false)
	case c == '-' || c == '+':
		l.i++
		l.space()
		if d := l.peek(); d != '.' && (d < '0' || d > '9') {
			l.i = start
			l.unexpected()
		}
		return l.number(c == '-')
	case isNameByte(c):
		end := l.i
		for end < len(l.s) && isNameByte(l.s[end]) {
			end++
		}
		word := l.s[l.i:end]
		if end < len(l.s) && (l.s[end] == '\'' || l.s[end] == '"') {
			return l.strings()
		}
		l.i = end
		switch word {
		case "True":
			return true
		case "False":
			return false
		case "None":
			return nil
		case "true", "false", "null":
			l.fail(start, "only literals are allowed: write True, False or None")
		}
		l.space()
		if l.peek() == '(' {
			l.fail(start, "only literals are allowed: this is a call, and nothing is evaluated")
		}
		l.fail(start, "only literals are allowed: this is a name, and nothing is evaluated")
	default:
		l.unexpected()
	}
	return nil
}

func isNameByte(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= utf8.RuneSelf
}

// enter counts nesting, so that a hostile file can't exhaust the stack.
func (l *literal) enter() {
	if l.depth++; l.depth > l.max {
		l.fail(l.i, "lists and dicts are nested more than %d deep", l.max)
	}
	l.i++
}

// list parses a list, or a tuple: then one value without a comma is just that
// value in parentheses.
func (l *literal) list(end byte, tuple bool) any {
	open := l.i
	l.enter()
	out, comma := []any{}, false
	for {
		l.space()
		if l.i >= len(l.s) {
			l.fail(open, "this bracket is never closed")
		}
		if l.peek() == end {
			break
		}
		out = append(out, l.value())
		l.space()
		if l.peek() == ',' {
			comma = true
			l.i++
		} else if l.peek() != end {
			if l.i >= len(l.s) {
				l.fail(open, "this bracket is never closed")
			}
			l.unexpected()
		}
	}
	l.i++
	l.depth--
	if tuple && len(out) == 1 && !comma {
		return out[0]
	}
	return out
}

func (l *literal) dict() any {
	open := l.i
	l.enter()
	out := map[string]any{}
	keys := map[string]int{}
	for {
		l.space()
		if l.i >= len(l.s) {
			l.fail(open, "this bracket is never closed")
		}
		if l.peek() == '}' {
			break
		}
		at := l.i
		key, ok := l.value().(string)
		if !ok {
			l.fail(at, "a key of a dict must be text")
		}
		if len(key) > maxName {
			l.fail(at, "a key of a dict has at most %d bytes", maxName)
		}
		if len(out) == maxKeys {
			l.fail(at, "a dict has at most %d keys", maxKeys)
		}
		if _, dup := out[key]; dup {
			l.fail(at, "this key is given twice in the dict")
		}
		l.space()
		if l.peek() != ':' {
			if l.peek() == ',' || l.peek() == '}' {
				l.fail(at, "a set is not allowed: write a list or a dict")
			}
			l.unexpected()
		}
		l.i++
		l.space()
		out[key], keys[key] = l.value(), at
		l.space()
		if l.peek() == ',' {
			l.i++
		} else if l.peek() != '}' {
			if l.i >= len(l.s) {
				l.fail(open, "this bracket is never closed")
			}
			l.unexpected()
		}
	}
	l.i++
	if l.depth--; l.depth == 0 {
		l.keys = keys
	}
	return out
}

func (l *literal) number(negative bool) any {
	start := l.i
	end := l.i
	hex := strings.HasPrefix(l.s[l.i:], "0x") || strings.HasPrefix(l.s[l.i:], "0X")
	for end < len(l.s) {
		c := l.s[end]
		exponentSign := (c == '+' || c == '-') && !hex && end > start && (l.s[end-1] == 'e' || l.s[end-1] == 'E')
		if !isNameByte(c) && c != '.' && !exponentSign {
			break
		}
		end++
	}
	text := l.s[start:end]
	l.i = end
	if strings.ContainsAny(text, "jJ") && !hex {
		l.fail(start, "complex numbers are not allowed")
	}
	sign := ""
	if negative {
		sign = "-"
	}
	base := 10
	if len(text) > 1 && text[0] == '0' && strings.ContainsRune("xXoObB", rune(text[1])) {
		base = 0
	}
	switch {
	case strings.HasPrefix(text, "_"), strings.HasSuffix(text, "_"), strings.Contains(text, "__"):
		l.fail(start, "this is not a number")
	case base == 10 && strings.ContainsAny(text, ".eE"):
		// ParseFloat would take names and hexadecimal floats, so letters but e are out.
		for i := range len(text) {
			if c := text[i]; c != '.' && c != '+' && c != '-' && c != '_' && c != 'e' && c != 'E' && (c < '0' || c > '9') {
				l.fail(start, "this is not a number")
			}
			if text[i] == '_' && !(isDigit(text[i-1]) && isDigit(text[i+1])) {
				l.fail(start, "this is not a number")
			}
		}
		f, err := strconv.ParseFloat(sign+strings.ReplaceAll(text, "_", ""), 64)
		if err != nil || math.IsInf(f, 0) {
			l.fail(start, "this is not a number of 64 bits")
		}
		return f
	}
	digits := text
	if base == 10 {
		digits = strings.ReplaceAll(text, "_", "")
		// Python refuses 010, whose meaning differs between languages.
		if len(digits) > 1 && digits[0] == '0' && strings.Trim(digits, "0") != "" {
			l.fail(start, "a number must not start with 0")
		}
	}
	n, err := strconv.ParseInt(sign+digits, base, 64)
	if err != nil {
		l.fail(start, "this is not a whole number of 64 bits")
	}
	return n
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
