package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

const tenantColumns = `t.id, t.external_id, t.name, t.status, t.no_update, t.revision, t.created_at, t.updated_at, t.purge_at`

func scanTenant(rows *sql.Rows) (t connector.Tenant, err error) {
	var id string
	var external sql.NullString
	var created, updated int64
	var purge sql.NullInt64
	if err = rows.Scan(&id, &external, &t.Name, &t.Status, &t.NoUpdate, &t.Revision, &created, &updated, &purge); err != nil {
		return t, err
	}
	if purge.Valid {
		t.PurgeAt = instant(purge.Int64)
	}
	t.ExternalID, t.CreatedAt, t.UpdatedAt = external.String, instant(created), instant(updated)
	if t.ID, err = tenant.ParseID(id); err != nil {
		return t, unreadable(err)
	}
	return t, nil
}

const organizationColumns = `o.id, o.external_id, o.name, o.active, o.no_update, o.created_at, o.updated_at`

func scanOrganization(rows *sql.Rows) (o connector.Organization, err error) {
	var id string
	var external sql.NullString
	var created, updated int64
	if err = rows.Scan(&id, &external, &o.Name, &o.Active, &o.NoUpdate, &created, &updated); err != nil {
		return o, err
	}
	o.ExternalID, o.CreatedAt, o.UpdatedAt = external.String, instant(created), instant(updated)
	if o.ID, err = tenant.ParseOrganizationID(id); err != nil {
		return o, unreadable(err)
	}
	return o, nil
}

// Tenants implements connector.Reader. Its statement names no tenant.
func (s *Store) Tenants(ctx context.Context, f connector.TenantFilter) (list []connector.Tenant, err error) {
	n := narrowing{}
	n.equal("t.status", string(f.Status))
	n.after("t.id", f.After.String())
	if err := n.search(f.Query, "t.id", "t.name"); err != nil {
		return nil, err
	}
	where := n.ordered("t.id", f.Limit)
	err = s.query(ctx, func(rows *sql.Rows) error {
		t, err := scanTenant(rows)
		list = append(list, t)
		return err
	}, `SELECT `+tenantColumns+` FROM tenants t WHERE true`+where, n.args...)
	return list, err
}

// Get implements connector.TenantReader.
func (r *reader) Get(ctx context.Context) (t connector.Tenant, err error) {
	err = r.store.query(ctx, func(rows *sql.Rows) (err error) {
		t, err = scanTenant(rows)
		return err
	}, `SELECT `+tenantColumns+` FROM tenants t WHERE t.id = ?1`, r.tenant.String())
	if err == nil && t.ID.IsZero() {
		err = noTenant()
	}
	return t, err
}

func noTenant() error { return fault.New(fault.NotFound, "there is no such tenant") }

// Organizations implements connector.TenantReader.
func (r *reader) Organizations(ctx context.Context, f connector.OrganizationFilter) (list []connector.Organization, err error) {
	n := narrowing{args: []any{r.tenant.String()}}
	n.flag("o.active", f.Active)
	n.after("o.id", f.After.String())
	if f.Bound {
		if err := n.among("o.id", f.Organizations); err != nil {
			return nil, err
		}
	}
	if err := n.search(f.Query, "o.id", "o.name"); err != nil {
		return nil, err
	}
	where := n.ordered("o.id", f.Limit)
	err = r.store.query(ctx, func(rows *sql.Rows) error {
		o, err := scanOrganization(rows)
		list = append(list, o)
		return err
	}, `SELECT `+organizationColumns+` FROM organizations o WHERE o.tenant_id = ?1`+where, n.args...)
	return list, err
}

// List implements connector.TenantReader.
func (r *reader) List(ctx context.Context, f connector.Filter) (list []connector.Connector, err error) {
	n := narrowing{args: []any{r.tenant.String()}}
	n.equal("c.category", string(f.Category))
	n.equal("c.kind", string(f.Kind))
	n.equal("c.external_id", f.ExternalID)
	n.equal("c.state", string(f.State))
	n.flag("c.is_default", f.Default)
	n.after("c.id", f.After.String())
	if f.Organization != nil {
		n.and("coalesce(c.organization_id, '') = ?%d", f.Organization.String())
	}
	if f.Bound {
		if err := n.among("c.organization_id", f.Organizations); err != nil {
			return nil, err
		}
	}
	switch {
	case f.Deleted:
		n.text.WriteString(" AND c.deleted_at IS NOT NULL")
	case !f.IncludeDeleted:
		n.text.WriteString(" AND c.deleted_at IS NULL")
	}
	if err := n.search(f.Query, "c.name", "c.external_id", "c.kind", "c.id"); err != nil {
		return nil, err
	}
	where := n.ordered("c.id", f.Limit)
	err = r.store.query(ctx, func(rows *sql.Rows) error {
		c, err := scanConnector(rows)
		if err == nil {
			list = append(list, *c)
		}
		return err
	}, `SELECT `+connectorColumns+` FROM connectors c WHERE c.tenant_id = ?1`+where, n.args...)
	return list, err
}

// narrowing spells the conditions of a filter and gathers the statement's values,
// those included that it begins with.
type narrowing struct {
	text strings.Builder
	args []any
}

// and adds a condition on one value; a "%d" in it is the value's place.
func (n *narrowing) and(condition string, value any) {
	n.args = append(n.args, value)
	fmt.Fprintf(&n.text, " AND "+condition, len(n.args))
}

// equal adds a condition that "" doesn't.
func (n *narrowing) equal(column, value string) {
	if value != "" {
		n.and(column+" = ?%d", value)
	}
}

