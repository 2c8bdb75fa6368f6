package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// tenantTx implements connector.TenantTx.
type tenantTx struct {
	tx *tx
	id tenant.ID
}

// Revision implements connector.TenantTx; 0 for a tenant that is not the change's.
func (t *tenantTx) Revision() int64 { return t.tx.revisions[t.id] }

// named refuses a tenant that the change has not locked.
func (t *tenantTx) named() error {
	if _, locked := t.tx.revisions[t.id]; !locked {
		return fault.New(fault.InvalidArgument, "the change does not name this tenant")
	}
	return nil
}

// query runs a statement whose first argument is the tenant.
func (t *tenantTx) query(ctx context.Context, sql string, args []any, scan func(pgx.Rows) error) error {
	if err := t.named(); err != nil {
		return err
	}
	_, err := t.tx.query(ctx, t.id, sql, append([]any{t.id.String()}, args...), scan)
	return err
}

// UpdateTenant implements connector.TenantTx.
func (t *tenantTx) UpdateTenant(ctx context.Context, fn func(*connector.Tenant) error) error {
	var old connector.Tenant
	err := t.query(ctx, `SELECT `+tenantColumns+` FROM tenants t WHERE t.id = $1`, nil, func(rows pgx.Rows) (err error) {
		old, err = scanTenant(rows)
		return err
	})
	if err != nil {
		return err
	}
	next := old
	if err := fn(&next); err != nil {
		return err
	}
	if err := change.CheckTenantUpdate(&old, &next); err != nil {
		return err
	}
	fields := change.TenantFields(&old, &next)
	if next.PurgeAt.IsZero() && !old.PurgeAt.IsZero() { // before the status, which a purged tenant can't leave
		if err := t.query(ctx, `UPDATE tenants SET purge_at = NULL WHERE id = $1`, nil, nil); err != nil {
			return err
		}
		old.PurgeAt = time.Time{}
	}
	err = t.query(ctx, `UPDATE tenants SET external_id = $2, name = $3, status = $4, no_update = $5,
		updated_at = clock_timestamp() WHERE id = $1`,
		[]any{null(next.ExternalID), next.Name, string(next.Status), next.NoUpdate}, nil)
	if err != nil {
		return err
	}
	if !next.PurgeAt.Equal(old.PurgeAt) { // alone, because the schema of the build before has no such column
		if err := t.query(ctx, `UPDATE tenants SET purge_at = $2 WHERE id = $1`, []any{instantOrNull(next.PurgeAt)}, nil); err != nil {
			return err
		}
	}
	if err := t.tx.audit(ctx, t.id, done("tenant.update", t.id.String(), fields)); err != nil {
		return err
	}
	return t.tx.note(ctx, connector.Message{Tenant: t.id, All: true, Status: next.Status != old.Status})
}

func instantOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Organization implements connector.TenantTx.
func (t *tenantTx) Organization(ctx context.Context, id tenant.OrganizationID) (o connector.Organization, err error) {
	err = t.query(ctx, `SELECT `+organizationColumns+` FROM organizations o WHERE o.tenant_id = $1 AND o.id = $2`,
		[]any{id.String()}, func(rows pgx.Rows) (err error) {
			o, err = scanOrganization(rows)
			return err
		})
	if err == nil && o.ID.IsZero() {
		err = fault.New(fault.NotFound, "there is no such organization")
	}
	return o, err
}

// PutOrganization implements connector.TenantTx.
func (t *tenantTx) PutOrganization(ctx context.Context, o connector.Organization) error {
	if err := change.CheckOrganization(&o); err != nil {
		return err
	}
	var old *connector.Organization
	err := t.query(ctx, `SELECT `+organizationColumns+` FROM organizations o WHERE o.tenant_id = $1 AND o.id = $2 FOR UPDATE`,
		[]any{o.ID.String()}, func(rows pgx.Rows) error {
			found, err := scanOrganization(rows)
			old = &found
			return err
		})
	if err != nil {
		return err
	}
	err = t.query(ctx, `INSERT INTO organizations (tenant_id, id, external_id, name, active, no_update)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, id) DO UPDATE SET external_id = excluded.external_id,
		name = excluded.name, active = excluded.active, no_update = excluded.no_update, updated_at = clock_timestamp()`,
		[]any{o.ID.String(), null(o.ExternalID), o.Name, o.Active, o.NoUpdate}, nil)
	if err != nil {
		return err
	}
	action := "organization.update"
	if old == nil {
		action = "organization.create"
	}
	if err := t.tx.audit(ctx, t.id, done(action, o.ID.String(), change.OrganizationFields(old, &o))); err != nil {
		return err
	}
	return t.tx.note(ctx, connector.Message{Tenant: t.id, Organization: o.ID, Status: old == nil || o.Active != old.Active})
}

