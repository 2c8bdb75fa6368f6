package change

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// EncodeValue spells a canonical value as JSON that DecodeValue reads back with
// its very type: a float always has a point, an integer never. There is no
// exponent, because jsonb keeps a number's digits and scale but expands
// exponents, and no negative zero, which jsonb does not have.
// Errors: fault.InvalidArgument for what is not canonical; nil is not, an unset
// param is an absent one.
func EncodeValue(v any) (string, error) {
	var b bytes.Buffer
	if err := appendValue(&b, v); err != nil {
		return "", err
	}
	return b.String(), nil
}

// EncodeParam spells a param's value and what its last import brought; "" for a
// part that there is not. A param that was cleared has no value.
// Errors: fault.InvalidArgument for one that has neither, and as EncodeValue.
func EncodeParam(p connector.Param) (value, imported string, err error) {
	if p.Value != nil || p.Imported == nil {
		if value, err = EncodeValue(p.Value); err != nil {
			return "", "", err
		}
	}
	if p.Imported != nil {
		imported, err = EncodeValue(p.Imported)
	}
	return value, imported, err
}

func appendValue(b *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case string:
		return appendText(b, v)
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fault.New(fault.InvalidArgument, "a param's number must be finite")
		}
		text := strconv.FormatFloat(v+0, 'f', -1, 64) // -0 + 0 is 0
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		b.WriteString(text)
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := appendValue(b, item); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := appendText(b, key); err != nil {
				return err
			}
			b.WriteByte(':')
			if err := appendValue(b, v[key]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	default:
		return fault.Newf(fault.InvalidArgument, "a param's value cannot be a %T", v)
	}
	return nil
}

// appendText refuses bad bytes: encoding/json would replace them, and another
// value would come back.
func appendText(b *bytes.Buffer, s string) error {
	if err := Text(s); err != nil {
		return err
	}
	text, err := json.Marshal(s)
	b.Write(text)
	return err
}

// DecodeValue is EncodeValue's inverse; null and nothing are nil.
// Errors: fault.Internal, for a row that this program did not write.
func DecodeValue(raw string) (any, error) {
	if raw == "" {
		return nil, nil
	}
	d := json.NewDecoder(strings.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fault.New(fault.Internal, "a stored param is not readable").WithCause(err)
	}
	return canonical(v)
}

func canonical(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			if n, err := v.Int64(); err == nil {
				return n, nil
			}
		}
		f, err := v.Float64()
		if err != nil {
			return nil, fault.New(fault.Internal, "a stored number is not readable").WithCause(err)
		}
		return f, nil
	case []any:
		for i := range v {
			if v[i], err = canonical(v[i]); err != nil {
				return nil, err
			}
		}
	case map[string]any:
		for key := range v {
			if v[key], err = canonical(v[key]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
