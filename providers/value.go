package providers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// TextValue is a param value that came as text whatever the type is (a param
// row, a variable of the environment). Decode coerces it to the schema's type,
// as DecodeOptions.Text does for all strings.
type TextValue string

// problem is what is wrong with one value. The message never repeats it.
type problem struct{ code, message string }

func wrong(code, message string) *problem { return &problem{code, message} }

func wrongf(code, format string, args ...any) *problem {
	return &problem{code, fmt.Sprintf(format, args...)}
}

// Bounds on nested values: deeper or larger ones are attacks, not configs.
const (
	maxDepth = 16
	maxItems = 1024
)

// canonical checks v and returns it in the canonical Go type. A nil result
// without a problem means that v counts as not set: null, and empty text.
func (p *Param) canonical(v any, text bool) (any, *problem) {
	if t, ok := v.(TextValue); ok {
		v, text = string(t), true
	}
	s, isString := v.(string)
	if v == nil || isString && s == "" && (text || p.Type.textual()) {
		return nil, nil
	}
	if isString {
		if pr := checkText(s, p.Type.multiline()); pr != nil {
			return nil, pr
		}
		if text {
			var pr *problem
			if v, pr = p.coerce(s); pr != nil {
				return nil, pr
			}
		}
	}
	switch p.Type {
	case Bool:
		if b, ok := v.(bool); ok {
			return b, nil
		}
		return nil, wrong("type", "must be true or false")
	case Int, Port:
		n, ok := integer(v)
		if !ok {
			return nil, wrong("type", "must be a whole number")
		}
		if p.Type == Port && (n < 1 || n > 65535) {
			return nil, wrong("format", "must be a port from 1 to 65535")
		}
		return n, p.inRange(float64(n))
	case Bytes:
		n, ok := integer(v)
		if !ok && isString {
			n, ok = parseBytes(s)
		}
		if !ok || n < 0 {
			return nil, wrong("format", "must be a number of bytes, such as 1048576 or 32MiB")
		}
		return n, p.inRange(float64(n))
	case Number:
		f, ok := float(v)
		if !ok {
			return nil, wrong("type", "must be a number")
		}
		return f, p.inRange(f)
	case MultiEnum, List:
		return p.list(v)
	case MapOf:
		c, pr := plain(v, 0)
		if pr != nil {
			return nil, pr
		}
		m, ok := c.(map[string]any)
		if !ok {
			return nil, wrong("type", "must be an object")
		}
		return m, p.length(len(m), "keys")
	case JSON:
		return plain(v, 0)
	}
	if s, isString = v.(string); !isString {
		return nil, wrong("type", "must be text")
	}
	return p.text(s)
}

// text checks the types whose canonical value is a string.
func (p *Param) text(s string) (any, *problem) {
	if pr := p.textLength(s); pr != nil {
		return nil, pr
	}
	var pr *problem
	switch p.Type {
	case Enum:
		if !p.hasOption(s) {
			pr = wrong("enum", "must be one of "+p.optionList())
		}
	case URL:
		pr = checkURL(s, p.Validate.Schemes)
	case Host:
		pr = checkHost(s)
	case EmailAddr:
		if p.Validate.Format == "" {
			pr = checkEmail(s)
		}
	case Duration:
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return nil, wrong("format", "must be a duration such as 30s, 5m or 1h30m")
		}
		return d.String(), nil
	}
	if pr == nil && p.Validate.Format != "" {
		pr = formats[p.Validate.Format](s)
	}
	if pr == nil && p.re != nil && !p.re.MatchString(s) {
		pr = wrong("pattern", p.Validate.PatternMessage)
	}
	if pr != nil {
		return nil, pr
	}
	return s, nil
}

func (p *Param) list(v any) (any, *problem) {
	c, pr := plain(v, 0)
	if pr != nil {
		return nil, pr
	}
	items, ok := c.([]any)
	if !ok {
		return nil, wrong("type", "must be a list")
	}
	if p.Type == MultiEnum {
		seen := make(map[string]bool, len(items))
		for _, item := range items {
			s, ok := item.(string)
			if !ok || !p.hasOption(s) {
				return nil, wrong("enum", "may contain "+p.optionList()+" only")
			}
			if seen[s] {
				return nil, wrong("duplicate", "names an option twice")
			}
			seen[s] = true
		}
	}
	return items, p.length(len(items), "items")
}

// coerce turns text into the type that the schema wants; what fits no better
// stays text, for the strict check to judge.
func (p *Param) coerce(s string) (any, *problem) {
	switch p.Type {
	case Bool:
		switch strings.ToLower(s) {
		case "true", "1":
			return true, nil
		case "false", "0":
			return false, nil
		}
		return nil, wrong("type", "must be true or false")
	case Int, Port:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return nil, wrong("type", "must be a whole number")
		}
		return n, nil
	case Bytes:
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			return n, nil
		}
	case Number:
		return json.Number(s), nil
	case MultiEnum, List, MapOf, JSON:
		v, err := parseJSON(s)
		if err != nil {
			return nil, wrong("type", "must be JSON")
		}
		return v, nil
	}
	return s, nil
}