// Insert implements connector.TenantTx.
func (t *tenantTx) Insert(ctx context.Context, c connector.Connector) error {
	c = change.Copy(&c)
	c.Version = 1
	if err := change.Check(&c); err != nil {
		return err
	}
	sql := `INSERT INTO connectors (tenant_id, id, external_id, name, category, kind, schema_version,
		organization_id, state, active, is_default, block_pinned, no_update, pin, last_test, version, deleted_at,
		created_at, updated_at)
		VALUES ($1, $2::uuid, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::json, $16, $17, now(), now())
		RETURNING created_at, updated_at`
	err := t.query(ctx, sql, []any{null(c.ID.String()), null(c.ExternalID), c.Name, string(c.Category), string(c.Kind),
		c.SchemaVersion, null(c.Organization.String()), string(c.State), c.Active, c.Default, c.BlockPinned, c.NoUpdate,
		null(c.Pin.String()), null(string(c.LastTest)), c.Version, instant(c.DeletedAt)}, scanTimes(&c))
	if err != nil {
		return err
	}
	return t.written(ctx, "connector.create", nil, &c)
}

// Update implements connector.TenantTx.
func (t *tenantTx) Update(ctx context.Context, id connector.ID, version int64, fn func(*connector.Connector) error) error {
	old, err := t.locked(ctx, id)
	if err != nil {
		return err
	}
	if old.Version != version {
		return stale()
	}
	next := change.Copy(old)
	if err := fn(&next); err != nil {
		return err
	}
	next = change.Copy(&next) // fn may have kept what it put in
	if err := change.CheckUpdate(old, &next); err != nil {
		return err
	}
	return t.replace(ctx, change.Action(old, &next), old, &next)
}

// replace stores next over old, as the next version. fields are what the audit
// names beside what differs.
func (t *tenantTx) replace(ctx context.Context, action string, old, next *connector.Connector, fields ...string) error {
	next.Version, next.CreatedAt = old.Version+1, old.CreatedAt
	err := t.query(ctx, `UPDATE connectors SET external_id = $3, name = $4, schema_version = $5, state = $6,
		active = $7, is_default = $8, block_pinned = $9, no_update = $10, pin = $11, last_test = $12::json,
		version = $13, deleted_at = $14, updated_at = greatest(updated_at, now())
		WHERE tenant_id = $1 AND id = $2::uuid RETURNING created_at, updated_at`,
		[]any{next.ID.String(), null(next.ExternalID), next.Name, next.SchemaVersion, string(next.State),
			next.Active, next.Default, next.BlockPinned, next.NoUpdate, null(next.Pin.String()),
			null(string(next.LastTest)), next.Version, instant(next.DeletedAt)}, scanTimes(next))
	if err != nil {
		return err
	}
	if !next.DeletedAt.IsZero() {
		if err := t.endConsents(ctx, next.ID); err != nil {
			return err
		}
	}
	return t.written(ctx, action, old, next, fields...)
}

// ClearDefault implements connector.TenantTx.
func (t *tenantTx) ClearDefault(ctx context.Context, org tenant.OrganizationID, category providers.Category) (connector.ID, error) {
	old, err := t.find(ctx, `coalesce(c.organization_id, '') = $2 AND c.category = $3
		AND c.is_default AND c.deleted_at IS NULL`, org.String(), string(category))
	if err != nil || old == nil {
		return connector.ID{}, err
	}
	next := change.Copy(old)
	next.Default = false
	return old.ID, t.replace(ctx, "connector.update", old, &next)
}

// LockConnector implements connector.TenantTx.
func (t *tenantTx) LockConnector(ctx context.Context, id connector.ID) error {
	_, err := t.locked(ctx, id)
	return err
}

