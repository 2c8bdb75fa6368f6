package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// MaxDepth is how deeply objects and lists may be nested, the body's own level
// included. A connector's params need four.
const MaxDepth = 32

// Parse reads one JSON value: nil, bool, string, int64, float64, []any or
// map[string]any of those. A number without fraction and exponent is an int64.
//
// Errors: fault.Malformed for what is no JSON, or nested too deeply, with line and
// column; fault.InvalidArgument with a violation per duplicate key and per number
// that doesn't fit.
func Parse(body []byte) (any, error) {
	if !utf8.Valid(body) {
		return nil, fault.New(fault.Malformed, "the body is not UTF-8 text")
	}
	p := &parser{body: body, d: json.NewDecoder(bytes.NewReader(body))}
	p.d.UseNumber()
	v, err := p.value("", 1)
	if err == nil {
		if _, more := p.d.Token(); !errors.Is(more, io.EOF) {
			err = p.malformed("the body has something after its JSON value")
		}
	}
	if err != nil {
		return nil, err
	}
	if p.replaced != replacements(body) {
		return nil, fault.New(fault.Malformed, "the body has half of a surrogate pair in a text, which is no Unicode")
	}
	if len(p.bad) > 0 {
		return nil, fault.New(fault.InvalidArgument, "the body has a problem").WithViolations(p.bad...)
	}
	return v, nil
}

type parser struct {
	body     []byte
	d        *json.Decoder
	bad      []fault.Violation
	replaced int // replacement characters in decoded text
}

// malformed names the place by line and column: there is no pointer into what has
// no structure.
func (p *parser) malformed(message string) error {
	at := min(int(p.d.InputOffset()), len(p.body))
	before := p.body[:at]
	line := bytes.Count(before, []byte("\n")) + 1
	column := utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
	return fault.Newf(fault.Malformed, "%s (line %d, column %d)", message, line, column)
}

func (p *parser) token() (json.Token, error) {
	t, err := p.d.Token()
	if err != nil {
		// Its text may repeat a part of the body, and so of a secret.
		message := "the body is not JSON"
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			message = "the body ends within its JSON value"
			if len(bytes.TrimSpace(p.body)) == 0 {
				message = "the body is empty, and JSON is needed"
			}
		}
		return nil, p.malformed(message)
	}
	if s, ok := t.(string); ok {
		p.replaced += strings.Count(s, "\uFFFD")
	}
	return t, nil
}

func (p *parser) value(pointer string, depth int) (any, error) {
	t, err := p.token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case json.Delim:
		if depth > MaxDepth {
			return nil, p.malformed(fmt.Sprintf("the body is nested deeper than %d levels", MaxDepth))
		}
		if t == '{' {
			return p.object(pointer, depth)
		}
		return p.list(pointer, depth)
	case json.Number:
		return p.number(pointer, t), nil
	default:
		return t, nil
	}
}

func (p *parser) object(pointer string, depth int) (any, error) {
	out := map[string]any{}
	for p.d.More() {
		t, err := p.token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string) // the decoder takes nothing else for a key
		at := pointer + "/" + Escape(name)
		v, err := p.value(at, depth+1)
		if err != nil {
			return nil, err
		}
		if _, twice := out[name]; twice {
			p.bad = append(p.bad, fault.Violation{Pointer: at, Code: "duplicate", Message: "is given twice"})
		}
		out[name] = v
	}
	_, err := p.token()
	return out, err
}

func (p *parser) list(pointer string, depth int) (any, error) {
	out := []any{}
	for p.d.More() {
		v, err := p.value(pointer+"/"+strconv.Itoa(len(out)), depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	_, err := p.token()
	return out, err
}

// number is an int64 where it is written as one, else the nearest float64.
func (p *parser) number(pointer string, n json.Number) any {
	if !strings.ContainsAny(string(n), ".eE") {
		if i, err := strconv.ParseInt(string(n), 10, 64); err == nil {
			return i
		}
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil || math.IsInf(f, 0) || !strings.ContainsAny(string(n), ".eE") {
		// An integer that a float64 would round is not the number that was meant.
		p.bad = append(p.bad, fault.Violation{Pointer: pointer, Code: "range", Message: "is a number that is too large"})
		return float64(0)
	}
	return f
}

// A replacement character in a decoded text that nobody wrote stands for half of a
// surrogate pair: to store it would be to store something else than was sent.
var replacement = regexp.MustCompile(`(?i)\\ufffd|` + "\uFFFD")

func replacements(body []byte) int {
	// An escaped backslash before "ufffd" is no escape.
	return len(replacement.FindAllIndex(bytes.ReplaceAll(body, []byte(`\\`), []byte("__")), -1))
}

// Escape is a name as a part of a JSON pointer (RFC 6901).
func Escape(name string) string {
	if !strings.ContainsAny(name, "~/") {
		return name
	}
	return strings.ReplaceAll(strings.ReplaceAll(name, "~", "~0"), "/", "~1")
}
