package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/internal/change"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// dueSQL names no tenant, as tenantsSQL.
const dueSQL = `SELECT t.id FROM tenants t
	WHERE t.purge_at IS NOT NULL AND t.purge_at <= clock_timestamp() AND t.id > $1 ORDER BY t.id LIMIT $2::bigint`

// DuePurges implements connector.Purges.
func (s *Store) DuePurges(ctx context.Context, after tenant.ID, n int) (due []tenant.ID, err error) {
	err = s.read(ctx, scope{across: acrossTenants}, dueSQL,
		[]any{after.String(), int64(n)}, func(rows pgx.Rows) error {
			var text string
			if err := rows.Scan(&text); err != nil {
				return err
			}
			id, err := tenant.ParseID(text)
			due = append(due, id)
			return err
		})
	return due, err
}

// BeginPurge implements connector.Purges. A change holds the tenant's row until it
// has committed; then this statement looks again at what it is about to write.
func (s *Store) BeginPurge(ctx context.Context, t tenant.ID) error {
	begun := false
	err := s.read(ctx, scope{tenant: t}, `UPDATE tenants SET purge_begun_at = clock_timestamp()
		WHERE id = $1 AND purge_at <= clock_timestamp() AND purge_begun_at IS NULL RETURNING 1`, []any{t.String()}, seen(&begun))
	if err != nil || begun {
		return s.writeFailed(err)
	}
	exists := false
	err = s.read(ctx, scope{tenant: t}, `SELECT t.purge_begun_at IS NOT NULL FROM tenants t WHERE t.id = $1`, []any{t.String()},
		func(rows pgx.Rows) error {
			exists = true
			return rows.Scan(&begun)
		})
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

func noTenant() error { return fault.New(fault.NotFound, "there is no such tenant") }

// PurgeRecords implements connector.Purges. Params, history, grants and consents go
// with their connectors, by the schema.
func (s *Store) PurgeRecords(ctx context.Context, t tenant.ID, n int) (int64, error) {
	for _, statement := range []string{
		`WITH gone AS (DELETE FROM connectors c WHERE c.tenant_id = $1 AND c.id IN (
			SELECT x.id FROM connectors x WHERE x.tenant_id = $1 ORDER BY x.tenant_id, x.id LIMIT $2::bigint)
			AND EXISTS (SELECT FROM tenants t WHERE t.id = $1 AND t.purge_begun_at IS NOT NULL) RETURNING 1) SELECT count(*) FROM gone`,
		`WITH gone AS (DELETE FROM organizations o WHERE o.tenant_id = $1 AND o.id IN (
			SELECT x.id FROM organizations x WHERE x.tenant_id = $1 ORDER BY x.tenant_id, x.id LIMIT $2::bigint)
			AND EXISTS (SELECT FROM tenants t WHERE t.id = $1 AND t.purge_begun_at IS NOT NULL) RETURNING 1) SELECT count(*) FROM gone`,
	} {
		var gone int64
		err := s.read(ctx, scope{tenant: t}, statement, []any{t.String(), int64(n)}, func(rows pgx.Rows) error { return rows.Scan(&gone) })
		if err != nil || gone > 0 {
			return gone, s.writeFailed(err)
		}
	}
	return 0, nil
}

// EndPurge implements connector.Purges.
func (s *Store) EndPurge(ctx context.Context, t tenant.ID, actor string) error {
	if err := change.CheckActor(actor, ""); err != nil {
		return err
	}
	gone, err := s.endPurge(ctx, t, actor)
	if err != nil || gone {
		return s.writeFailed(err)
	}
	before, err := s.Purged(ctx, t)
	if err == nil && !before {
		err = noTenant()
	}
	return err
}

// endPurge tells whether there was such a tenant.
func (s *Store) endPurge(ctx context.Context, t tenant.ID, actor string) (existed bool, err error) {
	begun, err := s.begin(ctx)
	if err != nil {
		return false, err
	}
	defer s.rollback(begun)
	w := &tx{pg: begun, change: connector.Change{Actor: actor}}
	do := func(sql string, args []any, scan func(pgx.Rows) error) {
		if err == nil {
			_, err = w.query(ctx, t, sql, append([]any{t.String()}, args...), scan)
		}
	}
	var purging bool
	do(`SELECT t.purge_begun_at IS NOT NULL FROM tenants t WHERE t.id = $1 FOR UPDATE`, nil, func(rows pgx.Rows) error {
		existed = true
		return rows.Scan(&purging)
	})
	switch {
	case err != nil || !existed:
		return false, err
	case !purging:
		return true, change.NotDue()
	}
	var left bool
	do(`SELECT EXISTS (SELECT FROM connectors c WHERE c.tenant_id = $1) OR EXISTS (SELECT FROM organizations o WHERE o.tenant_id = $1)
		OR EXISTS (SELECT FROM outbox m WHERE m.tenant_id = $1 AND m.sent_at IS NULL
			AND m.at > clock_timestamp() - $2::bigint * interval '1 microsecond')`,
		[]any{change.UnsentPurge.Microseconds()}, func(rows pgx.Rows) error { return rows.Scan(&left) })
	if err == nil && left {
		err = change.NotEmpty()
	}
	if err == nil {
		err = w.audit(ctx, t, done(change.ActionPurge, t.String(), nil))
	}
	do(`INSERT INTO purged_tenants (tenant_id, actor) VALUES ($1, $2)`, []any{actor}, nil)
	do(`DELETE FROM idempotency_keys WHERE tenant_id = $1`, nil, nil)
	do(`DELETE FROM outbox WHERE tenant_id = $1`, nil, nil)
	do(`DELETE FROM tenants WHERE id = $1`, nil, nil)
	if err != nil {
		return true, err
	}
	return true, classify(ctx, begun.Commit(ctx))
}

// Purged implements connector.Purges.
func (s *Store) Purged(ctx context.Context, t tenant.ID) (purged bool, err error) {
	err = s.read(ctx, scope{tenant: t}, `SELECT 1 FROM purged_tenants p WHERE p.tenant_id = $1`, []any{t.String()}, seen(&purged))
	return purged, err
}