// locked reads a connector, living or deleted, and locks its row.
func (t *tenantTx) locked(ctx context.Context, id connector.ID) (*connector.Connector, error) {
	c, err := t.find(ctx, `c.id = $2::uuid`, null(id.String()))
	if err == nil && c == nil {
		err = notFound()
	}
	return c, err
}

func (t *tenantTx) find(ctx context.Context, where string, args ...any) (c *connector.Connector, err error) {
	err = t.query(ctx, `SELECT `+connectorColumns+` FROM connectors c `+paramsJoin+`
		WHERE c.tenant_id = $1 AND `+where+` FOR UPDATE OF c`, args, func(rows pgx.Rows) (err error) {
		c, err = scanConnector(rows)
		return err
	})
	return c, err
}

// written completes a connector's write: params, history, audit, outbox.
func (t *tenantTx) written(ctx context.Context, action string, old, c *connector.Connector, fields ...string) error {
	change.Stamp(c)
	if err := t.putParams(ctx, c); err != nil {
		return err
	}
	record, err := change.EncodeRecord(c)
	if err != nil {
		return t.refuse(err)
	}
	err = t.query(ctx, `INSERT INTO connector_revisions (tenant_id, connector_id, version, revision, pin, record, actor)
		VALUES ($1, $2::uuid, $3, $4, $5, $6::jsonb, $7)`,
		[]any{c.ID.String(), c.Version, t.Revision(), null(c.Pin.String()), record, t.tx.change.Actor}, nil)
	if err != nil {
		return err
	}
	if err := t.tx.audit(ctx, t.id, done(action, c.ID.String(), append(fields, change.Fields(old, c)...))); err != nil {
		return err
	}
	return t.noteSlot(ctx, c)
}

// noteSlot leaves the outbox row of what may change a connector's answers.
func (t *tenantTx) noteSlot(ctx context.Context, c *connector.Connector) error {
	m := change.MessageOf(c)
	m.Tenant = t.id
	return t.tx.note(ctx, m)
}

// Audit implements connector.TenantTx.
func (t *tenantTx) Audit(ctx context.Context, e connector.AuditEntry) error {
	if err := change.CheckAudit(&e); err != nil {
		return err
	}
	if err := t.named(); err != nil {
		return err
	}
	return t.tx.audit(ctx, t.id, e)
}

// refuse makes an error of ours as final as a failed statement: the row is
// written already, so fn must not be able to commit after it.
func (t *tenantTx) refuse(err error) error {
	t.tx.failed = err
	return err
}

// paramTableRow is a row for jsonb_to_recordset; absent members become NULL.
type paramTableRow struct {
	Name string `json:"name"`
	paramRow
}

// putParams replaces a connector's params. They are few and always read
// together, so that a diff would save nothing.
func (t *tenantTx) putParams(ctx context.Context, c *connector.Connector) error {
	params, secrets, err := encodeParams(c)
	if err != nil {
		return t.refuse(err)
	}
	rows := []paramTableRow{}
	for name, row := range params {
		rows = append(rows, paramTableRow{name, row})
	}
	for name, row := range secrets {
		rows = append(rows, paramTableRow{name, row})
	}
	encoded, err := json.Marshal(rows)
	if err != nil {
		return t.refuse(fault.New(fault.InvalidArgument, "a param is not storable").WithCause(err))
	}
	id := c.ID.String()
	if err := t.query(ctx, `DELETE FROM connector_params WHERE tenant_id = $1 AND connector_id = $2::uuid`, []any{id}, nil); err != nil {
		return err
	}
	err = t.query(ctx, `INSERT INTO connector_params
		(tenant_id, connector_id, name, value, imported, secret_version, writer, updated_at)
		SELECT $1, $2::uuid, r.name, r.v, r.i, r.n, r.w, timestamptz 'epoch' + r.u * interval '1 microsecond'
		FROM jsonb_to_recordset($3::jsonb) AS r (name text, v jsonb, i jsonb, n bigint, w text, u bigint)`,
		[]any{id, string(encoded)}, nil)
	return err
}

func scanTimes(c *connector.Connector) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		err := rows.Scan(&c.CreatedAt, &c.UpdatedAt)
		c.CreatedAt, c.UpdatedAt = c.CreatedAt.UTC(), c.UpdatedAt.UTC()
		return err
	}
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
