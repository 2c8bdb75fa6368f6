package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

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

// query runs a statement whose ?1 is the tenant.
func (t *tenantTx) query(ctx context.Context, scan func(*sql.Rows) error, statement string, args ...any) (int, error) {
	if err := t.named(); err != nil {
		return 0, err
	}
	return t.tx.query(ctx, scan, statement, append([]any{t.id.String()}, args...)...)
}

func (t *tenantTx) exec(ctx context.Context, statement string, args ...any) error {
	if err := t.named(); err != nil {
		return err
	}
	return t.tx.exec(ctx, statement, append([]any{t.id.String()}, args...)...)
}

// UpdateTenant implements connector.TenantTx.
func (t *tenantTx) UpdateTenant(ctx context.Context, fn func(*connector.Tenant) error) error {
	var old connector.Tenant
	_, err := t.query(ctx, func(rows *sql.Rows) (err error) {
		old, err = scanTenant(rows)
		return err
	}, `SELECT `+tenantColumns+` FROM tenants t WHERE t.id = ?1`)
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
	var purge any
	if !next.PurgeAt.IsZero() {
		purge = micros(next.PurgeAt)
	}
	err = t.exec(ctx, `UPDATE tenants SET external_id = ?2, name = ?3, status = ?4, no_update = ?5,
		updated_at = max(updated_at, ?6), purge_at = ?7 WHERE id = ?1`,
		null(next.ExternalID), next.Name, string(next.Status), next.NoUpdate, micros(t.tx.now), purge)
	if err != nil {
		return err
	}
	if err := t.tx.audit(ctx, t.id, done("tenant.update", t.id.String(), change.TenantFields(&old, &next))); err != nil {
		return err
	}
	return t.tx.note(ctx, connector.Message{Tenant: t.id, All: true, Status: next.Status != old.Status})
}

