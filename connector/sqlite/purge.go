package sqlite

import (
	"context"
	"database/sql"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/tenant"
)

// DuePurges implements connector.Purges. As Tenants, it names none.
func (s *Store) DuePurges(ctx context.Context, after tenant.ID, n int) (due []tenant.ID, err error) {
	err = s.query(ctx, func(rows *sql.Rows) error {
		var text string
		if err := rows.Scan(&text); err != nil {
			return err
		}
		id, err := tenant.ParseID(text)
		if err != nil {
			return unreadable(err)
		}
		due = append(due, id)
		return nil
	}, `SELECT t.id FROM tenants t WHERE t.purge_at IS NOT NULL AND t.purge_at <= ?1 AND t.id > ?2 ORDER BY t.id LIMIT ?3`,
		micros(s.now()), after.String(), n)
	return due, err
}

// BeginPurge implements connector.Purges.
func (s *Store) BeginPurge(ctx context.Context, t tenant.ID) error {
	now := micros(s.now())
	n, err := s.sweep(ctx, `UPDATE tenants SET purge_begun_at = ?2 WHERE id = ?1 AND purge_at <= ?2 AND purge_begun_at IS NULL`, t.String(), now)
	if err != nil || n > 0 {
		return err
	}
	exists, begun := false, false
	err = s.query(ctx, func(rows *sql.Rows) error {
		exists = true
		return rows.Scan(&begun)
	}, `SELECT t.purge_begun_at IS NOT NULL FROM tenants t WHERE t.id = ?1`, t.String())
	switch {
	case err != nil:
		return err
	case !exists:
		return noTenant()
	case !begun:
		return change.NotDue()
	}
	return nil
}

// PurgeRecords implements connector.Purges. Params, history, grants and consents go
// with their connectors, by the schema.
func (s *Store) PurgeRecords(ctx context.Context, t tenant.ID, n int) (int64, error) {
	for _, statement := range []string{
		`DELETE FROM connectors WHERE tenant_id = ?1 AND id IN (SELECT x.id FROM connectors x WHERE x.tenant_id = ?1 ORDER BY x.id LIMIT ?2)
			AND EXISTS (SELECT 1 FROM tenants t WHERE t.id = ?1 AND t.purge_begun_at IS NOT NULL)`,
		`DELETE FROM organizations WHERE tenant_id = ?1 AND id IN (SELECT x.id FROM organizations x WHERE x.tenant_id = ?1 ORDER BY x.id LIMIT ?2)
			AND EXISTS (SELECT 1 FROM tenants t WHERE t.id = ?1 AND t.purge_begun_at IS NOT NULL)`,
	} {
		gone, err := s.sweep(ctx, statement, t.String(), n)
		if err != nil || gone > 0 {
			return gone, err
		}
	}
	return 0, nil
}

// EndPurge implements connector.Purges.
func (s *Store) EndPurge(ctx context.Context, t tenant.ID, actor string) error {
	if err := change.CheckActor(actor, ""); err != nil {
		return err
	}
	existed, err := s.endPurge(ctx, t, actor)
	if err != nil || existed {
		return err
	}
	before, err := s.Purged(ctx, t)
	if err == nil && !before {
		err = noTenant()
	}
	return err
}

// endPurge tells whether there was such a tenant.
func (s *Store) endPurge(ctx context.Context, t tenant.ID, actor string) (existed bool, err error) {
	begun, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return false, s.classify(ctx, err)
	}
	defer begun.Rollback() //nolint:errcheck // after a commit it does nothing; before, the connection is dropped
	w := &tx{store: s, sql: begun, change: connector.Change{Actor: actor}, now: s.now()}
	var purging, left bool
	n, err := w.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&purging) },
		`SELECT t.purge_begun_at IS NOT NULL FROM tenants t WHERE t.id = ?1`, t.String())
	switch {
	case err != nil || n == 0:
		return false, err
	case !purging:
		return true, change.NotDue()
	}
	_, err = w.query(ctx, func(rows *sql.Rows) error { return rows.Scan(&left) },
		`SELECT EXISTS (SELECT 1 FROM connectors c WHERE c.tenant_id = ?1) OR EXISTS (SELECT 1 FROM organizations o WHERE o.tenant_id = ?1)
			OR EXISTS (SELECT 1 FROM outbox m WHERE m.tenant_id = ?1 AND m.sent_at IS NULL AND m.at > ?2)`,
		t.String(), micros(w.now.Add(-change.UnsentPurge)))
	if err == nil && left {
		err = change.NotEmpty()
	}
	if err == nil {
		err = w.audit(ctx, t, done(change.ActionPurge, t.String(), nil))
	}
	if err != nil {
		return true, err
	}
	err = firstError(
		func() error {
			return w.exec(ctx, `INSERT INTO purged_tenants (tenant_id, purged_at, actor) VALUES (?1, ?2, ?3)`, t.String(), micros(w.now), actor)
		},
		func() error { return w.exec(ctx, `DELETE FROM idempotency_keys WHERE tenant_id = ?1`, t.String()) },
		func() error { return w.exec(ctx, `DELETE FROM outbox WHERE tenant_id = ?1`, t.String()) },
		func() error { return w.exec(ctx, `DELETE FROM tenants WHERE id = ?1`, t.String()) },
	)
	if err != nil {
		return true, err
	}
	return true, s.classify(ctx, begun.Commit())
}

// Purged implements connector.Purges.
func (s *Store) Purged(ctx context.Context, t tenant.ID) (purged bool, err error) {
	err = s.query(ctx, func(*sql.Rows) error { purged = true; return nil }, `SELECT 1 FROM purged_tenants p WHERE p.tenant_id = ?1`, t.String())
	return purged, err
}