// after adds a keyset's condition; "" begins at the start.
func (n *narrowing) after(column, key string) {
	if key != "" {
		n.and(column+" > ?%d", key)
	}
}

func (n *narrowing) flag(column string, value *bool) {
	if value != nil {
		n.and(column+" = ?%d", *value)
	}
}

// among adds that column is one of organizations.
func (n *narrowing) among(column string, organizations []tenant.OrganizationID) error {
	ids, err := json.Marshal(change.IDs(organizations))
	if err != nil {
		return unreadable(err)
	}
	n.and(column+" IN (SELECT value FROM json_each(?%d))", string(ids))
	return nil
}

// search adds that one of columns holds query, in any case.
func (n *narrowing) search(query string, columns ...string) error {
	if query == "" {
		return nil
	}
	pattern, err := change.SearchGlob(query)
	if err != nil {
		return err
	}
	for i, column := range columns {
		columns[i] = column + " GLOB ?%[1]d"
	}
	n.and("("+strings.Join(columns, " OR ")+")", pattern)
	return nil
}

// ordered is what was added, with an order and at most limit rows (0: all).
func (n *narrowing) ordered(by string, limit int) string {
	n.text.WriteString(" ORDER BY " + by)
	if limit > 0 {
		n.args = append(n.args, limit)
		fmt.Fprintf(&n.text, " LIMIT ?%d", len(n.args))
	}
	return n.text.String()
}

// History implements connector.TenantReader.
func (r *reader) History(ctx context.Context, id connector.ID, before int64, limit int) (list []connector.Revision, err error) {
	err = r.store.query(ctx, func(rows *sql.Rows) error {
		var v connector.Revision
		var text string
		var at int64
		err := rows.Scan(&v.Version, &v.Revision, &text, &v.Actor, &at)
		if err == nil {
			v.At = instant(at)
			v.Connector, err = change.DecodeRecord(text)
		}
		list = append(list, v)
		return err
	}, `SELECT h.version, h.revision, h.record, h.actor, h.at FROM connector_revisions h
		WHERE h.tenant_id = ?1 AND h.connector_id = ?2 AND (?3 = 0 OR h.version < ?3)
		ORDER BY h.version DESC LIMIT ?4`, r.tenant.String(), id.String(), max(0, before), orNoLimit(limit))
	return list, err
}

// orNoLimit is a LIMIT for SQLite, where a negative one is none.
func orNoLimit(n int) int {
	if n <= 0 {
		return -1
	}
	return n
}

// Audit implements connector.TenantReader.
func (r *reader) Audit(ctx context.Context, f connector.AuditFilter) (list []connector.AuditEntry, err error) {
	where, args, err := narrowAudit(r.tenant, f)
	if err != nil {
		return nil, err
	}
	err = r.store.query(ctx, func(rows *sql.Rows) error {
		var e connector.AuditEntry
		var at int64
		var fields string
		err := rows.Scan(&e.ID, &at, &e.Actor, &e.Action, &e.Target, &e.Outcome, &e.RequestID, &fields, &e.Note)
		if err == nil {
			e.At = instant(at)
			err = json.Unmarshal([]byte(fields), &e.Fields)
		}
		list = append(list, e)
		return err
	}, `SELECT a.id, a.at, a.actor, a.action, a.target, a.outcome, a.request_id, a.fields, a.note FROM audit a
		WHERE a.tenant_id = ?1`+where, args...)
	return list, err
}

// narrowAudit spells a filter; ?1 is the tenant.
func narrowAudit(t tenant.ID, f connector.AuditFilter) (where string, args []any, err error) {
	n := narrowing{args: []any{t.String()}}
	n.equal("a.actor", f.Actor)
	n.equal("a.target", f.Target)
	n.equal("a.outcome", f.Outcome)
	n.equal("a.request_id", f.RequestID)
	if prefix, all := strings.CutSuffix(f.Action, "*"); all {
		n.and("substr(a.action, 1, length(?%[1]d)) = ?%[1]d", prefix)
	} else {
		n.equal("a.action", f.Action)
	}
	if !f.From.IsZero() {
		n.and("a.at >= ?%d", micros(f.From))
	}
	if !f.To.IsZero() {
		n.and("a.at < ?%d", micros(f.To))
	}
	if f.Before > 0 {
		n.and("a.id < ?%d", f.Before)
	}
	if f.Bound {
		ids, err := json.Marshal(change.IDs(f.Organizations))
		if err != nil {
			return "", nil, unreadable(err)
		}
		n.and(`(substr(a.action, 1, 13) = 'organization.' AND a.target IN (SELECT value FROM json_each(?%[1]d))
			OR substr(a.action, 1, 10) = 'connector.' AND a.target IN (SELECT c.id FROM connectors c
				WHERE c.tenant_id = ?1 AND c.organization_id IN (SELECT value FROM json_each(?%[1]d))))`, string(ids))
	}
	return n.ordered("a.id DESC", f.Limit), n.args, nil
}

// Pinned implements connector.TenantReader.
func (r *reader) Pinned(ctx context.Context, id connector.ID, pin connector.Pin) (pinned bool, err error) {
	err = r.store.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&pinned) },
		`SELECT EXISTS (SELECT 1 FROM connectors c WHERE c.tenant_id = ?1 AND c.id = ?2 AND c.pin = ?3)
			OR EXISTS (SELECT 1 FROM connector_revisions h WHERE h.tenant_id = ?1 AND h.connector_id = ?2 AND h.pin = ?3)`,
		r.tenant.String(), id.String(), pin.String())
	return pinned, err
}
