package sqlite

import (
	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
)

// paramRow is a row of connector_params, as JSON in a reading's column and in a
// history row. Value and Secret are not
// set both; with neither, a param was cleared.
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
		value, imported, err := change.EncodeParam(p)
		if err != nil {
			return nil, err
		}
		rows = append(rows, paramRow{Name: name, Value: part(value), Imported: part(imported), Writer: p.Writer, At: micros(p.UpdatedAt)})
	}
	for _, name := range sortedKeys(c.Secrets) {
		s := c.Secrets[name]
		rows = append(rows, paramRow{Name: name, Secret: &s.Version, Writer: s.Writer, At: micros(s.UpdatedAt)})
	}
	return rows, nil
}

// part is a column of what change.EncodeParam spells.
func part(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func decodeParams(c *connector.Connector, rows []paramRow) (err error) {
	c.Params, c.Secrets = map[string]connector.Param{}, map[string]connector.SecretInfo{}
	for _, row := range rows {
		if row.Secret != nil {
			c.Secrets[row.Name] = connector.SecretInfo{Version: *row.Secret, Writer: row.Writer, UpdatedAt: instant(row.At)}
			continue
		}
		p := connector.Param{Writer: row.Writer, UpdatedAt: instant(row.At)}
		if row.Value != nil {
			if p.Value, err = change.DecodeValue(*row.Value); err != nil {
				return err
			}
		}
		if row.Imported != nil {
			if p.Imported, err = change.DecodeValue(*row.Imported); err != nil {
				return err
			}
		}
		c.Params[row.Name] = p
	}
	return nil
}
