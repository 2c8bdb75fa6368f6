package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
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

// query runs a statement whose first argument is the tenant.
func (t *tenantTx) query(ctx context.Context, sql string, args []any, scan func(pgx.Rows) error) (int64, error) {
	if _, locked := t.tx.revisions[t.id]; !locked {
		return 0, fault.New(fault.InvalidArgument, "the change does not name this tenant")
	}
	return t.tx.query(ctx, t.id, sql, append([]any{t.id.String()}, args...), scan)
}

// UpdateTenant implements connector.TenantTx.
func (t *tenantTx) UpdateTenant(ctx context.Context, fn func(*connector.Tenant) error) error {
	var old connector.Tenant
	_, err := t.query(ctx, `SELECT `+tenantColumns+` FROM tenants t WHERE t.id = $1`, nil, func(rows pgx.Rows) (err error) {
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
	if next.ID != old.ID {
		return fault.New(fault.InvalidArgument, "a tenant's id never changes")
	}
	_, err = t.query(ctx, `UPDATE tenants SET external_id = $2, name = $3, status = $4, no_update = $5,
		updated_at = clock_timestamp() WHERE id = $1`,
		[]any{null(next.ExternalID), next.Name, string(next.Status), next.NoUpdate}, nil)
	if err != nil {
		return err
	}
	var fields fieldNames
	fields.add("external_id", next.ExternalID != old.ExternalID)
	fields.add("name", next.Name != old.Name)
	fields.add("status", next.Status != old.Status)
	fields.add("noupdate", next.NoUpdate != old.NoUpdate)
	if err := t.tx.audit(ctx, t.id, "tenant.update", t.id.String(), fields); err != nil {
		return err
	}
	return t.tx.note(ctx, connector.Message{Tenant: t.id, All: true, Status: next.Status != old.Status})
}

// PutOrganization implements connector.TenantTx.
func (t *tenantTx) PutOrganization(ctx context.Context, o connector.Organization) error {
	if o.ID.IsZero() {
		return fault.New(fault.InvalidArgument, "an organization needs an id")
	}
	var old connector.Organization
	n, err := t.query(ctx, `SELECT `+organizationColumns+` FROM organizations o WHERE o.tenant_id = $1 AND o.id = $2 FOR UPDATE`,
		[]any{o.ID.String()}, func(rows pgx.Rows) (err error) {
			old, err = scanOrganization(rows)
			return err
		})
	if err != nil {
		return err
	}
	_, err = t.query(ctx, `INSERT INTO organizations (tenant_id, id, external_id, name, active, no_update)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tenant_id, id) DO UPDATE SET external_id = excluded.external_id,
		name = excluded.name, active = excluded.active, no_update = excluded.no_update, updated_at = clock_timestamp()`,
		[]any{o.ID.String(), null(o.ExternalID), o.Name, o.Active, o.NoUpdate}, nil)
	if err != nil {
		return err
	}
	action := "organization.update"
	if n == 0 {
		action = "organization.create"
	}
	var fields fieldNames
	fields.add("external_id", n == 0 || o.ExternalID != old.ExternalID)
	fields.add("name", n == 0 || o.Name != old.Name)
	fields.add("active", n == 0 || o.Active != old.Active)
	fields.add("noupdate", n == 0 || o.NoUpdate != old.NoUpdate)
	if err := t.tx.audit(ctx, t.id, action, o.ID.String(), fields); err != nil {
		return err
	}
	return t.tx.note(ctx, connector.Message{Tenant: t.id, Organization: o.ID, Status: n == 0 || o.Active != old.Active})
}

// Insert implements connector.TenantTx.
func (t *tenantTx) Insert(ctx context.Context, c connector.Connector) error {
	c.Version = 1
	sql := `INSERT INTO connectors (tenant_id, id, external_id, name, category, kind, schema_version,
		organization_id, state, active, is_default, block_pinned, no_update, pin, last_test, version, deleted_at,
		created_at, updated_at)
		VALUES ($1, $2::uuid, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::json, $16, $17, now(), now())
		RETURNING created_at, updated_at`
	_, err := t.query(ctx, sql, []any{null(c.ID.String()), null(c.ExternalID), c.Name, string(c.Category), string(c.Kind),
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
		return fault.New(fault.StaleVersion, "the connector has changed meanwhile")
	}
	next := copyOf(old)
	if err := fn(&next); err != nil {
		return err
	}
	if next.ID != old.ID || next.Kind != old.Kind || next.Category != old.Category || next.Organization != old.Organization {
		return fault.New(fault.InvalidArgument, "a connector's id, kind, category and organization never change")
	}
	action := "connector.update"
	switch {
	case old.DeletedAt.IsZero() && !next.DeletedAt.IsZero():
		action = "connector.delete"
	case !old.DeletedAt.IsZero() && next.DeletedAt.IsZero():
		action = "connector.restore"
	}
	return t.replace(ctx, action, old, &next)
}

// replace stores next over old, as the next version.
func (t *tenantTx) replace(ctx context.Context, action string, old, next *connector.Connector) error {
	next.Version, next.CreatedAt = old.Version+1, old.CreatedAt
	_, err := t.query(ctx, `UPDATE connectors SET external_id = $3, name = $4, schema_version = $5, state = $6,
		active = $7, is_default = $8, block_pinned = $9, no_update = $10, pin = $11, last_test = $12::json,
		version = $13, deleted_at = $14, updated_at = greatest(updated_at, now())
		WHERE tenant_id = $1 AND id = $2::uuid RETURNING created_at, updated_at`,
		[]any{next.ID.String(), null(next.ExternalID), next.Name, next.SchemaVersion, string(next.State),
			next.Active, next.Default, next.BlockPinned, next.NoUpdate, null(next.Pin.String()),
			null(string(next.LastTest)), next.Version, instant(next.DeletedAt)}, scanTimes(next))
	if err != nil {
		return err
	}
	return t.written(ctx, action, old, next)
}

// ClearDefault implements connector.TenantTx.
func (t *tenantTx) ClearDefault(ctx context.Context, org tenant.OrganizationID, category providers.Category) (connector.ID, error) {
	old, err := t.find(ctx, `coalesce(c.organization_id, '') = $2 AND c.category = $3
		AND c.is_default AND c.deleted_at IS NULL`, org.String(), string(category))
	if err != nil || old == nil {
		return connector.ID{}, err
	}
	next := copyOf(old)
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
	_, err = t.query(ctx, `SELECT `+connectorColumns+` FROM connectors c `+paramsJoin+`
		WHERE c.tenant_id = $1 AND `+where+` FOR UPDATE OF c`, args, func(rows pgx.Rows) (err error) {
		c, err = scanConnector(rows)
		return err
	})
	return c, err
}

// written completes a connector's write: params, history, audit, outbox.
func (t *tenantTx) written(ctx context.Context, action string, old, c *connector.Connector) error {
	if err := t.putParams(ctx, c); err != nil {
		return err
	}
	record, err := encodeRecord(c)
	if err != nil {
		return t.refuse(err)
	}
	_, err = t.query(ctx, `INSERT INTO connector_revisions (tenant_id, connector_id, version, revision, pin, record, actor)
		VALUES ($1, $2::uuid, $3, $4, $5, $6::jsonb, $7)`,
		[]any{c.ID.String(), c.Version, t.Revision(), null(c.Pin.String()), record, t.tx.change.Actor}, nil)
	if err != nil {
		return err
	}
	if err := t.tx.audit(ctx, t.id, action, c.ID.String(), changed(old, c)); err != nil {
		return err
	}
	return t.tx.note(ctx, connector.Message{Tenant: t.id, All: c.Organization.IsZero(),
		Organization: c.Organization, Category: c.Category, Connector: c.ID})
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
	for name, p := range c.Params {
		if _, twice := c.Secrets[name]; twice {
			return t.refuse(fault.New(fault.InvalidArgument, "a param is a value or a secret, not both"))
		}
		if p.UpdatedAt.IsZero() {
			p.UpdatedAt = c.UpdatedAt
			c.Params[name] = p
		}
	}
	for name, s := range c.Secrets {
		if s.UpdatedAt.IsZero() {
			s.UpdatedAt = c.UpdatedAt
			c.Secrets[name] = s
		}
	}
	if c.Pin.IsZero() != (len(c.Secrets) == 0) {
		return t.refuse(fault.New(fault.InvalidArgument, "a connector has a pin exactly when it has secrets"))
	}
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
	if _, err := t.query(ctx, `DELETE FROM connector_params WHERE tenant_id = $1 AND connector_id = $2::uuid`, []any{id}, nil); err != nil {
		return err
	}
	_, err = t.query(ctx, `INSERT INTO connector_params
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

// copyOf is deep enough for fn to change: canonical values are replaced, not edited.
func copyOf(c *connector.Connector) connector.Connector {
	n := *c
	n.Params, n.Secrets = maps.Clone(c.Params), maps.Clone(c.Secrets)
	n.LastTest = bytes.Clone(c.LastTest)
	return n
}

// fieldNames collects what an audit entry names.
type fieldNames []string

func (f *fieldNames) add(name string, changed bool) {
	if changed {
		*f = append(*f, name)
	}
}

// changed names the differences; everything that is set when old is nil.
func changed(old, c *connector.Connector) []string {
	if old == nil {
		old = &connector.Connector{}
	}
	var f fieldNames
	f.add("external_id", old.ExternalID != c.ExternalID)
	f.add("name", old.Name != c.Name)
	f.add("category", old.Category != c.Category)
	f.add("kind", old.Kind != c.Kind)
	f.add("organization_id", old.Organization != c.Organization)
	f.add("schema_version", old.SchemaVersion != c.SchemaVersion)
	f.add("state", old.State != c.State)
	f.add("active", old.Active != c.Active)
	f.add("is_default", old.Default != c.Default)
	f.add("block_pinned", old.BlockPinned != c.BlockPinned)
	f.add("noupdate", old.NoUpdate != c.NoUpdate)
	f.add("deleted", old.DeletedAt.IsZero() != c.DeletedAt.IsZero())
	for _, name := range union(old.Params, c.Params) {
		f.add("params."+name, !reflect.DeepEqual(old.Params[name].Value, c.Params[name].Value))
	}
	for _, name := range union(old.Secrets, c.Secrets) {
		f.add("secrets."+name, old.Secrets[name].Version != c.Secrets[name].Version)
	}
	return f
}

func union[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}
