package change

import (
	"encoding/json"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// record is a connector in a history row. Times are microseconds since 1970; of
// a secret there is a version number, never a value.
type record struct {
	ID            connector.ID            `json:"id"`
	ExternalID    string                  `json:"external_id,omitempty"`
	Name          string                  `json:"name"`
	Category      providers.Category      `json:"category"`
	Kind          providers.Kind          `json:"kind"`
	SchemaVersion int                     `json:"schema_version"`
	Organization  tenant.OrganizationID   `json:"organization"`
	State         connector.State         `json:"state"`
	Active        bool                    `json:"active"`
	Default       bool                    `json:"default"`
	BlockPinned   bool                    `json:"block_pinned"`
	NoUpdate      bool                    `json:"no_update"`
	Pin           connector.Pin           `json:"pin"`
	LastTest      string                  `json:"last_test,omitempty"` // text: jsonb would respell the report
	Version       int64                   `json:"version"`
	CreatedAt     int64                   `json:"created_at"`
	UpdatedAt     int64                   `json:"updated_at"`
	DeletedAt     *int64                  `json:"deleted_at,omitempty"`
	Params        map[string]paramRecord  `json:"params"`
	Secrets       map[string]secretRecord `json:"secrets"`
}

type paramRecord struct {
	Value     json.RawMessage  `json:"value,omitempty"` // absent: cleared
	Imported  json.RawMessage  `json:"imported,omitempty"`
	Writer    connector.Writer `json:"writer"`
	UpdatedAt int64            `json:"updated_at"`
}

type secretRecord struct {
	Version   int64            `json:"version"`
	Writer    connector.Writer `json:"writer"`
	UpdatedAt int64            `json:"updated_at"`
}

// EncodeRecord spells a connector that passed Check for its history row.
func EncodeRecord(c *connector.Connector) (string, error) {
	r := record{
		ID: c.ID, ExternalID: c.ExternalID, Name: c.Name, Category: c.Category, Kind: c.Kind,
		SchemaVersion: c.SchemaVersion, Organization: c.Organization, State: c.State, Active: c.Active,
		Default: c.Default, BlockPinned: c.BlockPinned, NoUpdate: c.NoUpdate, Pin: c.Pin, LastTest: string(c.LastTest),
		Version: c.Version, CreatedAt: c.CreatedAt.UnixMicro(), UpdatedAt: c.UpdatedAt.UnixMicro(),
		Params: make(map[string]paramRecord, len(c.Params)), Secrets: make(map[string]secretRecord, len(c.Secrets)),
	}
	if !c.DeletedAt.IsZero() {
		at := c.DeletedAt.UnixMicro()
		r.DeletedAt = &at
	}
	for name, p := range c.Params {
		value, imported, err := EncodeParam(p)
		if err != nil {
			return "", err
		}
		r.Params[name] = paramRecord{Value: json.RawMessage(value), Imported: json.RawMessage(imported),
			Writer: p.Writer, UpdatedAt: p.UpdatedAt.UnixMicro()}
	}
	for name, s := range c.Secrets {
		r.Secrets[name] = secretRecord{Version: s.Version, Writer: s.Writer, UpdatedAt: s.UpdatedAt.UnixMicro()}
	}
	b, err := json.Marshal(r)
	if err != nil {
		return "", fault.New(fault.InvalidArgument, "the record cannot be stored").WithCause(err)
	}
	return string(b), nil
}

// DecodeRecord is EncodeRecord's inverse.
// Errors: fault.Internal, for a row that this program did not write.
func DecodeRecord(text string) (connector.Connector, error) {
	var r record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return connector.Connector{}, fault.New(fault.Internal, "a history row is not readable").WithCause(err)
	}
	c := connector.Connector{
		ID: r.ID, ExternalID: r.ExternalID, Name: r.Name, Category: r.Category, Kind: r.Kind,
		SchemaVersion: r.SchemaVersion, Organization: r.Organization, State: r.State, Active: r.Active,
		Default: r.Default, BlockPinned: r.BlockPinned, NoUpdate: r.NoUpdate, Pin: r.Pin,
		Version: r.Version, CreatedAt: instant(r.CreatedAt), UpdatedAt: instant(r.UpdatedAt),
		Params:  make(map[string]connector.Param, len(r.Params)),
		Secrets: make(map[string]connector.SecretInfo, len(r.Secrets)),
	}
	if r.LastTest != "" {
		c.LastTest = json.RawMessage(r.LastTest)
	}
	if r.DeletedAt != nil {
		c.DeletedAt = instant(*r.DeletedAt)
	}
	for name, row := range r.Params {
		value, err := DecodeValue(string(row.Value))
		if err != nil {
			return c, err
		}
		imported, err := DecodeValue(string(row.Imported))
		if err != nil {
			return c, err
		}
		c.Params[name] = connector.Param{Value: value, Imported: imported, Writer: row.Writer, UpdatedAt: instant(row.UpdatedAt)}
	}
	for name, row := range r.Secrets {
		c.Secrets[name] = connector.SecretInfo{Version: row.Version, Writer: row.Writer, UpdatedAt: instant(row.UpdatedAt)}
	}
	return c, nil
}

func instant(us int64) time.Time { return time.UnixMicro(us).UTC() }
