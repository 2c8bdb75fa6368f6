package sqlite

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// encodeValue spells a canonical value as JSON that decodeValue reads back with
// its very type: a number with a point or an exponent is a float64, any other
// an int64. encoding/json would write 2.0 as 2.
func encodeValue(v any) (string, error) {
	var b bytes.Buffer
	if err := writeValue(&b, v); err != nil {
		return "", err
	}
	return b.String(), nil
}

func writeValue(b *bytes.Buffer, v any) error {
	switch v := v.(type) {
	case string:
		return writeString(b, v)
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fault.New(fault.InvalidArgument, "a param's number must be finite")
		}
		s := strconv.FormatFloat(v, 'g', -1, 64)
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		b.WriteString(s)
	case []any:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeValue(b, item); err != nil {
				return err
			}
		}
		b.WriteByte(']')
	case map[string]any:
		return writeMap(b, v)
	default:
		return fault.Newf(fault.InvalidArgument, "a param's value cannot be a %T", v)
	}
	return nil
}

func writeMap(b *bytes.Buffer, m map[string]any) error {
	b.WriteByte('{')
	for i, key := range sortedKeys(m) {
		if i > 0 {
			b.WriteByte(',')
		}
		if err := writeString(b, key); err != nil {
			return err
		}
		b.WriteByte(':')
		if err := writeValue(b, m[key]); err != nil {
			return err
		}
	}
	b.WriteByte('}')
	return nil
}

func writeString(b *bytes.Buffer, s string) error {
	// encoding/json would replace bad bytes, and another value would come back.
	if !utf8.ValidString(s) {
		return fault.New(fault.InvalidArgument, "a param's text must be valid UTF-8")
	}
	text, err := json.Marshal(s)
	b.Write(text)
	return err
}

func decodeValue(s string) (any, error) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return canonical(v)
}

func canonical(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case json.Number:
		if strings.ContainsAny(v.String(), ".eE") {
			return v.Float64()
		}
		return v.Int64()
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

// paramRow is a row of connector_params, as JSON in a reading's column and in a
// history row. Exactly one of Value and Secret is set.
type paramRow struct {
	Name     string           `json:"n"`
	Value    *string          `json:"v,omitempty"` // JSON within JSON: SQLite would respell its numbers
	Imported *string          `json:"i,omitempty"`
	Secret   *int64           `json:"s,omitempty"` // its version
	Writer   connector.Writer `json:"w"`
	At       int64            `json:"t"`
}

func encodeParams(c *connector.Connector) ([]paramRow, error) {
	rows := make([]paramRow, 0, len(c.Params)+len(c.Secrets))
	for _, name := range sortedKeys(c.Params) {
		p := c.Params[name]
		if _, twice := c.Secrets[name]; twice {
			return nil, fault.New(fault.InvalidArgument, "a param is a value or a secret, not both")
		}
		value, err := encodeValue(p.Value)
		if err != nil {
			return nil, err
		}
		row := paramRow{Name: name, Value: &value, Writer: p.Writer, At: micros(p.UpdatedAt)}
		if p.Imported != nil {
			imported, err := encodeValue(p.Imported)
			if err != nil {
				return nil, err
			}
			row.Imported = &imported
		}
		rows = append(rows, row)
	}
	for _, name := range sortedKeys(c.Secrets) {
		s := c.Secrets[name]
		rows = append(rows, paramRow{Name: name, Secret: &s.Version, Writer: s.Writer, At: micros(s.UpdatedAt)})
	}
	return rows, nil
}

func decodeParams(c *connector.Connector, rows []paramRow) (err error) {
	c.Params, c.Secrets = map[string]connector.Param{}, map[string]connector.SecretInfo{}
	for _, row := range rows {
		if row.Secret != nil {
			c.Secrets[row.Name] = connector.SecretInfo{Version: *row.Secret, Writer: row.Writer, UpdatedAt: instant(row.At)}
			continue
		}
		p := connector.Param{Writer: row.Writer, UpdatedAt: instant(row.At)}
		if row.Value == nil {
			return fault.New(fault.Internal, "a stored param has no value")
		}
		if p.Value, err = decodeValue(*row.Value); err != nil {
			return err
		}
		if row.Imported != nil {
			if p.Imported, err = decodeValue(*row.Imported); err != nil {
				return err
			}
		}
		c.Params[row.Name] = p
	}
	return nil
}