// Organization implements connector.TenantTx.
func (t *tenantTx) Organization(ctx context.Context, id tenant.OrganizationID) (o connector.Organization, err error) {
	n, err := t.query(ctx, func(rows *sql.Rows) (err error) {
		o, err = scanOrganization(rows)
		return err
	}, `SELECT `+organizationColumns+` FROM organizations o WHERE o.tenant_id = ?1 AND o.id = ?2`, id.String())
	if err == nil && n == 0 {
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
	_, err := t.query(ctx, func(rows *sql.Rows) error {
		found, err := scanOrganization(rows)
		old = &found
		return err
	}, `SELECT `+organizationColumns+` FROM organizations o WHERE o.tenant_id = ?1 AND o.id = ?2`, o.ID.String())
	if err != nil {
		return err
	}
	err = t.exec(ctx, `INSERT INTO organizations (tenant_id, id, external_id, name, active, no_update, created_at, updated_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7) ON CONFLICT (tenant_id, id) DO UPDATE SET external_id = excluded.external_id,
		name = excluded.name, active = excluded.active, no_update = excluded.no_update,
		updated_at = max(updated_at, excluded.updated_at)`,
		o.ID.String(), null(o.ExternalID), o.Name, o.Active, o.NoUpdate, micros(t.tx.now))
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
	c.Version, c.CreatedAt, c.UpdatedAt = 1, t.tx.now, t.tx.now
	if err := change.Check(&c); err != nil {
		return err
	}
	err := t.exec(ctx, `INSERT INTO connectors (tenant_id, id, external_id, name, category, kind, schema_version,
		organization_id, state, active, is_default, block_pinned, no_update, pin, last_test, version, deleted_at,
		created_at, updated_at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?18)`,
		c.ID.String(), null(c.ExternalID), c.Name, string(c.Category), string(c.Kind), c.SchemaVersion,
		null(c.Organization.String()), string(c.State), c.Active, c.Default, c.BlockPinned, c.NoUpdate,
		null(c.Pin.String()), null(string(c.LastTest)), c.Version, nullTime(c.DeletedAt), micros(c.CreatedAt))
	if err != nil {
		return err
	}
	return t.written(ctx, "connector.create", nil, &c)
}

// Update implements connector.TenantTx.
func (t *tenantTx) Update(ctx context.Context, id connector.ID, version int64, fn func(*connector.Connector) error) error {
	old, err := t.present(ctx, id)
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
	next.Version, next.CreatedAt, next.UpdatedAt = old.Version+1, old.CreatedAt, t.tx.now
	if next.UpdatedAt.Before(old.UpdatedAt) { // the clock went back
		next.UpdatedAt = old.UpdatedAt
	}
	err := t.exec(ctx, `UPDATE connectors SET external_id = ?3, name = ?4, schema_version = ?5, state = ?6,
		active = ?7, is_default = ?8, block_pinned = ?9, no_update = ?10, pin = ?11, last_test = ?12,
		version = ?13, deleted_at = ?14, updated_at = ?15
		WHERE tenant_id = ?1 AND id = ?2`,
		next.ID.String(), null(next.ExternalID), next.Name, next.SchemaVersion, string(next.State),
		next.Active, next.Default, next.BlockPinned, next.NoUpdate, null(next.Pin.String()),
		null(string(next.LastTest)), next.Version, nullTime(next.DeletedAt), micros(next.UpdatedAt))
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
	old, err := t.find(ctx, `coalesce(c.organization_id, '') = ?2 AND c.category = ?3
		AND c.is_default AND c.deleted_at IS NULL`, org.String(), string(category))
	if err != nil || old == nil {
		return connector.ID{}, err
	}
	next := change.Copy(old)
	next.Default = false
	return old.ID, t.replace(ctx, "connector.update", old, &next)
}

// LockConnector implements connector.TenantTx. The transaction holds the whole
// file already; what is left is to say whether there is such a connector.
func (t *tenantTx) LockConnector(ctx context.Context, id connector.ID) error {
	n, err := t.query(ctx, nil, `SELECT c.id FROM connectors c WHERE c.tenant_id = ?1 AND c.id = ?2`, id.String())
	if err == nil && n == 0 {
		err = noConnector()
	}
	return err
}

// present reads a connector, living or deleted.
func (t *tenantTx) present(ctx context.Context, id connector.ID) (*connector.Connector, error) {
	c, err := t.find(ctx, `c.id = ?2`, id.String())
	if err == nil && c == nil {
		err = noConnector()
	}
	return c, err
}

func (t *tenantTx) find(ctx context.Context, where string, args ...any) (c *connector.Connector, err error) {
	_, err = t.query(ctx, func(rows *sql.Rows) (err error) {
		c, err = scanConnector(rows)
		return err
	}, `SELECT `+connectorColumns+` FROM connectors c WHERE c.tenant_id = ?1 AND `+where, args...)
	return c, err
}

// written completes a connector's write: params, history, audit, outbox. What
// it refuses is final for the transaction, because the row is written already.
func (t *tenantTx) written(ctx context.Context, action string, old, c *connector.Connector, fields ...string) error {
	change.Stamp(c)
	params, err := encodeParams(c)
	if err != nil {
		return t.tx.fail(err)
	}
	if err := t.putParams(ctx, c.ID, params); err != nil {
		return err
	}
	text, err := change.EncodeRecord(c)
	if err != nil {
		return t.tx.fail(err)
	}
	err = t.exec(ctx, `INSERT INTO connector_revisions (tenant_id, connector_id, version, revision, pin, record, actor, at)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)`,
		c.ID.String(), c.Version, t.Revision(), null(c.Pin.String()), text, t.tx.change.Actor, micros(t.tx.now))
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

// putParams replaces a connector's params. They are few and always read
// together, so that a diff would save nothing.
func (t *tenantTx) putParams(ctx context.Context, id connector.ID, rows []paramRow) error {
	list, err := json.Marshal(rows)
	if err != nil {
		return t.tx.fail(fault.New(fault.InvalidArgument, "a param cannot be stored").WithCause(err))
	}
	err = t.exec(ctx, `DELETE FROM connector_params WHERE tenant_id = ?1 AND connector_id = ?2`, id.String())
	if err != nil {
		return err
	}
	return t.exec(ctx, `INSERT INTO connector_params
		(tenant_id, connector_id, name, value, imported, secret_version, writer, updated_at)
		SELECT ?1, ?2, j.value ->> 'n', j.value ->> 'v', j.value ->> 'i', j.value ->> 's', j.value ->> 'w', j.value ->> 't'
		FROM json_each(?3) j`, id.String(), string(list))
}

func nullTime(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: micros(t), Valid: !t.IsZero()}
}
