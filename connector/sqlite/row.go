package sqlite

import (
	"database/sql"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

func micros(t time.Time) int64 { return t.UnixMicro() }

func instant(us int64) time.Time { return time.UnixMicro(us).UTC() }

// null is NULL for the empty text.
func null(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// connectorColumns of a connector c. Params come in the same statement, and so
// from the same moment.
const connectorColumns = `c.id, c.external_id, c.name, c.category, c.kind, c.schema_version, c.organization_id,
	c.state, c.active, c.is_default, c.block_pinned, c.no_update, c.pin, c.last_test, c.version,
	c.created_at, c.updated_at, c.deleted_at,
	(SELECT json_group_array(json_object('n', p.name, 'v', p.value, 'i', p.imported, 's', p.secret_version,
		'w', p.writer, 't', p.updated_at))
	FROM connector_params p WHERE p.tenant_id = c.tenant_id AND p.connector_id = c.id)`

// connectorRow is what connectorColumns scan into; all NULL after an outer join
// that found nothing.
type connectorRow struct {
	id, externalID, name, category, kind, organization, state, pin, lastTest, params sql.NullString
	schemaVersion, version, created, updated, deleted                                sql.NullInt64
	active, isDefault, blockPinned, noUpdate                                         sql.NullBool
}

func (r *connectorRow) targets() []any {
	return []any{
		&r.id, &r.externalID, &r.name, &r.category, &r.kind, &r.schemaVersion, &r.organization,
		&r.state, &r.active, &r.isDefault, &r.blockPinned, &r.noUpdate, &r.pin, &r.lastTest, &r.version,
		&r.created, &r.updated, &r.deleted, &r.params,
	}
}

// connector is nil for a row of NULLs.
func (r *connectorRow) connector() (*connector.Connector, error) {
	if !r.id.Valid {
		return nil, nil
	}
	c := &connector.Connector{
		ExternalID: r.externalID.String, Name: r.name.String, Category: providers.Category(r.category.String),
		Kind: providers.Kind(r.kind.String), SchemaVersion: int(r.schemaVersion.Int64), State: connector.State(r.state.String),
		Active: r.active.Bool, Default: r.isDefault.Bool, BlockPinned: r.blockPinned.Bool, NoUpdate: r.noUpdate.Bool,
		Version: r.version.Int64, CreatedAt: instant(r.created.Int64), UpdatedAt: instant(r.updated.Int64),
	}
	if r.deleted.Valid {
		c.DeletedAt = instant(r.deleted.Int64)
	}
	if r.lastTest.Valid {
		c.LastTest = json.RawMessage(r.lastTest.String)
	}
	var rows []paramRow
	err := firstError(
		func() error { return c.ID.UnmarshalText([]byte(r.id.String)) },
		func() error { return c.Organization.UnmarshalText([]byte(r.organization.String)) },
		func() error { return c.Pin.UnmarshalText([]byte(r.pin.String)) },
		func() error { return json.Unmarshal([]byte(r.params.String), &rows) },
		func() error { return decodeParams(c, rows) },
	)
	if err != nil {
		return nil, unreadable(err)
	}
	return c, nil
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// unreadable is for a row that this program did not write.
func unreadable(err error) error {
	return fault.New(fault.Internal, "a stored record cannot be read").WithCause(err)
}

func scanConnector(rows *sql.Rows) (*connector.Connector, error) {
	var r connectorRow
	if err := rows.Scan(r.targets()...); err != nil {
		return nil, err
	}
	return r.connector()
}
