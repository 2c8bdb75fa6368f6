package sqlite

import (
	"context"
	"database/sql"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/tenant"
)

const grantSQL = `SELECT g.status, g.grant_version, g.owner, g.until, g.epoch FROM oauth_grants g
	WHERE g.tenant_id = ?1 AND g.connector_id = ?2`

// Each part starts at the side that is rare and has an index of its own.
const driftedSQL = `SELECT c.tenant_id, c.id, g.grant_version, g.status
		FROM connectors c JOIN oauth_grants g ON g.tenant_id = c.tenant_id AND g.connector_id = c.id
		WHERE g.status = 'needs_reauthorization' AND c.state <> 'needs_reauthorization' AND c.deleted_at IS NULL
	UNION ALL
	SELECT c.tenant_id, c.id, g.grant_version, g.status
		FROM connectors c JOIN oauth_grants g ON g.tenant_id = c.tenant_id AND g.connector_id = c.id
		WHERE c.state = 'needs_reauthorization' AND c.deleted_at IS NULL AND g.status = 'active'
	LIMIT ?1`

// Grant implements connector.Grants.
func (s *Store) Grant(ctx context.Context, t tenant.ID, id connector.ID) (connector.GrantRow, error) {
	row, err := grantOn(ctx, s.read, t, id, s.now())
	return row, s.classify(ctx, err)
}

func grantOn(ctx context.Context, q querier, t tenant.ID, id connector.ID, at time.Time) (connector.GrantRow, error) {
	row := connector.GrantRow{At: at}
	err := queryOn(ctx, q, func(rows *sql.Rows) error {
		var owner sql.NullString
		var until sql.NullInt64
		err := rows.Scan(&row.Status, &row.Version, &owner, &until, &row.Epoch)
		if row.Owner = owner.String; until.Valid {
			row.Until = instant(until.Int64)
		}
		return err
	}, grantSQL, t.String(), id.String())
	return row, err
}

// AcquireGrant implements connector.Grants.
func (s *Store) AcquireGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, d time.Duration) (row connector.GrantRow, acquired bool, err error) {
	if err := change.CheckLease(owner, d); err != nil {
		return row, false, err
	}
	begun, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return row, false, s.classify(ctx, err)
	}
	defer begun.Rollback() //nolint:errcheck // after a commit it does nothing; before, the connection is dropped
	// The clock is read once the file is ours: waiting for it may take a lease's time.
	now := s.now()
	err = queryOn(ctx, begun, seen(&acquired), `UPDATE oauth_grants SET owner = ?3, epoch = epoch + 1, until = ?4, updated_at = ?5
		WHERE tenant_id = ?1 AND connector_id = ?2 AND (owner IS NULL OR owner = ?3 OR until <= ?5)
			AND EXISTS (SELECT 1 FROM connectors c WHERE c.tenant_id = ?1 AND c.id = ?2 AND c.deleted_at IS NULL)
		RETURNING 1`, t.String(), id.String(), owner, micros(now.Add(d)), micros(now))
	if err == nil {
		row, err = grantOn(ctx, begun, t, id, now)
	}
	if err == nil {
		err = begun.Commit()
	}
	if err != nil {
		return connector.GrantRow{}, false, s.classify(ctx, err)
	}
	return row, acquired, nil
}

// seen notes that a statement returned a row.
func seen(is *bool) func(*sql.Rows) error {
	return func(*sql.Rows) error { *is = true; return nil }
}

// RenewGrant implements connector.Grants.
func (s *Store) RenewGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, epoch int64, d time.Duration) (bool, error) {
	if err := change.CheckLease(owner, d); err != nil {
		return false, err
	}
	now := s.now()
	return s.moveGrant(ctx, `UPDATE oauth_grants SET until = ?5, updated_at = ?6
		WHERE tenant_id = ?1 AND connector_id = ?2 AND owner = ?3 AND epoch = ?4 RETURNING 1`,
		t.String(), id.String(), owner, epoch, micros(now.Add(d)), micros(now))
}

