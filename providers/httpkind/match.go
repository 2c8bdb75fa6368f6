package httpkind

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/patchbay-dev/patchbay/providers"
)

// statuses are HTTP statuses: a number, "4xx", or a list of those.
type statuses struct{ list [][2]int }

func (s *statuses) fromNode(d *decoder, path string, n ast.Node) {
	items := []ast.Node{n}
	if seq, ok := n.(*ast.SequenceNode); ok {
		items = seq.Values
	}
	for _, item := range items {
		v, _ := scalar(item)
		switch v := v.(type) {
		case int64:
			if v >= 100 && v <= 599 {
				s.list = append(s.list, [2]int{int(v), int(v)})
				continue
			}
		case string:
			if len(v) == 3 && v[0] >= '1' && v[0] <= '5' && v[1:] == "xx" {
				low := int(v[0]-'0') * 100
				s.list = append(s.list, [2]int{low, low + 99})
				continue
			}
		}
		d.addAt(path, "expected a status such as 200 or 2xx, or a list of them")
	}
}

func (s *statuses) has(status int) bool {
	return slices.ContainsFunc(s.list, func(r [2]int) bool { return r[0] <= status && status <= r[1] })
}

func (m *match) empty() bool { return m.Status.list == nil && m.JSON == nil && m.Header == nil }

// answer is a response with its body decoded once.
type answer struct {
	providers.Response
	body any
	json bool // the body is JSON
}

func newAnswer(r providers.Response) answer {
	a := answer{Response: r}
	d := json.NewDecoder(bytes.NewReader(r.Body))
	if d.Decode(&a.body) == nil {
		_, err := d.Token()
		a.json = errors.Is(err, io.EOF)
	}
	return a
}

// holds tells whether everything that m gives holds.
func (m *match) holds(a answer, v values) bool {
	if m.Status.list != nil && !m.Status.has(a.Status) {
		return false
	}
	for i := range m.JSON {
		if !m.JSON[i].holds(a, v) {
			return false
		}
	}
	for i := range m.Header {
		if !m.Header[i].holds(a) {
			return false
		}
	}
	return true
}

func (t *jsonTest) holds(a answer, v values) bool {
	if !a.json {
		return false
	}
	found, ok := lookup(a.body, t.segments)
	ok = ok && found != nil
	switch {
	case t.Set != nil:
		return ok == *t.Set
	case !ok:
		return false
	case t.Type != "":
		return t.Type == typeOf(found)
	case t.In != nil:
		return slices.ContainsFunc(t.In, func(want any) bool { return equal(found, want) })
	case t.Contains != nil:
		list, isList := found.([]any)
		return isList && slices.ContainsFunc(list, func(item any) bool { return equal(item, t.Contains) })
	case t.eq != nil:
		want, missing := t.eq.raw(v)
		if text, isText := found.(string); isText && len(t.eq.names()) > 0 {
			// An address that an admin typed in another case is the same.
			return missing == "" && strings.EqualFold(text, want)
		}
		return missing == "" && equal(found, want)
	default:
		return equal(found, t.Eq)
	}
}

func (t *headerTest) holds(a answer) bool {
	got := a.Header.Values(t.Name)
	switch {
	case t.Set != nil:
		return (len(got) > 0) == *t.Set
	case t.Eq != "":
		return len(got) == 1 && got[0] == t.Eq
	default:
		items := strings.FieldsFunc(strings.Join(got, ","), func(r rune) bool { return r == ',' || r == ' ' })
		return slices.Contains(items, t.Contains)
	}
}

func typeOf(v any) string {
	switch v.(type) {
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "bool"
	case []any:
		return "array"
	default:
		return "object"
	}
}

// equal compares a value of an answer with one of the file, numbers by value.
func equal(got, want any) bool {
	switch w := want.(type) {
	case int64:
		f, ok := got.(float64)
		return ok && f == float64(w)
	case float64, string, bool:
		return got == w
	}
	return false
}

// segments splits a path: names with dots between, indices in brackets.
func segments(path string) ([]string, bool) {
	if path == "" {
		return nil, true
	}
	var out []string
	for name := range strings.SplitSeq(path, ".") {
		name, rest, indexed := strings.Cut(name, "[")
		if name == "" && (!indexed || len(out) > 0) {
			return nil, false
		}
		if name != "" {
			out = append(out, name)
		}
		for indexed {
			var index string
			if index, rest, indexed = strings.Cut(rest, "]"); !indexed || index == "" || strings.Trim(index, "0123456789") != "" {
				return nil, false
			}
			out = append(out, "["+index)
			if rest == "" {
				break
			}
			if rest, indexed = strings.CutPrefix(rest, "["); !indexed {
				return nil, false
			}
		}
	}
	return out, true
}

// lookup follows segments into v.
func lookup(v any, segments []string) (any, bool) {
	for _, s := range segments {
		if index, ok := strings.CutPrefix(s, "["); ok {
			list, isList := v.([]any)
			i, err := strconv.Atoi(index)
			if !isList || err != nil || i >= len(list) {
				return nil, false
			}
			v = list[i]
			continue
		}
		m, isMap := v.(map[string]any)
		if !isMap {
			return nil, false
		}
		var ok bool
		if v, ok = m[s]; !ok {
			return nil, false
		}
	}
	return v, true
}
