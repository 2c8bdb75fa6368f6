package postgres

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// The resolution statements start at the tenant and join to the left, so that a
// missing tenant is no row at all and a missing connector is a row of nulls:
// both answers come with the same statement. $1 tenant, $2 organization or empty text.
const (
	snapshotHead = `SELECT t.revision, t.status, o.active, g.status, g.grant_version, ` + connectorColumns + `
	FROM tenants t
	LEFT JOIN organizations o ON o.tenant_id = t.id AND o.id = $2
	LEFT JOIN connectors c ON c.tenant_id = t.id AND `
	snapshotTail = `
	LEFT JOIN oauth_grants g ON g.tenant_id = c.tenant_id AND g.connector_id = c.id
	` + paramsJoin + `
	WHERE t.id = $1`

	// coalesce asks for the tenant-wide default only where there is no own one:
	// two index lookups at most, and nothing to sort.
	defaultSQL = snapshotHead + `c.id = coalesce(
		(SELECT d.id FROM connectors d WHERE d.tenant_id = $1 AND coalesce(d.organization_id, '') = $2
			AND d.category = $3 AND d.is_default AND d.deleted_at IS NULL),
		(SELECT d.id FROM connectors d WHERE d.tenant_id = $1 AND coalesce(d.organization_id, '') = ''
			AND d.category = $3 AND d.is_default AND d.deleted_at IS NULL))` + snapshotTail

	defaultsSQL = snapshotHead + `c.is_default AND c.deleted_at IS NULL
		AND coalesce(c.organization_id, '') IN ($2, '')
		AND (coalesce(c.organization_id, '') = $2 OR NOT EXISTS (
			SELECT FROM connectors d WHERE d.tenant_id = $1 AND coalesce(d.organization_id, '') = $2
				AND d.category = c.category AND d.is_default AND d.deleted_at IS NULL))` + snapshotTail

	connectorSQL = snapshotHead + `c.id = $3::uuid AND c.deleted_at IS NULL
		AND coalesce(c.organization_id, '') IN ($2, '')` + snapshotTail

	revisionsSQL = `SELECT t.id, t.revision FROM tenants t WHERE t.id = ANY ($1::text[])`
)

// reader implements connector.TenantReader.
type reader struct {
	store  *Store
	tenant tenant.ID
}

// Tenant implements connector.Reader.
func (s *Store) Tenant(id tenant.ID) connector.TenantReader { return &reader{s, id} }

// read runs a statement whose first argument is the tenant.
func (r *reader) read(ctx context.Context, sql string, args []any, scan func(pgx.Rows) error) error {
	return r.store.read(ctx, scope{tenant: r.tenant}, sql, append([]any{r.tenant.String()}, args...), scan)
}

// Default implements connector.TenantReader.
func (r *reader) Default(ctx context.Context, org tenant.OrganizationID, category providers.Category) (connector.Snapshot, error) {
	return r.one(ctx, defaultSQL, org.String(), string(category))
}

// Connector implements connector.TenantReader.
func (r *reader) Connector(ctx context.Context, org tenant.OrganizationID, id connector.ID) (connector.Snapshot, error) {
	return r.one(ctx, connectorSQL, org.String(), null(id.String()))
}

// Defaults implements connector.TenantReader.
func (r *reader) Defaults(ctx context.Context, org tenant.OrganizationID) ([]connector.Snapshot, error) {
	found, err := r.snapshots(ctx, defaultsSQL, org.String())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(found, func(a, b connector.Snapshot) int {
		return strings.Compare(categoryOf(a), categoryOf(b))
	})
	return found, nil
}

func categoryOf(s connector.Snapshot) string {
	if s.Connector == nil {
		return ""
	}
	return string(s.Connector.Category)
}

func (r *reader) one(ctx context.Context, sql string, args ...any) (connector.Snapshot, error) {
	found, err := r.snapshots(ctx, sql, args...)
	if err != nil {
		return connector.Snapshot{}, err
	}
	return found[0], nil
}

// snapshots returns at least one.
func (r *reader) snapshots(ctx context.Context, sql string, args ...any) ([]connector.Snapshot, error) {
	r.store.reads.Add(1)
	var found []connector.Snapshot
	var at time.Time
	err := r.store.readWithClock(ctx, scope{tenant: r.tenant}, &at, sql,
		append([]any{r.tenant.String()}, args...), func(rows pgx.Rows) error {
			s, err := scanSnapshot(rows)
			s.At = at
			found = append(found, s)
			return err
		})
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		found = []connector.Snapshot{{At: at}}
	}
	return found, nil
}

func scanSnapshot(rows pgx.Rows) (connector.Snapshot, error) {
	var (
		s            connector.Snapshot
		status       string
		organization *bool
		grant        *string
		grantVersion *int64
		row          connectorRow
	)
	err := rows.Scan(append([]any{&s.Revision, &status, &organization, &grant, &grantVersion}, row.targets()...)...)
	if err != nil {
		return s, err
	}
	s.Tenant, s.Grant = connector.Status(status), connector.GrantStatus(text(grant))
	if grantVersion != nil {
		s.GrantVersion = *grantVersion
	}
	if organization != nil {
		s.Organization = connector.OrganizationInactive
		if *organization {
			s.Organization = connector.OrganizationActive
		}
	}
	if s.Connector, err = row.connector(); err != nil {
		return s, err
	}
	if s.Connector != nil {
		s.Inherited = s.Connector.Organization.IsZero()
		change.DropCleared(s.Connector)
	}
	return s, nil
}

// Revisions implements connector.Reader.
func (s *Store) Revisions(ctx context.Context, ids []tenant.ID) (connector.Revisions, error) {
	s.revisionReads.Add(1)
	return s.revisions(ctx, ids)
}

func (s *Store) revisions(ctx context.Context, ids []tenant.ID) (connector.Revisions, error) {
	r := connector.Revisions{Revision: make(map[tenant.ID]int64, len(ids))}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = id.String()
	}
	err := s.readWithClock(ctx, scope{tenants: ids}, &r.At,
		revisionsSQL, []any{names},
		func(rows pgx.Rows) error {
			var name string
			var revision int64
			if err := rows.Scan(&name, &revision); err != nil {
				return err
			}
			id, err := tenant.ParseID(name)
			r.Revision[id] = revision
			return err
		})
	return r, err
}
