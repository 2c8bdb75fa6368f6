package postgres

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

// Param values keep their Go type through jsonb by their spelling: a float
// always has a point, an integer never. jsonb numbers are exact decimals that
// keep their scale, so 5.0 comes back as 5.0; exponents would be expanded.

func encodeValue(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	if err := appendValue(&b, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func appendValue(b *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case string:
		text, err := json.Marshal(v)
		if err != nil {
			return fault.New(fault.InvalidArgument, "a param's text is not valid").WithCause(err)
		}
		b.Write(text)
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fault.New(fault.InvalidArgument, "a param's number must be finite")
		}
		text := strconv.FormatFloat(v, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		b.WriteString(text)
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := appendValue(b, e); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case map[string]any:
		b.WriteByte('{')
		first := true
		for k, e := range v {
			if !first {
				b.WriteByte(',')
			}
			first = false
			if err := appendValue(b, k); err != nil {
				return err
			}
			b.WriteByte(':')
			if err := appendValue(b, e); err != nil {
				return err
			}
		}
		b.WriteByte('}')
	default:
		// nil too: an unset param is an absent one.
		return fault.New(fault.InvalidArgument, "a param's value is not in canonical form")
	}
	return nil
}

// decodeValue is encodeValue's inverse; null and nothing are nil.
func decodeValue(raw json.RawMessage) (any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
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
		for k := range v {
			if v[k], err = canonical(v[k]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