func parseJSON(s string) (any, error) {
	d := json.NewDecoder(bytes.NewReader([]byte(s)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the value")
	}
	return v, nil
}

func (p *Param) hasOption(s string) bool {
	return slices.ContainsFunc(p.Options, func(o Option) bool { return o.Value == s })
}

func (p *Param) optionList() string {
	names := make([]string, len(p.Options))
	for i, o := range p.Options {
		names[i] = o.Value
	}
	return strings.Join(names, ", ")
}

func (p *Param) inRange(n float64) *problem {
	switch v := p.Validate; {
	case v.Min != nil && n < *v.Min:
		return wrongf("min", "must be at least %v", *v.Min)
	case v.Max != nil && n > *v.Max:
		return wrongf("max", "must be at most %v", *v.Max)
	}
	return nil
}

func (p *Param) length(n int, unit string) *problem {
	switch v := p.Validate; {
	case n < v.MinLength:
		return wrongf("min_length", "must have at least %d %s", v.MinLength, unit)
	case v.MaxLength > 0 && n > v.MaxLength:
		return wrongf("max_length", "must have at most %d %s", v.MaxLength, unit)
	}
	return nil
}

func (p *Param) textLength(s string) *problem {
	n := utf8.RuneCountInString(s)
	if limit := p.Type.maxLength(); p.Validate.MaxLength == 0 && n > limit {
		return wrongf("max_length", "must have at most %d characters", limit)
	}
	return p.length(n, "characters")
}

// checkText refuses what no config needs and what splits lines in protocols:
// a line break in a host or a user name is an injected SMTP command or header.
func checkText(s string, multiline bool) *problem {
	if !utf8.ValidString(s) {
		return wrong("encoding", "must be UTF-8 text")
	}
	for _, r := range s {
		if multiline && (r == '\n' || r == '\r' || r == '\t') {
			continue
		}
		if unicode.IsControl(r) {
			return wrong("control_character", "must not contain control characters or line breaks")
		}
	}
	return nil
}

// plain copies v into the canonical forms of nested values: string, bool,
// int64, float64, []any, map[string]any and null. A whole number is int64
// whether it came as 1 or 1.0, so that a trip through JSON changes nothing.
func plain(v any, depth int) (any, *problem) {
	if depth > maxDepth {
		return nil, wrongf("depth", "must not be nested deeper than %d", maxDepth)
	}
	switch x := v.(type) {
	case nil, bool:
		return x, nil
	case string:
		return x, checkText(x, true)
	case TextValue:
		return string(x), checkText(string(x), true)
	case []any:
		if len(x) > maxItems {
			return nil, wrongf("max_length", "must have at most %d items", maxItems)
		}
		out := make([]any, len(x))
		for i, item := range x {
			c, pr := plain(item, depth+1)
			if pr != nil {
				return nil, pr
			}
			out[i] = c
		}
		return out, nil
	case []string:
		out := make([]any, len(x))
		for i, item := range x {
			out[i] = item
		}
		return plain(out, depth)
	case map[string]any:
		if len(x) > maxItems {
			return nil, wrongf("max_length", "must have at most %d keys", maxItems)
		}
		out := make(map[string]any, len(x))
		for k, item := range x {
			if pr := checkText(k, false); pr != nil {
				return nil, pr
			}
			c, pr := plain(item, depth+1)
			if pr != nil {
				return nil, pr
			}
			out[k] = c
		}
		return out, nil
	}
	if n, ok := integer(v); ok {
		return n, nil
	}
	if f, ok := float(v); ok {
		return f, nil
	}
	return nil, wrong("type", "must consist of JSON values")
}

// integer accepts every Go integer, and what JSON decoders make of one.
func integer(v any) (int64, bool) {
	switch n := v.(type) {
	case int:
		return int64(n), true
	case int64:
		return n, true
	case int32:
		return int64(n), true
	case uint16:
		return int64(n), true
	case uint32:
		return int64(n), true
	case uint64:
		return int64(n), n <= math.MaxInt64
	case uint:
		return int64(n), uint64(n) <= math.MaxInt64
	case float64:
		// Beyond 2^53 a float no longer says which integer was meant.
		return int64(n), n == math.Trunc(n) && math.Abs(n) <= 1<<53
	case json.Number:
		if i, err := n.Int64(); err == nil {
			return i, true
		}
		f, err := n.Float64()
		return int64(f), err == nil && f == math.Trunc(f) && math.Abs(f) <= 1<<53
	default:
		return 0, false
	}
}

func float(v any) (float64, bool) {
	var f float64
	switch n := v.(type) {
	case float64:
		f = n
	case float32:
		f = float64(n)
	case json.Number:
		// ParseFloat reads more than JSON does: hexadecimal, "inf", underscores.
		if strings.ContainsAny(string(n), "xXpP_nN") {
			return 0, false
		}
		var err error
		if f, err = n.Float64(); err != nil {
			return 0, false
		}
	default:
		i, ok := integer(v)
		return float64(i), ok
	}
	return f, !math.IsNaN(f) && !math.IsInf(f, 0)
}
