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
func (s *Store) Tenants(ctx context.Context, f connector.TenantFilter) (list []connector.Tenant, err error) {
	sql, args, err := tenantsSQL(f)
	if err != nil {
		return nil, err
	}
	err = s.read(ctx, scope{across: acrossTenants}, sql, args, func(rows pgx.Rows) error {
		t, err := scanTenant(rows)
		list = append(list, t)
		return err
	})
	return list, err
}

// tenantsSQL has no tenant_id: the listing is of all, by a policy of its own.
func tenantsSQL(f connector.TenantFilter) (sql string, args []any, err error) {
	n := narrowing{}
	n.equal("t.status", string(f.Status))
	n.after("t.id", f.After.String())
	err = n.search(f.Query, "t.id", "t.name")
	return `SELECT ` + tenantColumns + ` FROM tenants t WHERE true` + n.ordered("t.id", f.Limit), n.args, err
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
func (r *reader) Organizations(ctx context.Context, f connector.OrganizationFilter) (list []connector.Organization, err error) {
	sql, args, err := organizationsSQL(f)
	if err != nil {
		return nil, err
	}
	err = r.read(ctx, sql, args, func(rows pgx.Rows) error {
		o, err := scanOrganization(rows)
		list = append(list, o)
		return err
	})
	return list, err
}

// organizationsSQL spells a filter; $1 is the tenant.
func organizationsSQL(f connector.OrganizationFilter) (sql string, args []any, err error) {
	n := narrowing{before: 1}
	n.flag("o.active", f.Active)
	n.after("o.id", f.After.String())
	if f.Bound {
		n.and("o.id = ANY ($%d::text[])", change.IDs(f.Organizations))
	}
	err = n.search(f.Query, "o.id", "o.name")
	return `SELECT ` + organizationColumns + ` FROM organizations o WHERE o.tenant_id = $1` + n.ordered("o.tenant_id, o.id", f.Limit), n.args, err
}

// List implements connector.TenantReader.
func (r *reader) List(ctx context.Context, f connector.Filter) (list []connector.Connector, err error) {
	sql, args, err := listSQL(f)
	if err != nil {
		return nil, err
	}
	err = r.read(ctx, sql, args, func(rows pgx.Rows) error {
		c, err := scanConnector(rows)
		if err == nil {
			list = append(list, *c)
		}
		return err
	})
	return list, err
}

// listSQL spells a filter; $1 is the tenant.
func listSQL(f connector.Filter) (sql string, args []any, err error) {
	n := narrowing{before: 1}
	n.equal("c.category", string(f.Category))
	n.equal("c.kind", string(f.Kind))
	n.equal("c.external_id", f.ExternalID)
	n.equal("c.state", string(f.State))
	n.flag("c.is_default", f.Default)
	if f.Organization != nil {
		n.and("coalesce(c.organization_id, '') = $%d", f.Organization.String())
	}
	if f.Bound {
		n.and("c.organization_id = ANY ($%d::text[])", change.IDs(f.Organizations))
	}
	switch {
	case f.Deleted:
		n.text.WriteString(" AND c.deleted_at IS NOT NULL")
	case !f.IncludeDeleted:
		n.text.WriteString(" AND c.deleted_at IS NULL")
	}
	if !f.After.IsZero() {
		n.and("c.id > $%d::uuid", f.After.String())
	}
	err = n.search(f.Query, "c.name", "c.external_id", "c.kind", "c.id::text")
	return `SELECT ` + connectorColumns + ` FROM connectors c ` + paramsJoin + ` WHERE c.tenant_id = $1` +
		n.ordered("c.tenant_id, c.id", f.Limit), n.args, err
}

// narrowing spells the conditions of a filter and gathers their values.
type narrowing struct {
	before int // values of the statement that come first
	text   strings.Builder
	args   []any
}

// and adds a condition on one value; a "%d" in it is the value's place.
func (n *narrowing) and(condition string, value any) {
	n.args = append(n.args, value)
	fmt.Fprintf(&n.text, " AND "+condition, n.before+len(n.args))
}

// equal adds a condition that "" doesn't.
func (n *narrowing) equal(column, value string) {
	if value != "" {
		n.and(column+" = $%d", value)
	}
}

// after adds a keyset's condition; "" begins at the start.
func (n *narrowing) after(column, key string) {
	if key != "" {
		n.and(column+" > $%d", key)
	}
}

func (n *narrowing) flag(column string, value *bool) {
	if value != nil {
		n.and(column+" = $%d", *value)
	}
}

// search adds that one of columns holds query, in any case.
func (n *narrowing) search(query string, columns ...string) error {
	if query == "" {
		return nil
	}
	pattern, err := change.SearchRegexp(query)
	if err != nil {
		return err
	}
	for i, column := range columns {
		columns[i] = column + " ~ $%[1]d"
	}
	n.and("("+strings.Join(columns, " OR ")+")", pattern)
	return nil
}

// ordered is what was added, with an order and at most limit rows (0: all).
func (n *narrowing) ordered(by string, limit int) string {
	n.text.WriteString(" ORDER BY " + by)
	if limit > 0 {
		n.args = append(n.args, int64(limit))
		fmt.Fprintf(&n.text, " LIMIT $%d::bigint", n.before+len(n.args))
	}
	return n.text.String()
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
	sql, args := trailSQL(f)
	err = r.read(ctx, sql, args, func(rows pgx.Rows) error {
		var e connector.AuditEntry
		err := rows.Scan(&e.ID, &e.At, &e.Actor, &e.Action, &e.Target, &e.Outcome, &e.RequestID, &e.Fields, &e.Note)
		e.At = e.At.UTC()
		list = append(list, e)
		return err
	})
	return list, err
}

// trailSQL spells a filter; $1 is the tenant.
func trailSQL(f connector.AuditFilter) (sql string, args []any) {
	n := narrowing{before: 1}
	n.equal("a.actor", f.Actor)
	n.equal("a.target", f.Target)
	n.equal("a.outcome", f.Outcome)
	n.equal("a.request_id", f.RequestID)
	if prefix, all := strings.CutSuffix(f.Action, "*"); all {
		n.and("starts_with(a.action, $%d)", prefix)
	} else {
		n.equal("a.action", f.Action)
	}
	if !f.From.IsZero() {
		n.and("a.at >= $%d", f.From)
	}
	if !f.To.IsZero() {
		n.and("a.at < $%d", f.To)
	}
	if f.Before > 0 {
		n.and("a.id < $%d::bigint", f.Before)
	}
	if f.Bound {
		n.and(`(starts_with(a.action, 'organization.') AND a.target = ANY ($%[1]d::text[])
			OR starts_with(a.action, 'connector.') AND a.target IN (SELECT c.id::text FROM connectors c
				WHERE c.tenant_id = $1 AND c.organization_id = ANY ($%[1]d::text[])))`, change.IDs(f.Organizations))
	}
	return `SELECT a.id, a.at, a.actor, a.action, a.target, a.outcome, a.request_id, a.fields, a.note
		FROM audit a WHERE a.tenant_id = $1` + n.ordered("a.tenant_id DESC, a.id DESC", f.Limit), n.args
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
