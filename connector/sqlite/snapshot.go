package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// The resolution statements start at the tenant and join to the left: a missing
// tenant is no row, a missing connector a row of NULLs, and both answers come
// with the facts of the same moment. ?1 tenant, ?2 organization or empty text.
const (
	snapshotHead = `SELECT t.revision, t.status, o.active, g.status, g.grant_version, ` + connectorColumns + `
	FROM tenants t
	LEFT JOIN organizations o ON o.tenant_id = t.id AND o.id = ?2
	LEFT JOIN connectors c ON c.tenant_id = t.id AND `
	snapshotTail = `
	LEFT JOIN oauth_grants g ON g.tenant_id = c.tenant_id AND g.connector_id = c.id
	WHERE t.id = ?1`

	defaultSQL = snapshotHead + `c.id = coalesce(
		(SELECT d.id FROM connectors d WHERE d.tenant_id = ?1 AND coalesce(d.organization_id, '') = ?2
			AND d.category = ?3 AND d.is_default AND d.deleted_at IS NULL),
		(SELECT d.id FROM connectors d WHERE d.tenant_id = ?1 AND coalesce(d.organization_id, '') = ''
			AND d.category = ?3 AND d.is_default AND d.deleted_at IS NULL))` + snapshotTail

	defaultsSQL = snapshotHead + `c.is_default AND c.deleted_at IS NULL
		AND coalesce(c.organization_id, '') IN (?2, '')
		AND (coalesce(c.organization_id, '') = ?2 OR NOT EXISTS (
			SELECT 1 FROM connectors d WHERE d.tenant_id = ?1 AND coalesce(d.organization_id, '') = ?2
				AND d.category = c.category AND d.is_default AND d.deleted_at IS NULL))` + snapshotTail + `
	ORDER BY c.category`

	connectorSQL = snapshotHead + `c.id = ?3 AND c.deleted_at IS NULL
		AND coalesce(c.organization_id, '') IN (?2, '')` + snapshotTail
)

// reader implements connector.TenantReader.
type reader struct {
	store  *Store
	tenant tenant.ID
}

// Tenant implements connector.Reader.
func (s *Store) Tenant(id tenant.ID) connector.TenantReader { return &reader{s, id} }

// Default implements connector.TenantReader.
func (r *reader) Default(ctx context.Context, org tenant.OrganizationID, category providers.Category) (connector.Snapshot, error) {
	return r.one(ctx, defaultSQL, r.tenant.String(), org.String(), string(category))
}

// Connector implements connector.TenantReader.
func (r *reader) Connector(ctx context.Context, org tenant.OrganizationID, id connector.ID) (connector.Snapshot, error) {
	return r.one(ctx, connectorSQL, r.tenant.String(), org.String(), id.String())
}

// Defaults implements connector.TenantReader.
func (r *reader) Defaults(ctx context.Context, org tenant.OrganizationID) ([]connector.Snapshot, error) {
	return r.snapshots(ctx, defaultsSQL, r.tenant.String(), org.String())
}

func (r *reader) one(ctx context.Context, statement string, args ...any) (connector.Snapshot, error) {
	found, err := r.snapshots(ctx, statement, args...)
	if err != nil {
		return connector.Snapshot{}, err
	}
	return found[0], nil
}

// snapshots returns at least one. The clock is read before the rows, so that an
// answer never claims to be younger than it is.
func (r *reader) snapshots(ctx context.Context, statement string, args ...any) ([]connector.Snapshot, error) {
	var found []connector.Snapshot
	at := r.store.now()
	err := r.store.query(ctx, func(rows *sql.Rows) error {
		s, err := scanSnapshot(rows)
		s.At = at
		found = append(found, s)
		return err
	}, statement, args...)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		found = []connector.Snapshot{{At: at}}
	}
	return found, nil
}

func scanSnapshot(rows *sql.Rows) (connector.Snapshot, error) {
	var (
		s            connector.Snapshot
		active       sql.NullBool
		grant        sql.NullString
		grantVersion sql.NullInt64
		row          connectorRow
	)
	err := rows.Scan(append([]any{&s.Revision, &s.Tenant, &active, &grant, &grantVersion}, row.targets()...)...)
	if err != nil {
		return s, err
	}
	s.Grant, s.GrantVersion = connector.GrantStatus(grant.String), grantVersion.Int64
	switch {
	case active.Bool:
		s.Organization = connector.OrganizationActive
	case active.Valid:
		s.Organization = connector.OrganizationInactive
	}
	s.Connector, err = row.connector()
	if s.Connector != nil {
		s.Inherited = s.Connector.Organization.IsZero()
		change.DropCleared(s.Connector)
	}
	return s, err
}

// Revisions implements connector.Reader.
func (s *Store) Revisions(ctx context.Context, ids []tenant.ID) (connector.Revisions, error) {
	r := connector.Revisions{At: s.now(), Revision: make(map[tenant.ID]int64, len(ids))}
	if ids == nil {
		ids = []tenant.ID{} // [], not null
	}
	names, err := json.Marshal(ids)
	if err != nil {
		return r, unreadable(err)
	}
	err = s.query(ctx, func(rows *sql.Rows) error {
		var name string
		var revision int64
		if err := rows.Scan(&name, &revision); err != nil {
			return err
		}
		id, err := tenant.ParseID(name)
		r.Revision[id] = revision
		return err
	}, `SELECT t.id, t.revision FROM tenants t WHERE t.id IN (SELECT j.value FROM json_each(?1) j)`, string(names))
	return r, err
}
