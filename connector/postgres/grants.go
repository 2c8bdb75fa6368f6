package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Every statement here decides by clock_timestamp(), read again after a wait for
// the row: now() is when the transaction began, and by then a lease may have gone
// to somebody else. None needs more than the first schema.
const (
	grantSQL = `SELECT clock_timestamp(), g.status, g.grant_version, g.owner, g.until, g.epoch
		FROM (SELECT) one LEFT JOIN oauth_grants g ON g.tenant_id = $1 AND g.connector_id = $2::uuid`
	// The connector is named first, as in a resolve: a migration takes both tables
	// in this order.
	acquireSQL = `WITH living AS (SELECT FROM connectors c WHERE c.tenant_id = $1 AND c.id = $2::uuid AND c.deleted_at IS NULL)
		UPDATE oauth_grants SET owner = $3, epoch = epoch + 1,
			until = clock_timestamp() + $4::bigint * interval '1 microsecond', updated_at = clock_timestamp()
		WHERE tenant_id = $1 AND connector_id = $2::uuid
			AND (owner IS NULL OR owner = $3 OR until <= clock_timestamp())
			AND EXISTS (SELECT FROM living) RETURNING 1`
	renewSQL = `UPDATE oauth_grants SET until = clock_timestamp() + $5::bigint * interval '1 microsecond',
			updated_at = clock_timestamp()
		WHERE tenant_id = $1 AND connector_id = $2::uuid AND owner = $3 AND epoch = $4 RETURNING 1`
	releaseSQL = `UPDATE oauth_grants SET owner = NULL, until = NULL, updated_at = clock_timestamp()
		WHERE tenant_id = $1 AND connector_id = $2::uuid AND owner = $3 AND epoch = $4`
	settleSQL = `UPDATE oauth_grants SET grant_version = $3, status = $4, updated_at = clock_timestamp()
		WHERE tenant_id = $1 AND connector_id = $2::uuid
			AND (grant_version < $3 OR grant_version = $3 AND $4 = 'needs_reauthorization') RETURNING 1`

	// Each part starts at the side that is rare and has an index of its own.
	driftedSQL = `SELECT c.tenant_id, c.id::text, g.grant_version, g.status
			FROM connectors c JOIN oauth_grants g ON g.tenant_id = c.tenant_id AND g.connector_id = c.id
			WHERE g.status = 'needs_reauthorization' AND c.state <> 'needs_reauthorization' AND c.deleted_at IS NULL
		UNION ALL
		SELECT c.tenant_id, c.id::text, g.grant_version, g.status
			FROM connectors c JOIN oauth_grants g ON g.tenant_id = c.tenant_id AND g.connector_id = c.id
			WHERE c.state = 'needs_reauthorization' AND c.deleted_at IS NULL AND g.status = 'active'
		LIMIT $1::bigint`
)

// Grant implements connector.Grants.
func (s *Store) Grant(ctx context.Context, t tenant.ID, id connector.ID) (connector.GrantRow, error) {
	var row connector.GrantRow
	st := grantStatement(t, id, &row)
	err := s.read(ctx, scope{tenant: t}, st.sql, st.args, st.scan)
	return row, err
}

func grantStatement(t tenant.ID, id connector.ID, row *connector.GrantRow) statement {
	scan := func(rows pgx.Rows) error {
		var status, owner *string
		var version, epoch *int64
		var until *time.Time
		*row = connector.GrantRow{}
		if err := rows.Scan(&row.At, &status, &version, &owner, &until, &epoch); err != nil {
			return err
		}
		row.At = row.At.UTC()
		if status == nil {
			return nil // the join found none
		}
		row.Status, row.Version, row.Owner, row.Epoch = connector.GrantStatus(*status), *version, text(owner), *epoch
		if until != nil {
			row.Until = until.UTC()
		}
		return nil
	}
	return statement{grantSQL, []any{t.String(), null(id.String())}, scan}
}

// AcquireGrant implements connector.Grants. The row is read by a statement of its
// own: one that waited for another's lease would know the row of before.
func (s *Store) AcquireGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, d time.Duration) (connector.GrantRow, bool, error) {
	var row connector.GrantRow
	if err := change.CheckLease(owner, d); err != nil {
		return row, false, err
	}
	acquired, at := false, time.Time{}
	err := s.pipeline(ctx, scope{tenant: t}, &at,
		statement{acquireSQL, []any{t.String(), null(id.String()), owner, d.Microseconds()}, seen(&acquired)},
		grantStatement(t, id, &row))
	if err != nil {
		return connector.GrantRow{}, false, s.writeFailed(err)
	}
	return row, acquired, nil
}

// seen notes that a statement returned a row.
func seen(is *bool) func(pgx.Rows) error {
	return func(pgx.Rows) error { *is = true; return nil }
}

