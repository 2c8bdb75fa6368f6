package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

const tenantColumns = `t.id, t.external_id, t.name, t.status, t.no_update, t.revision, t.created_at, t.updated_at,
	(to_jsonb(t) ->> 'purge_at')::timestamptz` // by way of the row, because the schema of the build before has none

func scanTenant(rows pgx.Row) (t connector.Tenant, err error) {
	var id, status string
	var external *string
	var purge *time.Time
	err = rows.Scan(&id, &external, &t.Name, &status, &t.NoUpdate, &t.Revision, &t.CreatedAt, &t.UpdatedAt, &purge)
	if err != nil {
		return t, err
	}
	if purge != nil {
		t.PurgeAt = purge.UTC()
	}
	t.ExternalID, t.Status = text(external), connector.Status(status)
	t.CreatedAt, t.UpdatedAt = t.CreatedAt.UTC(), t.UpdatedAt.UTC()
	t.ID, err = tenant.ParseID(id)
	return t, err
}

const organizationColumns = `o.id, o.external_id, o.name, o.active, o.no_update, o.created_at, o.updated_at`

func scanOrganization(rows pgx.Row) (o connector.Organization, err error) {
	var id string
	var external *string
	if err = rows.Scan(&id, &external, &o.Name, &o.Active, &o.NoUpdate, &o.CreatedAt, &o.UpdatedAt); err != nil {
		return o, err
	}
	o.ExternalID, o.CreatedAt, o.UpdatedAt = text(external), o.CreatedAt.UTC(), o.UpdatedAt.UTC()
	o.ID, err = tenant.ParseOrganizationID(id)
	return o, err
}

// Tenants implements connector.Reader. Only the control plane's role sees any.
func (s *Store) Tenants(ctx context.Context) (list []connector.Tenant, err error) {
	// No tenant_id here: the listing is of all, by a policy of its own.
	err = s.read(ctx, scope{across: acrossTenants}, `SELECT `+tenantColumns+` FROM tenants t ORDER BY t.id`, nil,
		func(rows pgx.Rows) error {
			t, err := scanTenant(rows)
			list = append(list, t)
			return err
		})
	return list, err
}

// Get implements connector.TenantReader.
func (r *reader) Get(ctx context.Context) (t connector.Tenant, err error) {
	err = r.read(ctx, `SELECT `+tenantColumns+` FROM tenants t WHERE t.id = $1`, nil, func(rows pgx.Rows) error {
		t, err = scanTenant(rows)
		return err
	})
	if err == nil && t.ID.IsZero() {
		err = fault.New(fault.NotFound, "there is no such tenant")
	}
	return t, err
}

// Organizations implements connector.TenantReader.
func (r *reader) Organizations(ctx context.Context) (list []connector.Organization, err error) {
	err = r.read(ctx, `SELECT `+organizationColumns+` FROM organizations o WHERE o.tenant_id = $1 ORDER BY o.id`, nil,
		func(rows pgx.Rows) error {
			o, err := scanOrganization(rows)
			list = append(list, o)
			return err
		})
	return list, err
}

// List implements connector.TenantReader.
func (r *reader) List(ctx context.Context, f connector.Filter) (list []connector.Connector, err error) {
	where, args := narrow(f)
	sql := `SELECT ` + connectorColumns + ` FROM connectors c ` + paramsJoin + ` WHERE c.tenant_id = $1` + where
	err = r.read(ctx, sql, args, func(rows pgx.Rows) error {
		c, err := scanConnector(rows)
		if err == nil {
			list = append(list, *c)
		}
		return err
	})
	return list, err
}

// narrow spells a filter; $1 is the tenant.
func narrow(f connector.Filter) (where string, args []any) {
	var b strings.Builder
	and := func(condition string, value any) {
		args = append(args, value)
		fmt.Fprintf(&b, condition, len(args)+1)
	}
	if f.Category != "" {
		and(" AND c.category = $%d", string(f.Category))
	}
	if f.Kind != "" {
		and(" AND c.kind = $%d", string(f.Kind))
	}
	if f.Organization != nil {
		and(" AND coalesce(c.organization_id, '') = $%d", f.Organization.String())
	}
	if f.ExternalID != "" {
		and(" AND c.external_id = $%d", f.ExternalID)
	}
	if !f.IncludeDeleted {
		b.WriteString(" AND c.deleted_at IS NULL")
	}
	if !f.After.IsZero() {
		and(" AND c.id > $%d::uuid", f.After.String())
	}
	b.WriteString(" ORDER BY c.tenant_id, c.id")
	if f.Limit > 0 {
		and(" LIMIT $%d::bigint", int64(f.Limit))
	}
	return b.String(), args
}