// ReleaseGrant implements connector.Grants.
func (s *Store) ReleaseGrant(ctx context.Context, t tenant.ID, id connector.ID, owner string, epoch int64) error {
	_, err := s.moveGrant(ctx, `UPDATE oauth_grants SET owner = NULL, until = NULL, updated_at = ?5
		WHERE tenant_id = ?1 AND connector_id = ?2 AND owner = ?3 AND epoch = ?4 RETURNING 1`,
		t.String(), id.String(), owner, epoch, micros(s.now()))
	return err
}

// SettleGrant implements connector.Grants.
func (s *Store) SettleGrant(ctx context.Context, t tenant.ID, id connector.ID, version int64, status connector.GrantStatus) (bool, error) {
	if err := change.CheckGrant(version, status); err != nil {
		return false, err
	}
	return s.moveGrant(ctx, `UPDATE oauth_grants SET grant_version = ?3, status = ?4, updated_at = ?5
		WHERE tenant_id = ?1 AND connector_id = ?2
			AND (grant_version < ?3 OR grant_version = ?3 AND ?4 = 'needs_reauthorization') RETURNING 1`,
		t.String(), id.String(), version, string(status), micros(s.now()))
}

// moveGrant runs one statement on a grant's row and tells whether it returned it.
func (s *Store) moveGrant(ctx context.Context, statement string, args ...any) (moved bool, err error) {
	if err := queryOn(ctx, s.write, seen(&moved), statement, args...); err != nil {
		return false, s.classify(ctx, err)
	}
	return moved, nil
}

// DriftedGrants implements connector.Grants.
func (s *Store) DriftedGrants(ctx context.Context, n int) (list []connector.GrantDrift, err error) {
	err = s.query(ctx, func(rows *sql.Rows) error {
		var d connector.GrantDrift
		var name, id string
		if err := rows.Scan(&name, &id, &d.Version, &d.Status); err != nil {
			return err
		}
		err := firstError(
			func() error { return d.Tenant.UnmarshalText([]byte(name)) },
			func() error { return d.Connector.UnmarshalText([]byte(id)) },
		)
		if err != nil {
			return unreadable(err)
		}
		list = append(list, d)
		return nil
	}, driftedSQL, max(0, n))
	return list, err
}

// Grant implements connector.TenantTx.
func (t *tenantTx) Grant(ctx context.Context, id connector.ID) (connector.GrantRow, error) {
	if err := t.named(); err != nil {
		return connector.GrantRow{}, err
	}
	row, err := grantOn(ctx, t.tx.sql, t.id, id, t.tx.now)
	return row, t.tx.store.classify(ctx, err)
}

// PutGrant implements connector.TenantTx.
func (t *tenantTx) PutGrant(ctx context.Context, id connector.ID, version int64) error {
	if err := change.CheckGrant(version, connector.GrantActive); err != nil {
		return err
	}
	old, err := t.present(ctx, id)
	if err != nil {
		return err
	}
	if !old.DeletedAt.IsZero() {
		return noConnector()
	}
	// The first epoch is a clock: a lease of a grant that was deleted and given
	// anew must not pass for one of this.
	err = t.exec(ctx, `INSERT INTO oauth_grants (tenant_id, connector_id, epoch, grant_version, status, updated_at)
		VALUES (?1, ?2, ?3, ?4, 'active', ?5) ON CONFLICT (tenant_id, connector_id) DO UPDATE
		SET owner = NULL, until = NULL, grant_version = max(grant_version, excluded.grant_version),
			status = excluded.status, updated_at = excluded.updated_at`,
		id.String(), t.Revision(), version, micros(t.tx.now))
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
	old, err := t.present(ctx, id)
	if err != nil {
		return err
	}
	if err := t.endConsents(ctx, id); err != nil {
		return err
	}
	n, err := t.query(ctx, nil, `DELETE FROM oauth_grants WHERE tenant_id = ?1 AND connector_id = ?2 RETURNING 1`, id.String())
	if err != nil || n == 0 {
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