// RenewGrant implements connector.Grants.
func (s *Store) RenewGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, epoch int64, d time.Duration) (held bool, err error) {
	if err := change.CheckLease(owner, d); err != nil {
		return false, err
	}
	return s.moveGrant(ctx, t, renewSQL, t.String(), null(id.String()), owner, epoch, d.Microseconds())
}

// ReleaseGrant implements connector.Grants.
func (s *Store) ReleaseGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, epoch int64) error {
	_, err := s.moveGrant(ctx, t, releaseSQL, t.String(), null(id.String()), owner, epoch)
	return err
}

// SettleGrant implements connector.Grants.
func (s *Store) SettleGrant(ctx context.Context, t tenant.ID, id connector.ID, version int64, status connector.GrantStatus) (bool, error) {
	if err := change.CheckGrant(version, status); err != nil {
		return false, err
	}
	return s.moveGrant(ctx, t, settleSQL, t.String(), null(id.String()), version, string(status))
}

// moveGrant runs one statement on a grant's row and tells whether it returned it.
func (s *Store) moveGrant(ctx context.Context, t tenant.ID, sql string, args ...any) (moved bool, err error) {
	err = s.read(ctx, scope{tenant: t}, sql, args, seen(&moved))
	if err != nil {
		return false, s.writeFailed(err)
	}
	return moved, nil
}

// DriftedGrants implements connector.Grants. Only the control plane's role sees
// any, and only with this scope.
func (s *Store) DriftedGrants(ctx context.Context, n int) (list []connector.GrantDrift, err error) {
	err = s.read(ctx, scope{across: acrossGrants}, driftedSQL, []any{int64(max(0, n))}, func(rows pgx.Rows) error {
		var d connector.GrantDrift
		var name, id string
		if err := rows.Scan(&name, &id, &d.Version, &d.Status); err != nil {
			return err
		}
		var err error
		if d.Tenant, err = tenant.ParseID(name); err != nil {
			return err
		}
		d.Connector, err = connector.ParseID(id)
		list = append(list, d)
		return err
	})
	return list, err
}

// Grant implements connector.TenantTx.
func (t *tenantTx) Grant(ctx context.Context, id connector.ID) (connector.GrantRow, error) {
	var row connector.GrantRow
	st := grantStatement(t.id, id, &row)
	err := t.query(ctx, st.sql, st.args[1:], st.scan)
	return row, err
}

// PutGrant implements connector.TenantTx.
func (t *tenantTx) PutGrant(ctx context.Context, id connector.ID, version int64) error {
	if err := change.CheckGrant(version, connector.GrantActive); err != nil {
		return err
	}
	old, err := t.locked(ctx, id)
	if err != nil {
		return err
	}
	if !old.DeletedAt.IsZero() {
		return notFound()
	}
	// The first epoch is a clock: a lease of a grant that was deleted and given
	// anew must not pass for one of this.
	err = t.query(ctx, `INSERT INTO oauth_grants (tenant_id, connector_id, epoch, grant_version, status)
		VALUES ($1, $2::uuid, $3, $4, 'active') ON CONFLICT (tenant_id, connector_id) DO UPDATE
		SET owner = NULL, until = NULL, grant_version = greatest(oauth_grants.grant_version, excluded.grant_version),
			status = excluded.status, updated_at = clock_timestamp()`, []any{id.String(), t.Revision(), version}, nil)
	if err != nil {
		return err
	}
	if old.State == connector.StateNeedsReauthorization {
		next := change.Copy(old)
		next.State = connector.StateUntested
		return t.replace(ctx, change.ActionGrant, old, &next, change.GrantField)
	}
	return t.granted(ctx, change.ActionGrant, old)
}

// DeleteGrant implements connector.TenantTx.
func (t *tenantTx) DeleteGrant(ctx context.Context, id connector.ID) error {
	old, err := t.locked(ctx, id)
	if err != nil {
		return err
	}
	if err := t.endConsents(ctx, id); err != nil {
		return err
	}
	existed := false
	err = t.query(ctx, `DELETE FROM oauth_grants WHERE tenant_id = $1 AND connector_id = $2::uuid RETURNING 1`,
		[]any{id.String()}, seen(&existed))
	if err != nil || !existed {
		return err
	}
	return t.granted(ctx, change.ActionGrantDelete, old)
}

// granted completes a change of a grant that left its connector's row alone.
func (t *tenantTx) granted(ctx context.Context, action string, c *connector.Connector) error {
	if err := t.tx.audit(ctx, t.id, done(action, c.ID.String(), []string{change.GrantField})); err != nil {
		return err
	}
	return t.noteSlot(ctx, c)
}
