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

// Tenants implements connector.Reader. It is the one statement that names no
// tenant.
func (s *Store) Tenants(ctx context.Context) (list []connector.Tenant, err error) {
	err = s.query(ctx, func(rows *sql.Rows) error {
		t, err := scanTenant(rows)
		list = append(list, t)
		return err
	}, `SELECT `+tenantColumns+` FROM tenants t ORDER BY t.id`)
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
func (r *reader) Organizations(ctx context.Context) (list []connector.Organization, err error) {
	err = r.store.query(ctx, func(rows *sql.Rows) error {
		o, err := scanOrganization(rows)
		list = append(list, o)
		return err
	}, `SELECT `+organizationColumns+` FROM organizations o WHERE o.tenant_id = ?1 ORDER BY o.id`, r.tenant.String())
	return list, err
}

// List implements connector.TenantReader.
func (r *reader) List(ctx context.Context, f connector.Filter) (list []connector.Connector, err error) {
	where, args := narrow(f)
	err = r.store.query(ctx, func(rows *sql.Rows) error {
		c, err := scanConnector(rows)
		if err == nil {
			list = append(list, *c)
		}
		return err
	}, `SELECT `+connectorColumns+` FROM connectors c WHERE c.tenant_id = ?1`+where,
		append([]any{r.tenant.String()}, args...)...)
	return list, err
}

// narrow spells a filter; ?1 is the tenant.
func narrow(f connector.Filter) (where string, args []any) {
	var b strings.Builder
	and := func(condition string, value any) {
		args = append(args, value)
		fmt.Fprintf(&b, condition, len(args)+1)
	}
	if f.Category != "" {
		and(" AND c.category = ?%d", string(f.Category))
	}
	if f.Kind != "" {
		and(" AND c.kind = ?%d", string(f.Kind))
	}
	if f.Organization != nil {
		and(" AND coalesce(c.organization_id, '') = ?%d", f.Organization.String())
	}
	if f.ExternalID != "" {
		and(" AND c.external_id = ?%d", f.ExternalID)
	}
	if !f.After.IsZero() {
		and(" AND c.id > ?%d", f.After.String())
	}
	if !f.IncludeDeleted {
		b.WriteString(" AND c.deleted_at IS NULL")
	}
	b.WriteString(" ORDER BY c.id")
	if f.Limit > 0 {
		and(" LIMIT ?%d", f.Limit)
	}
	return b.String(), args
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
	where, args, err := narrowAudit(f)
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
		WHERE a.tenant_id = ?1`+where, append([]any{r.tenant.String()}, args...)...)
	return list, err
}

// narrowAudit spells a filter; ?1 is the tenant.
func narrowAudit(f connector.AuditFilter) (where string, args []any, err error) {
	var b strings.Builder
	and := func(condition string, value any) {
		args = append(args, value)
		fmt.Fprintf(&b, condition, len(args)+1)
	}
	for column, value := range map[string]string{"actor": f.Actor, "target": f.Target, "outcome": f.Outcome, "request_id": f.RequestID} {
		if value != "" {
			and(" AND a."+column+" = ?%d", value)
		}
	}
	if prefix, all := strings.CutSuffix(f.Action, "*"); all {
		and(" AND substr(a.action, 1, length(?%[1]d)) = ?%[1]d", prefix)
	} else if f.Action != "" {
		and(" AND a.action = ?%d", f.Action)
	}
	if !f.From.IsZero() {
		and(" AND a.at >= ?%d", micros(f.From))
	}
	if !f.To.IsZero() {
		and(" AND a.at < ?%d", micros(f.To))
	}
	if f.Before > 0 {
		and(" AND a.id < ?%d", f.Before)
	}
	if f.Bound {
		ids, err := json.Marshal(change.IDs(f.Organizations))
		if err != nil {
			return "", nil, unreadable(err)
		}
		and(` AND (substr(a.action, 1, 13) = 'organization.' AND a.target IN (SELECT value FROM json_each(?%[1]d))
			OR substr(a.action, 1, 10) = 'connector.' AND a.target IN (SELECT c.id FROM connectors c
				WHERE c.tenant_id = ?1 AND c.organization_id IN (SELECT value FROM json_each(?%[1]d))))`, string(ids))
	}
	b.WriteString(" ORDER BY a.id DESC")
	if f.Limit > 0 {
		and(" LIMIT ?%d", f.Limit)
	}
	return b.String(), args, nil
}

// Pinned implements connector.TenantReader.
func (r *reader) Pinned(ctx context.Context, id connector.ID, pin connector.Pin) (pinned bool, err error) {
	err = r.store.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&pinned) },
		`SELECT EXISTS (SELECT 1 FROM connectors c WHERE c.tenant_id = ?1 AND c.id = ?2 AND c.pin = ?3)
			OR EXISTS (SELECT 1 FROM connector_revisions h WHERE h.tenant_id = ?1 AND h.connector_id = ?2 AND h.pin = ?3)`,
		r.tenant.String(), id.String(), pin.String())
	return pinned, err
}
