package postgres

import (
	"encoding/json"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// connectorColumns needs the aliases c (connectors) and p (paramsJoin).
const connectorColumns = `c.id::text, c.external_id, c.name, c.category, c.kind, c.schema_version,
	c.organization_id, c.state, c.active, c.is_default, c.block_pinned, c.no_update, c.pin, c.last_test::text,
	c.version, c.created_at, c.updated_at, c.deleted_at, p.params::text, p.secrets::text`

// paramsJoin gathers a connector's params into two objects: one row, whatever
// their number, and secrets stay apart from values. Times are microseconds
// since 1970, which no session time zone changes.
const paramsJoin = `LEFT JOIN LATERAL (
	SELECT jsonb_object_agg(p.name, jsonb_build_object('v', p.value, 'w', p.writer, 'i', p.imported,
			'u', (extract(epoch FROM p.updated_at) * 1000000)::bigint)) FILTER (WHERE p.secret_version IS NULL) AS params,
		jsonb_object_agg(p.name, jsonb_build_object('n', p.secret_version, 'w', p.writer,
			'u', (extract(epoch FROM p.updated_at) * 1000000)::bigint)) FILTER (WHERE p.secret_version IS NOT NULL) AS secrets
	FROM connector_params p WHERE p.tenant_id = c.tenant_id AND p.connector_id = c.id) p ON true`

// connectorRow receives connectorColumns; all are null where a join found none.
type connectorRow struct {
	ID, ExternalID, Name, Category, Kind, Organization, State, Pin, LastTest, Params, Secrets *string
	SchemaVersion                                                                             *int
	Active, Default, BlockPinned, NoUpdate                                                    *bool
	Version                                                                                   *int64
	CreatedAt, UpdatedAt, DeletedAt                                                           *time.Time
}

func (r *connectorRow) targets() []any {
	return []any{
		&r.ID, &r.ExternalID, &r.Name, &r.Category, &r.Kind, &r.SchemaVersion,
		&r.Organization, &r.State, &r.Active, &r.Default, &r.BlockPinned, &r.NoUpdate, &r.Pin, &r.LastTest,
		&r.Version, &r.CreatedAt, &r.UpdatedAt, &r.DeletedAt, &r.Params, &r.Secrets,
	}
}

// paramRow is one connector_params row in JSON, both ways.
type paramRow struct {
	Value         json.RawMessage `json:"v,omitempty"`
	Imported      json.RawMessage `json:"i,omitempty"`
	SecretVersion *int64          `json:"n,omitempty"`
	Writer        string          `json:"w"`
	UpdatedAt     int64           `json:"u"`
}

// connector makes the record; nil when the join found none.
func (r *connectorRow) connector() (*connector.Connector, error) {
	if r.ID == nil {
		return nil, nil
	}
	id, err := connector.ParseID(*r.ID)
	if err != nil {
		return nil, err
	}
	c := &connector.Connector{
		ID: id, ExternalID: text(r.ExternalID), Name: *r.Name, Category: providers.Category(*r.Category),
		Kind: providers.Kind(*r.Kind), SchemaVersion: *r.SchemaVersion, State: connector.State(*r.State),
		Active: *r.Active, Default: *r.Default, BlockPinned: *r.BlockPinned, NoUpdate: *r.NoUpdate,
		Version: *r.Version, CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(),
		Params: map[string]connector.Param{}, Secrets: map[string]connector.SecretInfo{},
	}
	if c.Organization, err = organizationOf(r.Organization); err != nil {
		return nil, err
	}
	if r.Pin != nil {
		if c.Pin, err = connector.ParsePin(*r.Pin); err != nil {
			return nil, err
		}
	}
	if r.LastTest != nil {
		c.LastTest = json.RawMessage(*r.LastTest)
	}
	if r.DeletedAt != nil {
		c.DeletedAt = r.DeletedAt.UTC()
	}
	if err := decodeParams(c, text(r.Params), text(r.Secrets)); err != nil {
		return nil, err
	}
	return c, nil
}

func decodeParams(c *connector.Connector, params, secrets string) error {
	var rows map[string]paramRow
	if params != "" {
		if err := json.Unmarshal([]byte(params), &rows); err != nil {
			return err
		}
	}
	for name, row := range rows {
		value, err := change.DecodeValue(string(row.Value))
		if err != nil {
			return err
		}
		imported, err := change.DecodeValue(string(row.Imported))
		if err != nil {
			return err
		}
		c.Params[name] = connector.Param{Value: value, Writer: connector.Writer(row.Writer),
			Imported: imported, UpdatedAt: time.UnixMicro(row.UpdatedAt).UTC()}
	}
	rows = nil
	if secrets != "" {
		if err := json.Unmarshal([]byte(secrets), &rows); err != nil {
			return err
		}
	}
	for name, row := range rows {
		info := connector.SecretInfo{Writer: connector.Writer(row.Writer), UpdatedAt: time.UnixMicro(row.UpdatedAt).UTC()}
		if row.SecretVersion != nil {
			info.Version = *row.SecretVersion
		}
		c.Secrets[name] = info
	}
	return nil
}

func organizationOf(s *string) (tenant.OrganizationID, error) {
	if s == nil {
		return tenant.OrganizationID{}, nil
	}
	return tenant.ParseOrganizationID(*s)
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// null turns the records' "none" into SQL's.
func null(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// encodeParams is decodeParams' inverse.
func encodeParams(c *connector.Connector) (params, secrets map[string]paramRow, err error) {
	params = make(map[string]paramRow, len(c.Params))
	for name, p := range c.Params {
		value, imported, err := change.EncodeParam(p)
		if err != nil {
			return nil, nil, err
		}
		params[name] = paramRow{Value: json.RawMessage(value), Imported: json.RawMessage(imported),
			Writer: string(p.Writer), UpdatedAt: p.UpdatedAt.UnixMicro()}
	}
	secrets = make(map[string]paramRow, len(c.Secrets))
	for name, s := range c.Secrets {
		secrets[name] = paramRow{SecretVersion: &s.Version, Writer: string(s.Writer), UpdatedAt: s.UpdatedAt.UnixMicro()}
	}
	return params, secrets, nil
}