func scanConnector(rows pgx.Row) (*connector.Connector, error) {
	var row connectorRow
	if err := rows.Scan(row.targets()...); err != nil {
		return nil, err
	}
	return row.connector()
}

// History implements connector.TenantReader.
func (r *reader) History(ctx context.Context, id connector.ID, before int64, limit int) (list []connector.Revision, err error) {
	err = r.read(ctx, `SELECT h.version, h.revision, h.record::text, h.actor, h.at FROM connector_revisions h
		WHERE h.tenant_id = $1 AND h.connector_id = $2::uuid AND ($3::bigint = 0 OR h.version < $3::bigint)
		ORDER BY h.version DESC LIMIT nullif($4::bigint, 0)`, []any{null(id.String()), max(0, before), int64(max(0, limit))},
		func(rows pgx.Rows) error {
			var v connector.Revision
			var record string
			err := rows.Scan(&v.Version, &v.Revision, &record, &v.Actor, &v.At)
			if err == nil {
				v.At = v.At.UTC()
				v.Connector, err = change.DecodeRecord(record)
			}
			list = append(list, v)
			return err
		})
	return list, err
}

// Audit implements connector.TenantReader.
func (r *reader) Audit(ctx context.Context, f connector.AuditFilter) (list []connector.AuditEntry, err error) {
	where, args := narrowAudit(f)
	// The note is read by way of the row, because the schema of the build before
	// has none.
	err = r.read(ctx, `SELECT a.id, a.at, a.actor, a.action, a.target, a.outcome, a.request_id, a.fields,
		coalesce(to_jsonb(a) ->> 'note', '') FROM audit a WHERE a.tenant_id = $1`+where, args,
		func(rows pgx.Rows) error {
			var e connector.AuditEntry
			err := rows.Scan(&e.ID, &e.At, &e.Actor, &e.Action, &e.Target, &e.Outcome, &e.RequestID, &e.Fields, &e.Note)
			e.At = e.At.UTC()
			list = append(list, e)
			return err
		})
	return list, err
}

// narrowAudit spells a filter; $1 is the tenant.
func narrowAudit(f connector.AuditFilter) (where string, args []any) {
	var b strings.Builder
	and := func(condition string, value any) {
		args = append(args, value)
		fmt.Fprintf(&b, condition, len(args)+1)
	}
	for column, value := range map[string]string{"actor": f.Actor, "target": f.Target, "outcome": f.Outcome, "request_id": f.RequestID} {
		if value != "" {
			and(" AND a."+column+" = $%d", value)
		}
	}
	if prefix, all := strings.CutSuffix(f.Action, "*"); all {
		and(" AND starts_with(a.action, $%d)", prefix)
	} else if f.Action != "" {
		and(" AND a.action = $%d", f.Action)
	}
	if !f.From.IsZero() {
		and(" AND a.at >= $%d", f.From)
	}
	if !f.To.IsZero() {
		and(" AND a.at < $%d", f.To)
	}
	if f.Before > 0 {
		and(" AND a.id < $%d::bigint", f.Before)
	}
	if f.Bound {
		and(` AND (starts_with(a.action, 'organization.') AND a.target = ANY ($%[1]d::text[])
			OR starts_with(a.action, 'connector.') AND a.target IN (SELECT c.id::text FROM connectors c
				WHERE c.tenant_id = $1 AND c.organization_id = ANY ($%[1]d::text[])))`, change.IDs(f.Organizations))
	}
	b.WriteString(" ORDER BY a.tenant_id DESC, a.id DESC")
	if f.Limit > 0 {
		and(" LIMIT $%d::bigint", int64(f.Limit))
	}
	return b.String(), args
}

// Pinned implements connector.TenantReader.
func (r *reader) Pinned(ctx context.Context, id connector.ID, pin connector.Pin) (pinned bool, err error) {
	err = r.read(ctx, `SELECT
		EXISTS (SELECT FROM connectors c WHERE c.tenant_id = $1 AND c.id = $2::uuid AND c.pin = $3)
		OR EXISTS (SELECT FROM connector_revisions h
			WHERE h.tenant_id = $1 AND h.connector_id = $2::uuid AND h.pin = $3)`,
		[]any{null(id.String()), null(pin.String())},
		func(rows pgx.Rows) error { return rows.Scan(&pinned) })
	return pinned, err
}
